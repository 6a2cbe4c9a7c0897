"""Rows over several data sets: who is compared, what is found, and how it is printed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from mmfuse.cells import mean_sd, number
from mmfuse.errors import InputError, listed
from mmfuse.measures import measure, p_value
from mmfuse.stats.several import Ranking, iqm, iqm_interval, ranking
from mmfuse.summary import Row, Table


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Rows over data sets.

    Attributes:
      tables: ``{data set: Table}``, data sets by the names of their ablations.
      ranking: of the rows whose seeds have all finished on every data set.
      middle: ``{row: (iqm, low, high)}``, empty where the metrics differ.
      left_out: the rows that some data set lacks.
    """

    tables: dict[str, Table]
    ranking: Ranking
    middle: dict[str, tuple[float, float, float]]
    left_out: tuple[str, ...]


def compare(tables: Mapping[str, Table]) -> Comparison:
    """Returns the comparison of at least two data sets and two rows that all of them have.

    Raises:
      InputError: there are fewer.
    """
    if len(tables) < 2:
        raise InputError("give --workdir at least twice: ranks need several data sets")
    finished = {name: {r.name: r for r in t.rows if r.complete and _mean(t, r) is not None}
                for name, t in tables.items()}  # fmt: skip
    every = dict.fromkeys(row.name for t in tables.values() for row in t.rows)
    shared = [row for row in every if all(row in rows for rows in finished.values())]
    if len(shared) < 2:
        raise InputError(
            f"the workdirs share {len(shared)} finished row(s); a comparison needs two"
            f"{listed(every)}"
        )
    scores = {row: [_mean(t, finished[name][row]) for name, t in tables.items()] for row in shared}
    higher = [measure(table.metric).higher for table in tables.values()]
    middle = {}
    if len({table.metric for table in tables.values()}) == 1:
        for row in shared:
            runs = [list(finished[name][row].values[t.metric].values())
                    for name, t in tables.items()]  # fmt: skip
            middle[row] = (iqm(runs), *iqm_interval(runs))
    left_out = tuple(row for row in every if row not in shared)
    return Comparison(dict(tables), ranking(scores, higher), middle, left_out)


def _mean(table: Table, row: Row) -> float | None:
    return row.metrics[table.metric].mean


def _row(table: Table, name: str) -> Row:
    return next(row for row in table.rows if row.name == name)


def header(found: Comparison) -> list[str]:
    """Returns the column titles."""
    titles = ["Method", "Mean rank"]
    for name, table in found.tables.items():
        m = measure(table.metric)
        unit = f" ({m.unit})" if m.unit else ""
        titles.append(f"{name}: {m.title}{'' if m.higher else ' ↓'}{unit}")
    return titles + ["IQM"] * bool(found.middle)


def body(found: Comparison) -> Iterator[list[str]]:
    """Yields the cells of each row, best mean rank first."""
    for name, rank in zip(found.ranking.names, found.ranking.ranks, strict=True):
        line = [name, f"{rank:.2f}"]
        for table in found.tables.values():
            s = _row(table, name).metrics[table.metric]
            line.append(mean_sd(s, measure(table.metric), len(table.seeds)))
        if found.middle:
            m = measure(next(iter(found.tables.values())).metric)
            middle, low, high = (number(x, m) for x in found.middle[name])
            line.append(f"{middle} [{low}, {high}]")
        yield line


def notes(found: Comparison) -> list[str]:
    """Returns what was tested, what was found, and what was left out."""
    r = found.ranking
    tested = "all rows tie on every data set"
    if r.p is not None:
        verdict = "rows differ" if r.p <= r.level else "no difference shown, so no pair is tested"
        tested = f"chi square {r.statistic:.2f}, {p_value(r.p)}: {verdict}"
    said = [
        f"Mean rank over {r.datasets} data sets, 1 is best; each counts once, by its mean over "
        f"seeds. Friedman's test, level {r.level:g}: {tested}.",
    ]
    if r.p is not None and r.p <= r.level:
        said.append(
            f"Nemenyi's test: two rows differ if their mean ranks are {r.critical:.2f} apart."
        )
    for group in r.cliques:
        said.append(f"Not told apart: {', '.join(group)}.")
    if found.middle:
        said.append(
            "IQM: interquartile mean of all runs on the metric's own scale, so data sets with "
            "middling scores count most; with the 95 % interval of a bootstrap within each data "
            "set: other seeds, not other data sets; too narrow where seeds are few."
        )
    if found.left_out:
        said.append(
            f"Left out, as not every data set has them with all seeds: {', '.join(found.left_out)}."
        )
    return said


def lines(found: Comparison) -> list[dict[str, Any]]:
    """Returns the numbers in full, a line a row."""
    made = []
    for name, rank in zip(found.ranking.names, found.ranking.ranks, strict=True):
        line = {"method": name, "mean_rank": rank}
        for data, table in found.tables.items():
            line[f"{data} {table.metric}"] = _mean(table, _row(table, name))
        middle = found.middle.get(name, (None, None, None))
        made.append(line | dict(zip(("iqm", "iqm_low", "iqm_high"), middle, strict=True)))
    return made
