"""From records to the numbers of a table; how they are printed is :mod:`mmfuse.tables`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mmfuse import notes
from mmfuse.contrasts import Runs, compared, mark_best
from mmfuse.errors import InputError, nearest
from mmfuse.floors import collapsed, floors
from mmfuse.measures import measure
from mmfuse.mixing import refuse_mixed
from mmfuse.published import Published
from mmfuse.stats import Summary, summary
from mmfuse.stats.differences import Comparison
from mmfuse.stats.items import (
    ItemNoise,
    ItemTest,
    Predictions,
    noise,
)

SPLIT = "test"
COLUMNS = (  # shown where the task has them
    "accuracy", "f1_macro", "f1_true", "accuracy_shared", "f1_true_shared", "mae", "correlation",
    "acc2_has0", "f1_has0", "acc2_non0", "f1_non0", "acc7",
    "r2", "nll", "frame_accuracy", "recall1", "recall1_uncorrelated", "recall1_success_only",
    "recall20", "ndcg20", "mrr", "hits1", "hits3", "hits10", "perplexity", "word_accuracy",
    "recognised",
)  # fmt: skip
STORED = ("size_bytes", "sparsity", "effective_flops")  # fields of records, and of a row
CLOCKS = ("train_seconds", "exported_bytes", "latency_seconds")  # likewise, of their clocks


@dataclasses.dataclass(frozen=True)
class Row:
    """One trained row.

    Attributes:
      name: the row's name in the config.
      seeds: ``{status: [seeds]}`` with every seed of the table: done, diverged, failed, missing.
      values: ``{metric: {seed: value}}`` of the finished seeds.
      metrics: ``{metric: Summary}``.
      difference: of the first metric to the baseline, paired by seed; None for the baseline.
      comparison: the test of that difference, corrected over the table; None for the baseline.
      group: letters of the first metric: rows that share one cannot be told apart by their seeds.
      noise: what the test split adds to the first metric; None without stored predictions.
      items: the same difference tested over test examples; None without stored predictions.
      collapsed: the seeds in which the row answers every test example alike.
      best: the metrics in which no complete row prints better.
      optimum: the best reachable value of the first metric given what the row reads, or None.
      parameters, flops: of the model, None if no record says.
      budget_missed: no width brought it to the budget that the rows share.
      baseline: the row that it is compared with; empty for the baseline of the table.
      size_bytes, sparsity, effective_flops: of the stored model, means over seeds; None where no
        row of the ablation is compressed.
      train_seconds, exported_bytes, latency_seconds: measured; never part of what a rerun
        reproduces.
    """

    name: str
    seeds: dict[str, list[int]]
    values: dict[str, dict[int, float]]
    metrics: dict[str, Summary]
    difference: Summary | None = None
    comparison: Comparison | None = None
    group: str = ""
    noise: ItemNoise | None = None
    items: ItemTest | None = None
    collapsed: tuple[int, ...] = ()
    best: tuple[str, ...] = ()
    optimum: float | None = None
    parameters: int | None = None
    flops: float | None = None
    budget_missed: bool = False
    baseline: str = ""
    size_bytes: float | None = None
    sparsity: float | None = None
    effective_flops: float | None = None
    train_seconds: float | None = None
    exported_bytes: float | None = None
    latency_seconds: float | None = None

    @property
    def complete(self) -> bool:
        """Says whether every seed of the table has finished."""
        return not any(seeds for status, seeds in self.seeds.items() if status != "done")


@dataclasses.dataclass(frozen=True)
class Table:
    """A comparison table: rows in the order of the config, then bounds and floors, then notes."""

    columns: tuple[str, ...]  # metrics; the first is the main one
    rows: tuple[Row, ...]
    baseline: str
    references: tuple[dict[str, Any], ...]  # {"name", "values": {metric: value}}
    seeds: tuple[int, ...]
    notes: tuple[str, ...]  # reproduced by a rerun, to the bit
    floors: tuple[dict[str, Any], ...] = ()  # as references: what needs no learning
    published: tuple[Published, ...] = ()  # figures of others, with what they say of ours
    local_notes: tuple[str, ...] = ()  # clocks and paths: only where people read

    @property
    def metric(self) -> str:
        """The main metric."""
        return self.columns[0]

    @property
    def compared_with(self) -> str:
        """What differences are taken to, in words: a row, or each row's own baseline."""
        others = {row.baseline for row in self.rows if row.baseline}
        return self.baseline if others <= {self.baseline} else "own baseline"

    @property
    def stored(self) -> bool:
        """Whether the table tells what the stored models take."""
        return any(row.size_bytes is not None for row in self.rows)


def summarise(
    records: Sequence[Mapping[str, Any]],
    *,
    metric: str | None = None,
    baseline: str | None = None,
    baselines: Mapping[str, str] | None = None,
    rows: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    command: str | None = None,
    predictions: Callable[[str, int], Predictions | None] | None = None,
) -> Table:
    """Returns the table of these records; pure, and the same for every order of the records.

    Args:
      records: finished runs, as :class:`mmfuse.workdir.Workdir` returns them.
      metric: the main metric; by default what the records call ``primary``, else accuracy or MAE.
      baseline: the row that differences are taken to; by default the first.
      baselines: ``{row: the row it is compared with instead}``.
      rows: names of all rows of the config, in order; by default those of the records, as they
        come. A row without a record is named in a note.
      seeds: the seeds of the config, by default those of the records; one without a record counts
        as missing.
      command: what to run to get this table, for people.
      predictions: gives what a (row, seed) said of the test split, as
        :meth:`mmfuse.workdir.Workdir.predictions` does; without it nothing is said of the noise of
        the test split.

    Raises:
      InputError: no records, records that cannot be mixed, an unknown metric or baseline.
    """
    order = list(rows or []) + [r["row"] for r in records]
    records = _ordered(records, order)
    columns = _columns(records, metric)
    names = list(dict.fromkeys(record["row"] for record in records))
    baseline = _one_of(baseline or names[0], order, "baseline row")
    seeds = sorted({*(seeds or ()), *(record["seed"] for record in records)})
    runs = _predictions(records, predictions)
    made = [_row(name, records, columns, seeds, runs[name]) for name in names]
    own = {row: _one_of(other, order, "baseline row") for row, other in (baselines or {}).items()}
    made = mark_best(compared(made, baseline, own, columns[0], runs), columns)
    known, constant = _references(records, columns), _floors(records, columns, runs)
    table = Table(columns, tuple(made), baseline, known, tuple(seeds), (), constant)
    absent = [name for name in rows or () if name not in names]
    return _noted(table, records, absent, command)


def _ordered(records: Sequence[Mapping[str, Any]], order: Sequence[str]) -> list:
    """Returns the records in the order of the rows, then of the seeds; refuses what cannot mix."""
    if not records:
        raise InputError("no records: nothing has finished yet")
    place = {name: order.index(name) for name in order}
    records = sorted(records, key=lambda r: (place[r["row"]], r["seed"]))
    refuse_mixed(records)
    return records


def _noted(table: Table, records: Sequence, absent: Sequence[str], command: str | None) -> Table:
    """Returns the table with its notes; ``absent`` are the rows without a record."""
    title = measure(table.metric).title
    return dataclasses.replace(
        table,
        notes=tuple(notes.reproducible(table, records, title, absent)),
        local_notes=tuple(notes.local(table, records, command)),
    )


def _one_of(name: str, allowed: Sequence[str], what: str) -> str:
    if name in allowed:
        return name
    listed = ", ".join(dict.fromkeys(allowed))
    raise InputError(f"no {what} '{name}'{nearest(name, allowed)}; there are: {listed}")


def _number(value: Any) -> float | None:
    """Returns a finite number, or None for everything that is undefined."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def _columns(records: Sequence[Mapping[str, Any]], metric: str | None) -> tuple[str, ...]:
    known = {}
    for record in records:
        for name, value in record.get("metrics", {}).get(SPLIT, {}).items():
            if value is None or not isinstance(value, str | list | dict):
                known[name] = True
    if not known:  # every run failed: the table still says so
        return (metric or records[0].get("primary") or "accuracy",)
    usual = [name for name in COLUMNS if name in known] or sorted(known)
    first = _one_of(metric or records[0].get("primary") or usual[0], sorted(known), "metric")
    return (first, *(name for name in usual if name != first and name in COLUMNS))


def _predictions(
    records: Sequence, predictions: Callable[[str, int], Predictions | None] | None
) -> Runs:
    """Returns the stored predictions of the finished runs that have some."""
    runs: Runs = {record["row"]: {} for record in records}
    for record in records if predictions else ():
        if record["status"] == "done":
            found = predictions(record["row"], record["seed"])
            if found is not None:
                runs[record["row"]][record["seed"]] = found
    return runs


def _row(
    name: str,
    records: Sequence,
    columns: Sequence[str],
    seeds: Sequence[int],
    runs: Mapping[int, Predictions],
) -> Row:
    mine = [record for record in records if record["row"] == name]
    status = {record["seed"]: record["status"] for record in mine}
    states = dict.fromkeys(["done", *sorted({*status.values()} - {"done"}), "missing"])
    by_status = {s: [seed for seed in seeds if status.get(seed, "missing") == s] for s in states}
    done = [record for record in mine if record["status"] == "done"]
    values = {column: {} for column in columns}
    for record in done:
        for column in columns:
            value = _number(record["metrics"].get(SPLIT, {}).get(column))
            if value is not None:
                values[column][record["seed"]] = value
    return Row(
        name=name,
        seeds=by_status,
        values=values,
        metrics={column: summary(list(values[column].values())) for column in columns},
        noise=noise(columns[0], runs),
        collapsed=tuple(
            r["seed"] for r in done if collapsed(r["metrics"].get(SPLIT, {}), runs.get(r["seed"]))
        ),
        optimum=_first(mine, "reference_row"),
        parameters=_first(mine, "parameters"),
        flops=_first(mine, "flops_per_example"),
        budget_missed=any(r.get("budget_missed") for r in mine),
        **{key: _mean([r.get(key) for r in done]) for key in STORED},
        **{key: _mean([r.get("clock", {}).get(key) for r in done]) for key in CLOCKS},
    )


def _mean(values: Sequence[Any]) -> float | None:
    known = [value for value in map(_number, values) if value is not None]
    return math.fsum(known) / len(known) if known else None


def _first(records: Sequence[Mapping[str, Any]], key: str) -> Any:
    return next((r[key] for r in records if _number(r.get(key)) is not None), None)


def _references(records: Sequence, columns: Sequence[str]) -> tuple[dict[str, Any], ...]:
    found: dict[str, dict[str, float]] = {}
    for entry in records[0].get("reference") or []:
        if entry["metric"] in columns and _number(entry["value"]) is not None:
            found.setdefault(entry["name"], {})[entry["metric"]] = entry["value"]
    return tuple({"name": name, "values": values} for name, values in found.items())


def _floors(records: Sequence, columns: Sequence[str], runs: Runs) -> tuple[dict[str, Any], ...]:
    """Returns the scores of constant answers, from the first finished run: all share the labels."""
    done = next((record for record in records if record["status"] == "done"), None)
    if done is None:
        return ()
    return floors(done["metrics"].get(SPLIT, {}), runs[done["row"]].get(done["seed"]), columns)
