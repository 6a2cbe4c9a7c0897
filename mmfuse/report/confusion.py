"""Confusion matrices, a panel a row; with many classes, the largest confusions in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmfuse.markup import Html, tag
from mmfuse.report.heat import heat
from mmfuse.report.page import Figure
from mmfuse.report.panel import folded
from mmfuse.report.svg import LINE, picture, shortened, text_width
from mmfuse.summary import SPLIT, Table

NUMBERED = 10  # up to so many classes each cell has its number
TOP = 5  # confusions listed below a matrix
SIDE = 250  # pixels of a panel


def confusions(table: Table, records: Sequence[Mapping[str, Any]], prefix: str) -> Figure | None:
    """The matrices of all rows with a finished seed; None where the task has none."""
    found = {row.name: _summed(records, row.name) for row in table.rows}
    found = {name: matrix for name, matrix in found.items() if matrix is not None}
    if not found:
        return None
    names = class_names(records[0], len(next(iter(found.values()))))
    panels = [_panel(name, matrix, names) for name, matrix in found.items()]
    caption = (
        "Down: the true class; across: the predicted class. Shade, and the number in a cell: per "
        "cent of the true class, over the test examples of all finished seeds."
    )
    if len(names) > NUMBERED:
        caption += f" Below each: its {TOP} largest confusions."
    data = [
        (name, true, predicted, int(matrix[i, j]))
        for name, matrix in found.items()
        for i, true in enumerate(names) for j, predicted in enumerate(names) if matrix[i, j]
    ]  # fmt: skip
    return Figure(f"{prefix}confusion", "Confusion matrices", caption, folded(panels, "matrices"),
                  ("method", "true", "predicted", "examples_all_seeds"), data)  # fmt: skip


def class_names(record: Mapping[str, Any], classes: int) -> list[str]:
    """Names of the classes as the card of the data has them, else their numbers."""
    names = record.get("data", {}).get("card", {}).get("class_names") or ()
    return [str(n) for n in names] if len(names) == classes else [str(i) for i in range(classes)]


def _summed(records: Sequence[Mapping[str, Any]], row: str) -> np.ndarray | None:
    """The sum of a row's matrices [C, C] over its finished seeds, or None."""
    mine = [
        record["metrics"].get(SPLIT, {}).get("confusion")
        for record in records
        if record["row"] == row and record["status"] == "done"
    ]
    mine = [np.asarray(matrix, np.float64) for matrix in mine if matrix]
    return np.sum(mine, axis=0) if mine else None


def shares(matrix: np.ndarray) -> np.ndarray:
    """Each line divided by its sum; a class without examples has zeros."""
    support = matrix.sum(axis=1, keepdims=True)
    return np.divide(matrix, support, out=np.zeros_like(matrix), where=support > 0)


def top(matrix: np.ndarray, count: int = TOP) -> list[tuple[int, int, float]]:
    """The largest (true, predicted, share of the true class) off the diagonal, by examples."""
    off = matrix - np.diag(np.diag(matrix))
    order = np.argsort(-off, axis=None, kind="stable")[:count]
    found = [divmod(int(i), len(matrix)) for i in order]
    part = shares(matrix)
    return [(i, j, float(part[i, j])) for i, j in found if off[i, j] > 0]


def _panel(name: str, matrix: np.ndarray, names: Sequence[str]) -> Html:
    part = shares(matrix)
    hits = float(np.trace(matrix) / matrix.sum())
    marks = _numbered(part, names) if len(names) <= NUMBERED else _shaded(part)
    said = f"{100 * hits:.1f} % on the diagonal"
    worst = top(matrix)
    if worst:
        i, j, share = worst[0]
        said += f"; most often {names[i]} taken for {names[j]} ({100 * share:.0f} %)"
    drawn = picture(SIDE, SIDE, f"Confusion matrix of {name}", said, *marks)
    return tag(
        "div", tag("p", name, class_="name"), drawn, _listed(worst, names, len(names) > NUMBERED)
    )


def _listed(worst: Sequence[tuple], names: Sequence[str], wanted: bool) -> Html | str:
    if not wanted or not worst:
        return ""
    items = [f"{names[i]} → {names[j]}: {100 * share:.0f} %" for i, j, share in worst]
    return tag("ol", *(tag("li", item) for item in items), class_="tight")


def _numbered(part: np.ndarray, names: Sequence[str]) -> list[Html]:
    """A few classes: each cell has its number, each line its name."""
    left = min(max(map(text_width, names)) + 8, 90.0)
    size = (SIDE - left) / len(names)
    marks = heat(part, left, LINE, size, (SIDE - LINE) / len(names))
    tall = (SIDE - LINE) / len(names)
    for i, name in enumerate(names):
        y = LINE + (i + 0.5) * tall + 4
        marks.append(tag("text", shortened(name, left - 6), x=f"{left - 5:.1f}", y=f"{y:.1f}",
                         class_="tick end"))  # fmt: skip
        marks.append(tag("text", shortened(name, size), x=f"{left + (i + 0.5) * size:.1f}", y=12,
                         class_="tick middle"))  # fmt: skip
        for j, share in enumerate(part[i]):
            if size >= text_width("99") and round(100 * share):
                marks.append(
                    tag("text", f"{100 * share:.0f}", x=f"{left + (j + 0.5) * size:.1f}",
                        y=f"{y:.1f}", class_="middle")
                )  # fmt: skip
    return marks


def _shaded(part: np.ndarray) -> list[Html]:
    """Many classes: shades alone, within a frame."""
    size = SIDE / len(part)
    frame = tag("rect", x=0.5, y=0.5, width=SIDE - 1, height=SIDE - 1, class_="frame")
    return [*heat(part, 0, 0, size, size), frame]
