"""Rows of a table against each other: differences to their baselines, groups, the best ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mmfuse.measures import measure
from mmfuse.stats import paired
from mmfuse.stats.differences import against
from mmfuse.stats.groups import letters, pairs
from mmfuse.stats.items import Predictions, compare_items, corrected_items

if TYPE_CHECKING:
    from mmfuse.summary import Row

Runs = dict[str, dict[int, Predictions]]  # {row: {seed: predictions}}


def compared(
    rows: list[Row], baseline: str, own: Mapping[str, str], metric: str, runs: Runs
) -> list[Row]:
    """Adds what is known of each row's difference to its baseline, and the groups of all rows."""
    values = {row.name: row.values[metric] for row in rows}
    tests = against(values, baseline, own)
    others = [row.name for row in rows if row.name != baseline]
    base = {name: own.get(name, baseline) for name in others}
    items = [compare_items(metric, runs[name], runs.get(base[name], {})) for name in others]
    items = dict(zip(others, corrected_items(items), strict=True))
    groups = _groups(rows, metric)
    made = []
    for row in rows:
        found = {"group": groups.get(row.name, "")}
        if row.name != baseline:
            found["difference"] = paired(row.values[metric], values.get(base[row.name], {}))
            found |= {"baseline": base[row.name]}
            found |= {"comparison": tests[row.name], "items": items[row.name]}
        made.append(dataclasses.replace(row, **found))
    return made


def _groups(rows: list[Row], metric: str) -> dict[str, str]:
    """Returns the letters of all rows with a value, the best row first."""
    means = {row.name: row.metrics[metric].mean for row in rows}
    known = [name for name, mean in means.items() if mean is not None]
    order = sorted(known, key=means.get, reverse=measure(metric).higher)
    tests = pairs({row.name: row.values[metric] for row in rows if row.name in known})
    return letters(order, [names for names, test in tests.items() if test.significant])


def mark_best(rows: list[Row], columns: Sequence[str]) -> list[Row]:
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
