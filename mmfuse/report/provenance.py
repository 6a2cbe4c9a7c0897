"""Where the numbers come from, and in what the rows differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmfuse.markup import Html, joined, tag
from mmfuse.probes import distinct, logs
from mmfuse.record import flatten
from mmfuse.report.grid import scrolled, simple_table
from mmfuse.summary import Table

ABSENT = "(absent)"


def differences(table: Table, records: Sequence[Mapping[str, Any]]) -> Html:
    """Two tables: what each row sets by itself, and what all rows share."""
    configs = {}
    for record in records:
        configs.setdefault(record["row"], flatten(record.get("config", {})))
    configs = {row.name: configs[row.name] for row in table.rows if row.name in configs}
    keys = list(dict.fromkeys(key for config in configs.values() for key in config))
    keys.sort(key=lambda k: k != "fusion.name")
    own = [k for k in keys if len({repr(c.get(k, ABSENT)) for c in configs.values()}) > 1]
    lines = [
        [name, joined(tag("code", f"{k} = {_value(c[k])}") for k in own if k in c)]
        for name, c in configs.items()
    ]
    first = next(iter(configs.values()))
    shared = [[tag("code", k), tag("code", _value(first[k]))] for k in keys if k not in own]
    same = simple_table("The same in every row", ["Key", "Value"], shared, "words")
    parts = [simple_table("What differs between the rows", ["Method", "Entries"], lines, "words")]
    if len(configs) == 1:
        parts = []
    summary = tag("summary", f"{len(shared)} entries that all rows share")
    return tag("div", *parts, tag("details", summary, scrolled(same, "Shared config")))


def _value(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)


def provenance(
    table: Table,
    records: Sequence[Mapping[str, Any]],
    ablation: Mapping[str, Any],
    probes: Mapping[str, Mapping[str, Any]],
) -> list[Html]:
    """The facts of a workdir: command, code, machine, data, chosen epochs, openings of test."""
    record = records[0]
    device = record.get("device", {})
    facts = [
        ("Command", tag("code", ablation.get("command") or "not recorded")),
        ("Code", _code(records)),
        ("Versions", ", ".join(f"{k} {v}" for k, v in record.get("versions", {}).items())),
        ("Machine", f"{device.get('count', '?')} x {device.get('kind', '?')}, mode "
                    f"{record.get('mode', '?')}, replica width {record.get('replica_width', '?')}"),
        ("Seeds", ", ".join(map(str, table.seeds))),
        ("Selection", _selection(records)),
        ("Test split", _openings(records, probes)),
    ]  # fmt: skip
    return [_pairs(facts), *_data(record.get("data", {})), _runs(table, records)]


def _pairs(facts: Sequence[tuple[str, Any]]) -> Html:
    entries = (x for name, value in facts for x in (tag("dt", name), tag("dd", value or "?")))
    return tag("dl", *entries, class_="pairs")


def _code(records: Sequence[Mapping[str, Any]]) -> str:
    states = dict.fromkeys(
        f"git {g.get('commit') or 'unknown'}"
        + (f" + changes {g.get('diff')}" if g.get("dirty") else "")
        for g in (record.get("git", {}) for record in records)
    )
    return f"{', '.join(states)}; sha256 {str(records[0].get('code_sha256', '?'))[:16]}"


def _selection(records: Sequence[Mapping[str, Any]]) -> str:
    by = dict.fromkeys(r["selected"]["by"] for r in records if r.get("selected"))
    return f"the epoch of each seed, by {', '.join(map(str, by)) or 'nothing that was recorded'}"


def _openings(records: Sequence[Mapping[str, Any]], probes: Mapping[str, Any]) -> str:
    """How often the test split was opened and what for, as runs and probes have logged it."""
    logged = distinct([*map(_log, records), *logs(probes)])
    if not logged:
        return "openings were not logged by the version that ran"
    counts = Counter(purpose for _, purpose, _ in logged)
    told = ", ".join(f"{count} for '{purpose}'" for purpose, count in sorted(counts.items()))
    return f"{len(logged)} openings logged: {told}"


def _log(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The openings of one run: several, if it was killed while it was scored."""
    clock, opening = record.get("clock", {}), record.get("test_opening")
    times = clock.get("test_openings") or [clock.get("test_opened_at")]
    return [opening | {"at": at} for at in times] if opening else []


def _data(data: Mapping[str, Any]) -> Iterator[Html]:
    yield tag("p", f"Data: {data.get('name', '?')}", class_="name")
    card = flatten(data.get("card", {}))
    facts = [("fingerprint", tag("code", data.get("fingerprint", "?")))]
    yield _pairs([*facts, *((key, _told(value)) for key, value in card.items())])


def _told(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _runs(table: Table, records: Sequence[Mapping[str, Any]]) -> Html:
    """Every run: what became of it, and which epoch and parameters were chosen."""
    lines = [
        [r["row"], r["seed"], r["status"], _epoch(r), str(r.get("params_sha256") or "")[:12]]
        for r in records
    ]
    heads = ["Method", "Seed", "Status", "Chosen epoch", "Parameters sha256"]
    content = simple_table("All runs", heads, lines)
    summary = tag("summary", f"All {len(lines)} runs, with the epoch that was chosen")
    return tag("details", summary, scrolled(content, "All runs", "scroll tall"))


def _epoch(record: Mapping[str, Any]) -> str:
    epoch = (record.get("selected") or {}).get("epoch")
    return "" if epoch is None or epoch < 0 else str(epoch + 1)
