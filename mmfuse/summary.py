"""From records to the numbers of a table; how they are printed is :mod:`mmfuse.tables`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from mmfuse import notes
from mmfuse.errors import InputError, nearest
from mmfuse.mixing import refuse_mixed
from mmfuse.stats import Summary, paired, summary

SPLIT = "test"
COLUMNS = (  # shown where the task has them
    "accuracy", "f1_macro", "mae", "correlation",
    "acc2_has0", "f1_has0", "acc2_non0", "f1_non0", "acc7",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Measure:
    """How a metric is printed: its title, its direction, and its digits after scaling."""

    title: str
    higher: bool = True
    scale: float = 1.0
    digits: int = 4

    @property
    def unit(self) -> str:
        """What stands in brackets behind the title."""
        return "%" if self.scale == 100 else ""

    def rounded(self, value: float) -> float:
        """Returns the value as it is printed; what prints equal counts as equal."""
        return round(value * self.scale, self.digits) + 0.0  # + 0.0: no minus zero


MEASURES = {
    "accuracy": Measure("Accuracy", scale=100, digits=2),
    "precision_macro": Measure("Macro precision", scale=100, digits=2),
    "precision_weighted": Measure("Weighted precision", scale=100, digits=2),
    "recall_macro": Measure("Macro recall", scale=100, digits=2),
    "recall_weighted": Measure("Weighted recall", scale=100, digits=2),
    "f1_macro": Measure("Macro-F1", scale=100, digits=2),
    "f1_weighted": Measure("Weighted F1", scale=100, digits=2),
    "mae": Measure("MAE", higher=False, digits=3),
    "rmse": Measure("RMSE", higher=False, digits=3),
    "correlation": Measure("Correlation", digits=3),
    "acc2_has0": Measure("Acc-2 (has 0)", scale=100, digits=2),
    "acc2_non0": Measure("Acc-2 (non 0)", scale=100, digits=2),
    "f1_has0": Measure("F1 (has 0)", scale=100, digits=2),
    "f1_non0": Measure("F1 (non 0)", scale=100, digits=2),
    "acc7": Measure("Acc-7", scale=100, digits=2),
    "loss": Measure("Loss", higher=False),
}


@dataclasses.dataclass(frozen=True)
class Row:
    """One trained row.

    Attributes:
      name: the row's name in the config.
      seeds: ``{status: [seeds]}`` with every seed of the table: done, diverged, failed, missing.
      values: ``{metric: {seed: value}}`` of the finished seeds.
      metrics: ``{metric: Summary}``.
      difference: of the first metric to the baseline, paired by seed; None for the baseline.
      best: the metrics in which no complete row prints better.
      optimum: the best reachable value of the first metric given what the row reads, or None.
      parameters, flops: of the model, None if no record says.
      budget_missed: no width brought it to the budget that the rows share.
      train_seconds: measured; never part of what a rerun reproduces.
    """

    name: str
    seeds: dict[str, list[int]]
    values: dict[str, dict[int, float]]
    metrics: dict[str, Summary]
    difference: Summary | None = None
    best: tuple[str, ...] = ()
    optimum: float | None = None
    parameters: int | None = None
    flops: float | None = None
    budget_missed: bool = False
    train_seconds: float | None = None

    @property
    def complete(self) -> bool:
        """Says whether every seed of the table has finished."""
        return not any(seeds for status, seeds in self.seeds.items() if status != "done")


@dataclasses.dataclass(frozen=True)
class Table:
    """A comparison table: rows in the order of the config, then known bounds, then notes."""

    columns: tuple[str, ...]  # metrics; the first is the main one
    rows: tuple[Row, ...]
    baseline: str
    references: tuple[dict[str, Any], ...]  # {"name", "values": {metric: value}}
    seeds: tuple[int, ...]
    notes: tuple[str, ...]  # reproduced by a rerun, to the bit
    local_notes: tuple[str, ...] = ()  # clocks and paths: only where people read

    @property
    def metric(self) -> str:
        """The main metric."""
        return self.columns[0]


def measure(metric: str) -> Measure:
    """Returns how a metric is printed; an unknown one is printed as it is."""
    return MEASURES.get(metric, Measure(metric))


def summarise(
    records: Sequence[Mapping[str, Any]],
    *,
    metric: str | None = None,
    baseline: str | None = None,
    rows: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    command: str | None = None,
) -> Table:
    """Returns the table of these records; pure, and the same for every order of the records.

    Args:
      records: finished runs, as :class:`mmfuse.workdir.Workdir` returns them.
      metric: the main metric; by default what the records call ``primary``, else accuracy or MAE.
      baseline: the row that differences are taken to; by default the first.
      rows: names of all rows of the config, in order; by default those of the records, as they
        come. A row without a record is named in a note.
      seeds: the seeds of the config, by default those of the records; one without a record counts
        as missing.
      command: what to run to get this table, for people.

    Raises:
      InputError: no records, records that cannot be mixed, an unknown metric or baseline.
    """
    if not records:
        raise InputError("no records: nothing has finished yet")
    order = list(rows or []) + [r["row"] for r in records]
    place = {name: order.index(name) for name in order}
    records = sorted(records, key=lambda r: (place[r["row"]], r["seed"]))
    refuse_mixed(records)
    columns = _columns(records, metric)
    names = list(dict.fromkeys(record["row"] for record in records))
    baseline = _one_of(baseline or names[0], order, "baseline row")
    seeds = sorted({*(seeds or ()), *(record["seed"] for record in records)})
    made = [_row(name, records, columns, seeds) for name in names]
    made = _mark_best(_difference(made, baseline, columns[0]), columns)
    table = Table(columns, tuple(made), baseline, _references(records, columns), tuple(seeds), ())
    absent = [name for name in rows or () if name not in names]
    return dataclasses.replace(
        table,
        notes=tuple(notes.reproducible(table, records, measure(columns[0]).title, absent)),
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


def _row(name: str, records: Sequence, columns: Sequence[str], seeds: Sequence[int]) -> Row:
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
    times = [_number(record.get("clock", {}).get("train_seconds")) for record in done]
    times = [time for time in times if time is not None]
    return Row(
        name=name,
        seeds=by_status,
        values=values,
        metrics={column: summary(list(values[column].values())) for column in columns},
        optimum=_first(mine, "reference_row"),
        parameters=_first(mine, "parameters"),
        flops=_first(mine, "flops_per_example"),
        budget_missed=any(r.get("budget_missed") for r in mine),
        train_seconds=math.fsum(times) / len(times) if times else None,
    )


def _first(records: Sequence[Mapping[str, Any]], key: str) -> Any:
    return next((r[key] for r in records if _number(r.get(key)) is not None), None)


def _difference(rows: list[Row], baseline: str, metric: str) -> list[Row]:
    base = next((row.values[metric] for row in rows if row.name == baseline), {})
    made = []
    for row in rows:
        other = None if row.name == baseline else paired(row.values[metric], base)
        made.append(dataclasses.replace(row, difference=other))
    return made


def _mark_best(rows: list[Row], columns: Sequence[str]) -> list[Row]:
    """Marks the best printed mean of each metric among complete rows; ties are all marked."""
    best: dict[str, set[str]] = {}
    for column in columns:
        m = measure(column)
        means = {r.name: r.metrics[column].mean for r in rows if r.complete}
        printed = {k: m.rounded(v) for k, v in means.items() if v is not None}
        top = (max if m.higher else min)(printed.values(), default=None)
        best[column] = {name for name, value in printed.items() if value == top}
    return [
        dataclasses.replace(row, best=tuple(c for c in columns if row.name in best[c]))
        for row in rows
    ]


def _references(records: Sequence, columns: Sequence[str]) -> tuple[dict[str, Any], ...]:
    found: dict[str, dict[str, float]] = {}
    for entry in records[0].get("reference") or []:
        if entry["metric"] in columns and _number(entry["value"]) is not None:
            found.setdefault(entry["name"], {})[entry["metric"]] = entry["value"]
    return tuple({"name": name, "values": values} for name, values in found.items())
