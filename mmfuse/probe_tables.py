"""The probes of a workdir as a page of Markdown tables; no jax here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmfuse import probes
from mmfuse.measures import Measure, interval, measure
from mmfuse.tables import escape_markdown
from mmfuse.workdir import Workdir

CHANGES = {
    "removed": "removed: the mask says that it is absent",
    "zeroed": "zeroed: the training mean or padding words, and the mask says that it is there",
    "shuffled": "shuffled: another test example's: its statistics stay, its meaning goes",
}
AREAS = {
    "noise": "Mean over white noise, by modality",
    "modality": "Mean over the probability that a modality is absent",
    "steps": "Mean over the probability that each step of a modality is absent",
}


def page(workdir: Workdir) -> str:
    """Everything that ``DIR/probes`` holds, for people."""
    known = {what: content for what, content in probes.read(workdir).items() if content}
    found, stale = probes.current(known, workdir.records())
    order = workdir.ablation()["row_order"]
    parts: list[str] = []
    for what, tables in TABLES.items():
        if found.get(what, {}).get("rows"):
            parts += tables(found[what], order)
    opened = len(probes.distinct(probes.logs(known)))
    if opened:
        parts.append(f"- Times that the test split was opened for all this: {opened}.")
    parts += [f"- {escape_markdown(stale)}"] if stale else []
    return "\n".join(parts).strip() + "\n"


def _modalities(content: Mapping[str, Any], order: Sequence[str]) -> Iterator[str]:
    m = measure(content["metric"])
    for change, words in CHANGES.items():
        lines, titles = [], {}
        for row, entry in _in_order(content, order):
            cells = {"Clean": _mean(entry["clean"]["summary"], m)}
            for point in entry["points"]:
                if point["change"] == change:
                    title = " + ".join(point["modalities"])
                    cells[f"Δ {title}"] = interval(point["difference"], m)
            titles |= dict.fromkeys(cells)
            lines.append((row, cells))
        yield f"**{_titled(m)} when a modality is {words}**"
        yield ""
        yield from _table(list(titles), lines)
    yield "- Δ: minus the clean score, paired by seed, with the 95 % t-interval."
    yield ""


def _curves(content: Mapping[str, Any], order: Sequence[str]) -> Iterator[str]:
    m, rows = measure(content["metric"]), _in_order(content, order)
    kinds = {c["kind"]: c for _, entry in rows for c in entry["curves"]}
    for kind, example in kinds.items():
        lines, titles = [], {}
        for row, entry in rows:
            cells = {"Clean": _mean(entry["clean"]["summary"], m)}
            for curve in entry["curves"]:
                if curve["kind"] == kind:
                    cells[curve["modality"]] = interval(curve["area"]["summary"], m, sign="")
            titles |= dict.fromkeys(cells)
            lines.append((row, cells))
        yield f"**{AREAS[kind]}: {_titled(m)}**"
        yield ""
        yield from _table(list(titles), lines)
        places = ", ".join(f"{x:g}" for x in example["x"])
        yield f"- Area under the curve over {example['axis']} at {places}, by its width."
        yield ""


def _attention(content: Mapping[str, Any], order: Sequence[str]) -> Iterator[str]:
    m, rows = measure(content["metric"]), _in_order(content, order)
    lines, shares = [], {}
    for row, entry in rows:
        cells = {name: _mean(v["summary"], Measure("", scale=100, digits=1))
                 for name, v in entry["shares"].items()}  # fmt: skip
        cells = {f"{name} (%)": text for name, text in sorted(cells.items())}
        cells["Incompleteness"] = _mean(entry["completeness"]["summary"], Measure("", digits=4))
        shares |= dict.fromkeys(cells)
        lines.append((row, cells))
    titles = sorted(shares, key=lambda title: title == "Incompleteness")
    yield "**Where the output comes from: share of integrated gradients**"
    yield ""
    yield from _table(titles, lines)
    yield (
        "- Of the fusion's tokens, from zero tokens; mean over validation examples and seeds. "
        "Incompleteness: how far their sum is from f(x) - f(0), as a share of it (median)."
    )
    yield ""
    lines, titles = [], {}
    for row, entry in rows:
        for by in ("attention", "integrated gradients"):
            of = [line for line in entry["faithfulness"] if line["by"] == by]
            cells = {"By": by}
            for line in of:
                verdict = probes.verdict(line["difference"])
                deleted = f"{100 * line['share']:g} %"
                cells[deleted] = f"{interval(line['difference'], m)} {verdict}"
            if of:
                titles |= dict.fromkeys(cells)
                lines.append((row, cells))
    yield f"**Deleting what is looked at hurts more than deleting at random: {_titled(m)}**"
    yield ""
    yield from _table(list(titles), lines)
    yield (
        "- By how much more, with the 95 % t-interval over seeds; of each modality's real tokens. "
        f"{probes.LINES}"
    )
    yield ""


def _samples(content: Mapping[str, Any], order: Sequence[str]) -> Iterator[str]:
    lines, titles = [], {}
    for row, entry in _in_order(content, order):
        for sample in entry["samples"]:
            pieces = [sample["true"], *sample["made"]]
            cells = {"Example": sample["id"]} | {p["said"]: _told(p) for p in pieces}
            titles |= dict.fromkeys(cells)
            lines.append((row, cells))
    yield "**What is generated: texts, and what the judge reads; pictures and sounds: the report**"
    yield ""
    yield from _table(list(titles), lines)


def _told(piece: Mapping[str, Any]) -> str:
    """The text, or what the judge reads."""
    if piece["kind"] == "text":
        return piece["text"] or "(nothing)"
    return f"read as {piece['read']}" if "read" in piece else piece["kind"]


def _latency(content: Mapping[str, Any], order: Sequence[str]) -> Iterator[str]:
    lines, of_machine = [], {}
    for row, entry in _in_order(content, order):
        one = entry["batches"][0]
        of_machine.setdefault(tuple(entry[key] for key in probes.MACHINE), []).append(row)
        cells = {
            "Batch 1 (ms)": f"{1e3 * one['median']:.3f}",
            "quartiles": f"[{1e3 * one['low']:.3f}, {1e3 * one['high']:.3f}]",
            "Best batch": str(entry["best_batch"]),
            "ms an example": f"{1e3 * entry['at_best']:.4f}",
        }
        lines.append((row, cells))
    yield "**Latency of the forward pass**"
    yield ""
    yield from _table(["Batch 1 (ms)", "quartiles", "Best batch", "ms an example"], lines)
    for (device, cores, repeats), rows in of_machine.items():
        who = f"{', '.join(map(escape_markdown, rows))}: m" if len(of_machine) > 1 else "M"
        yield (
            f"- {who}edians of {repeats} calls in turns on {device}, {cores} cores, compiled, "
            "input in place."
        )
    yield ""


TABLES = {"modalities": _modalities, "noise": _curves, "missing": _curves,
          "attention": _attention, "samples": _samples, "latency": _latency}  # fmt: skip


def _in_order(content: Mapping[str, Any], order: Sequence[str]) -> list[tuple[str, dict]]:
    place = {row: number for number, row in enumerate(order)}
    return sorted(content["rows"].items(), key=lambda item: place.get(item[0], len(order)))


def _table(titles: Sequence[str], lines: Sequence[tuple[str, Mapping[str, str]]]) -> Iterator[str]:
    yield f"| Method | {' | '.join(map(escape_markdown, titles))} |"
    yield f"|---|{'---:|' * len(titles)}"
    for row, cells in lines:
        shown = [escape_markdown(cells.get(title, "")) for title in titles]
        yield f"| {escape_markdown(row)} | {' | '.join(shown)} |"
    yield ""


def _titled(m: Measure) -> str:
    return f"{m.title} ({m.unit})" if m.unit else m.title


def _mean(s: Mapping[str, Any], m: Measure) -> str:
    if s["mean"] is None:
        return "-"
    spread = "" if s["sd"] is None else f" ± {m.scale * s['sd']:.{m.digits}f}"
    return f"{m.scale * s['mean']:.{m.digits}f}{spread}"
