"""Small multiples: one panel a row of the table, all on the same axes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mmfuse.markup import Html, joined, tag
from mmfuse.report.svg import Axis, Plot, quantity, shape_path
from mmfuse.stats import Summary

WIDTH, HEIGHT = 250, 165
SERIES = {  # {class of a line: mark of its points}; dashes and marks differ as colours do
    "s1": "circle", "s2": "square", "s3": "diamond", "s4": "triangle", "s5": "cross", "s6": "down",
}  # fmt: skip
OPEN = 12  # panels that are seen at once; a click shows the others


def panel(
    title: str,
    x: Axis,
    y: Axis,
    lines: Sequence[tuple[str, Sequence[tuple[float, Summary]]]],
    marks: Sequence[tuple[float, float]] = (),
) -> Html:
    """Lines of means, each in a band from low to high.

    Args:
      title: what the panel shows, for a screen reader.
      x, y: axes, the same for all panels of a figure.
      lines: (class, [(x, summary)]); the points of a line of ``SERIES`` have marks.
      marks: points with a ring.
    """
    plot, said = Plot(WIDTH, HEIGHT, x, y), []
    for class_, given in lines:
        points = [(at, s) for at, s in given if s.mean is not None]
        banded = [(at, s) for at, s in points if s.low is not None]
        if not points:
            continue
        if banded:
            low, high = [(at, s.low) for at, s in banded], [(at, s.high) for at, s in banded]
            plot.band(*([(at, _clip(v, y)) for at, v in edge] for edge in (low, high)), class_)
        plot.line([(at, s.mean) for at, s in points], class_)
        for at, s in points if class_ in SERIES else ():
            plot.dot(plot.x(at), plot.y(s.mean), class_, SERIES[class_])
        said.append(f"{quantity(points[0][1].mean)} to {quantity(points[-1][1].mean)}")
    for at, value in marks:
        plot.dot(plot.x(at), plot.y(value), "accent hollow", title=f"{at:g}: {value:.4g}")
    return plot.svg(title, f"{x.title}: {', '.join(said)}")


def legend(entries: Sequence[tuple[str, str]]) -> Html:
    """The key of a figure's lines: (class, words)."""
    made = []
    for class_, words in entries:
        line = tag("path", d="M0 6H30", class_=f"line {class_}")
        shape = SERIES.get(class_)
        mark = tag("path", d=shape_path(shape, 15, 6), class_=f"dot {class_}") if shape else ""
        sample = tag("svg", line, mark, width=30, height=12, aria_hidden="true")
        made.append(tag("li", sample, words))
    return tag("ul", *made, class_="key")


def folded(panels: Sequence[Html], what: str) -> Html:
    """The panels as a grid; those after the first dozen are behind a click."""
    shown = tag("div", *panels[:OPEN], class_="grid")
    if len(panels) <= OPEN:
        return shown
    rest = tag("summary", f"{len(panels) - OPEN} more {what}")
    return joined([shown, tag("details", rest, tag("div", *panels[OPEN:], class_="grid"))])


def spread(values: Iterable[float], scale: float) -> Summary:
    """Mean, lowest and highest: with few seeds, what was seen says more than an interval."""
    x = [value * scale for value in values]
    if not x:
        return Summary(0, None, None, None, None)
    return Summary(len(x), math.fsum(x) / len(x), None, min(x), max(x))


def scaled(s: Mapping[str, Any], scale: float) -> Summary:
    """A stored summary in the unit that is printed; an undefined number stays undefined."""
    values = {k: _scaled(s.get(k), scale) for k in ("mean", "sd", "low", "high")}
    return Summary(s["n"], **values, reason=s.get("reason", ""))


def _scaled(value: Any, scale: float) -> float | None:
    known = isinstance(value, int | float) and math.isfinite(value)
    return value * scale if known else None


def _clip(value: float, axis: Axis) -> float:
    return min(max(value, axis.low), axis.high)
