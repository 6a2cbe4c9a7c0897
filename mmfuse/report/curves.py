"""Learning curves: a panel a row, the mean over seeds in a band from the lowest to the highest."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmfuse.markup import Html, tag
from mmfuse.measures import measure
from mmfuse.report.page import Figure, axis_title
from mmfuse.report.panel import folded, legend, panel, spread
from mmfuse.report.svg import spanning
from mmfuse.summary import Table

SPLITS = {"valid": "accent", "train": "plain dashed"}


def curves(table: Table, records: Sequence[Mapping[str, Any]], prefix: str) -> Iterator[Figure]:
    """Yields the curves of the main metric and of the loss, where the records have them."""
    for metric in dict.fromkeys((table.metric, "loss")):
        found = {row.name: _of_row(records, row.name, metric) for row in table.rows}
        found = {k: splits for k, splits in found.items() if any(map(any, splits.values()))}
        if found:
            yield _figure(table, records, metric, found, prefix)


def _of_row(
    records: Sequence[Mapping[str, Any]], row: str, metric: str
) -> dict[str, list[dict[int, float]]]:
    """``{split: [{seed: value} of each epoch]}``; what is not finite is left out."""
    mine = [record for record in records if record["row"] == row]
    found: dict[str, list[dict[int, float]]] = {}
    for split in SPLITS:
        of_seed = {r["seed"]: r.get("curves", {}).get(split, []) for r in mine}
        epochs = max(map(len, of_seed.values()), default=0)
        found[split] = [
            {seed: curve[i][metric] for seed, curve in of_seed.items()
             if i < len(curve) and _finite(curve[i].get(metric))}
            for i in range(epochs)
        ]  # fmt: skip
    return found


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _figure(
    table: Table,
    records: Sequence[Mapping[str, Any]],
    metric: str,
    found: Mapping[str, Mapping[str, list[dict[int, float]]]],
    prefix: str,
) -> Figure:
    m = measure(metric)
    lines = {
        name: [
            (SPLITS[split], [(i + 1, spread(at.values(), m.scale)) for i, at in enumerate(of)])
            for split, of in splits.items()
        ]
        for name, splits in found.items()
    }
    every = [
        v for one in lines.values() for _, points in one for _, s in points
        if s.n for v in (s.low, s.high)
    ]  # fmt: skip
    epochs = max(len(points) for one in lines.values() for _, points in one)
    y = spanning(every, count=4)
    x = spanning(range(1, max(epochs, 2) + 1), "epoch", whole=True)
    panels = [_panel(name, lines[name], (x, y), _chosen(records, name, metric)) for name in found]
    title = f"{axis_title(m)} by epoch"
    caption = (
        "Line: mean over seeds; band: lowest to highest seed; ring: the epoch that was chosen on "
        "the validation split, one a seed. All panels have the same axes."
    )
    seeds = tuple(table.seeds)
    data = [
        (name, split, i + 1, *_numbers(at), *(at.get(seed) for seed in seeds))
        for name, splits in found.items() for split, of in splits.items() for i, at in enumerate(of)
    ]  # fmt: skip
    head = ("method", "split", "epoch", "n", "mean", "lowest", "highest")
    picture = tag("div", legend([("accent", "validation"), ("plain dashed", "training")]),
                  folded(panels, "panels"))  # fmt: skip
    return Figure(f"{prefix}curves-{metric}", title, caption, picture,
                  (*head, *(f"seed_{seed}" for seed in seeds)), data)  # fmt: skip


def _numbers(at: Mapping[int, float]) -> tuple:
    s = spread(at.values(), 1.0)
    return s.n, s.mean, s.low, s.high


def _chosen(records: Sequence, row: str, metric: str) -> list[tuple[float, float]]:
    """(epoch, validation value) that each seed of a row was chosen at."""
    m, found = measure(metric), []
    for record in records:
        epoch = (record.get("selected") or {}).get("epoch")
        curve = record.get("curves", {}).get("valid", [])
        if record["row"] != row or record["status"] != "done" or epoch is None:
            continue
        if 0 <= epoch < len(curve) and _finite(curve[epoch].get(metric)):
            found.append((epoch + 1, curve[epoch][metric] * m.scale))
    return found


def _panel(name: str, lines: Sequence[tuple], axes: tuple, marks: Sequence) -> Html:
    return tag("div", tag("p", name, class_="name"), panel(name, *axes, lines, marks))
