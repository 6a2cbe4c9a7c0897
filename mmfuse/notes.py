"""The footnotes of a table: what its numbers mean, and what they were measured on."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mmfuse.measures import interval, measure, p_value
from mmfuse.record import flatten
from mmfuse.stats import differences
from mmfuse.stats.scores import FOLDS

if TYPE_CHECKING:
    from mmfuse.summary import Table

MARK = "†"
MISSED = "‡"
UNLIKE = "§"
BUDGETS = {"params": "parameters", "flops": "FLOPs"}


def reproducible(
    table: Table, records: Sequence[Mapping[str, Any]], title: str, absent: Sequence[str]
) -> Iterator[str]:
    """Yields the notes that a second run of the ablation reproduces to the bit."""
    yield _spread(table, records)
    yield from _differences(table, title)
    yield from _test_split(table, title)
    yield from _folds(table, title)
    yield from _collapsed(table)
    if any(summary.n < len(table.seeds) for r in table.rows for summary in r.metrics.values()):
        yield f"{MARK} over fewer than {len(table.seeds)} seeds: the rest did not finish."
    if absent:
        yield f"Not run: {', '.join(absent)}."
    yield "Bold: best mean of the rows whose seeds all finished. FLOPs: one example, forward pass."
    yield from _stored(table)
    yield from _budget(table, records[0].get("config", {}).get("budget") or {})
    if any(row.optimum is not None for row in table.rows):
        yield f"Optimum: the best {title} that the inputs which the row reads allow."
    if table.references or table.floors:
        yield "Below the rule: known bounds and floors, not trained."
    tuned = records[0].get("config", {}).get("tuned") or {}
    if tuned:
        yield _tuned(records, tuned)
    yield from _compressed(records)
    yield from _unequal(records, tuned.get("space", {}))
    yield from _objectives(records)
    yield _surroundings(records)


def local(table: Table, records: Sequence[Mapping[str, Any]], command: str | None) -> Iterator[str]:
    """Yields the notes about clocks and paths, which no file that is compared may hold."""
    if any(row.train_seconds is not None for row in table.rows):
        width = records[0].get("replica_width", 1)
        yield f"Train time: seconds to train {width} seed(s) in one program, without compiling."
    if table.stored:
        yield (
            "Exported: all files of the exported model of the first seed, deflated: program, "
            "weights, preprocessing. Latency: one example through that model, reloaded, the least "
            "of 100 calls on the processor that also trained; each call unpacks what is stored as "
            "bits or as int8."
        )
    if command:
        yield f"Command: {command}"


def _differences(table: Table, title: str) -> Iterator[str]:
    if not any(row.difference for row in table.rows):
        return
    yield (
        f"Δ: {title} minus that of {table.compared_with}, paired by seed, with the 95 % t-interval "
        "of that row alone, not corrected for comparing several rows."
    )
    found = {row.name: row.comparison for row in table.rows if row.comparison}
    yield from differences.footnotes(found, table.compared_with)
    if table.compared_with != table.baseline:
        yield _baselines(table)
    yield from _groups(table)


def _baselines(table: Table) -> str:
    """Says which rows are compared with which."""
    compared: dict[str, list[str]] = {}
    for row in table.rows:
        if row.baseline:
            compared.setdefault(row.baseline, []).append(row.name)
    said = [f"{'; '.join(rows)} with {base}" for base, rows in compared.items()]
    return f"Own baseline: {'. '.join(said)}."


def _stored(table: Table) -> Iterator[str]:
    if table.stored:
        yield (
            "Size: bytes of the stored parameters, whatever file holds them, and their share of "
            "the baseline's. FLOPs: of the model as it was trained. Effective FLOPs: of the "
            "stored one, which computes less where its kernels are factors or lack channels; "
            "zeros among weights and int8 weights cost as many FLOPs as before. Sparsity: zeros "
            "among the weights of kernels."
        )


def _groups(table: Table) -> Iterator[str]:
    """Says what the letters are that csv and json hold."""
    if any(row.group for row in table.rows):
        yield (
            "Letters (group in csv, json): rows that share one are not told apart by paired t "
            "tests of all pairs, corrected by Holm."
        )


def _test_split(table: Table, title: str) -> Iterator[str]:
    """Yields the noise that seeds do not show: other test examples give other scores."""
    noises = [row.noise for row in table.rows if row.noise]
    if not noises:
        return
    m = measure(table.metric)
    largest = max(noise.error for noise in noises)
    unit = " points" if m.unit else ""
    yield (
        f"Test-set noise: the {noises[0].n:,} {noises[0].of} alone give {title} a standard error "
        f"of up to {largest * m.scale:.{m.digits}f}{unit}; ± is the spread between seeds."
    )
    weak = [
        row.name
        for row in table.rows
        if row.items and row.comparison.significant and row.items.holm > differences.LEVEL
    ]
    if weak:
        yield (
            f"Significant over seeds, but not over {noises[0].of} (paired t test on seed means, "
            f"Holm, level {differences.LEVEL:g}): {', '.join(weak)}."
        )


def _folds(table: Table, title: str) -> Iterator[str]:
    """Yields the differences with folds as what was drawn: seeds say nothing of other speakers."""
    rows = [row for row in table.rows if row.items and row.items.of == FOLDS]
    if not rows:
        return
    m, told = measure(table.metric), []
    for row in rows:
        items = {"mean": row.items.mean, "low": row.items.t_low, "high": row.items.t_high}
        told.append(f"{row.name} {interval(items, m)} ({p_value(row.items.holm)})")
    yield (
        f"Over the {rows[0].items.n} folds, each the test part of models trained without it: "
        f"{title} minus that of {table.baseline}, mean of the seeds, with the 95 % t-interval over "
        f"folds and p corrected by Holm: {'; '.join(told)}."
    )


def _collapsed(table: Table) -> Iterator[str]:
    rows = [row.name for row in table.rows if row.collapsed]
    if rows:
        yield (
            f"Collapsed: {', '.join(rows)}; in the seeds counted so, every test example got the "
            "same answer, so the score is that of a constant."
        )


def listed_seeds(seeds: Sequence[int]) -> str:
    """Returns ``0, 1, 2``, or for more than ten consecutive ones ``0 to 99``."""
    if len(seeds) > 10 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds))


def _spread(table: Table, records: Sequence[Mapping[str, Any]]) -> str:
    seeds = listed_seeds(table.seeds)
    by = next((r["selected"].get("by") for r in records if r.get("selected")), None)
    chosen = f"; the epoch was chosen by {by}" if by else ""
    if len(table.seeds) == 1:
        return (
            f"One seed ({seeds}), test split{chosen}. No standard deviation and no interval: the "
            "spread between seeds cannot be known from one."
        )
    return (
        f"Mean ± standard deviation (ddof = 1) over n = {len(table.seeds)} seeds ({seeds}), "
        f"test split{chosen}."
    )


def _budget(table: Table, budget: Mapping[str, int]) -> Iterator[str]:
    """Yields what every row costs by design, and what marks those that cannot."""
    for kind, amount in budget.items():
        yield f"Equal budget: the width of every row is set so that it has {amount:,} " + (
            f"{BUDGETS[kind]}, within 2 %."
        )
        if any(row.budget_missed for row in table.rows):
            yield f"{MISSED} no width of this row comes within 2 % of the budget."


def _tuned(records: Sequence[Mapping[str, Any]], tuned: Mapping[str, Any]) -> str:
    """What every row's settings were chosen from, and which they are."""
    chosen = []
    for row in dict.fromkeys(record["row"] for record in records):
        config = flatten(next(r["config"] for r in records if r["row"] == row))
        values = ", ".join(f"{key} {setting(config[key])}" for key in tuned["space"])
        chosen.append(f"{row}: {values}")
    return (
        f"Tuned: each row has the best of its {tuned['trials']} trials by valid {tuned['metric']}; "
        f"the trials are the same random settings for every row, with seed {tuned['seed']}. "
        f"Chosen: {'; '.join(chosen)}."
    )


def setting(value: Any) -> str:
    """Returns ``0.00123``, three digits of a float, or any other value as it is."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _compressed(records: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yields how rows are compressed: one note for each way, with the rows that go it."""
    ways: dict[str, dict[str, None]] = {}
    for record in records:
        entry = dict(record.get("config", {}).get("compression") or {})
        if entry:
            name = entry.pop("name")
            fields = ", ".join(f"{key} {setting(value)}" for key, value in sorted(entry.items()))
            ways.setdefault(name + f" ({fields})" * bool(fields), {})[record["row"]] = None
    for way, rows in ways.items():
        yield f"Compressed by {way}: {'; '.join(rows)}."


def _unequal(records: Sequence[Mapping[str, Any]], tuned: Collection[str]) -> Iterator[str]:
    """Yields what rows change besides the fusion: the reader must know that budgets differ.

    What all rows were tuned in, ``tuned``, has its own note; what they read is one note of all.
    """
    reads = []
    for row in dict.fromkeys(record["row"] for record in records):
        config = next(r.get("row_config") or {} for r in records if r["row"] == row)
        if config.get("modalities"):
            reads.append(f"{row}: {', '.join(config['modalities'])}")
        said = ("fusion", "modalities", "compression")
        others = {key: entry for key, entry in config.items() if key not in said}
        changed = [key for key in flatten(others) if key and key not in tuned]
        keys = dict.fromkeys(".".join(key.split(".")[:2]) for key in changed)
        if keys:
            yield f"{row} also differs in {', '.join(keys)}."
    if reads:
        yield f"Rows that do not read every modality: {'; '.join(reads)}."


def _objectives(records: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yields how many of the parameters of a row only its objectives have."""
    own = {record["row"]: record.get("objective_parameters", 0) for record in records}
    counts = [f"{row} {number:,}" for row, number in own.items() if number]
    if counts:
        yield (
            "Parameters that only the objectives have, for training, and evaluation does not use: "
            f"{', '.join(counts)}."
        )


def _surroundings(records: Sequence[Mapping[str, Any]]) -> str:
    record = records[0]
    device, data = record.get("device", {}), record.get("data", {})
    versions = record.get("versions", {})
    commits = dict.fromkeys(_commit(r.get("git", {})) for r in records)
    parts = [
        f"Data: {data.get('name', '?')}, fingerprint {str(data.get('fingerprint', '?'))[:12]}",
        f"device: {device.get('count', '?')} x {device.get('kind', '?')}, mode "
        f"{record.get('mode', '?')}, replica width {record.get('replica_width', '?')}",
        ", ".join(
            f"{n} {versions[n]}" for n in ("mmfuse", "jax", "flax", "python") if n in versions
        ),
        f"git {', '.join(commits)}",
    ]
    return "; ".join(part for part in parts if part) + "."


def _commit(git: Mapping[str, Any]) -> str:
    if not git.get("commit"):
        return "commit unknown"
    return git["commit"][:12] + (f" + local changes {git.get('diff')}" if git.get("dirty") else "")
