"""The forest plot: differences to the baseline with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmfuse import cells
from mmfuse.measures import measure
from mmfuse.report.page import Figure
from mmfuse.report.svg import DESK, LINE, Axis, Plot, both, shortened, spanning, text_width
from mmfuse.stats import Summary
from mmfuse.summary import Row, Table

PARTS = ("n", "mean", "low", "high")
NEAR = 4  # a difference below a quarter of the largest is near; see `_near`


def forest(table: Table, prefix: str) -> Figure | None:
    """Differences to the baseline with their intervals; None if there is none."""
    m = measure(table.metric)
    rows = [row for row in table.rows if row.difference and row.difference.mean is not None]
    if not rows:
        return None
    ends = [(r, *(None if v is None else v * m.scale for v in _ends(r.difference))) for r in rows]
    axis, beyond = _near(ends, m)
    title = f"{m.title}: difference to {table.compared_with}"
    better = "right" if m.higher else "left"
    cut = f" {beyond} reach beyond the axis (arrows)." if beyond else ""
    caption = (
        f"Mean difference to {table.compared_with}, paired by seed, with its 95 % interval; "
        f"further to the {better} is better. Blue: significant, corrected over all rows; the "
        f"interval is that of one row alone.{cut}"
    )
    said = "; ".join(f"{row.name}: {cells.versus(row, m)}" for row in rows)
    data = [
        (row.name, *(getattr(row.difference, part) for part in PARTS),
         row.comparison and row.comparison.holm, _significant(row))
        for row in rows
    ]  # fmt: skip
    return Figure(
        f"{prefix}forest", title, caption,
        both(lambda width: _forest(width, ends, axis, m), title, said),
        ("method", *(f"difference_{part}" for part in PARTS), "p_holm", "significant"), data,
    )  # fmt: skip


def _significant(row: Row) -> bool:
    return bool(row.comparison and row.comparison.significant)


def _ends(s: Summary) -> tuple[float | None, float | None, float | None]:
    return s.mean, s.low, s.high


def _near(ends: Sequence[tuple], m: Any) -> tuple[Axis, int]:
    """An axis on which small differences can be seen, and how many rows reach beyond it.

    Where at least half of the rows differ by less than a quarter of the largest difference, and all
    others are worse than the baseline (as controls are), the axis ends at twice what those half
    differ by; else it holds every interval.
    """
    sizes = [abs(mean) for _, mean, *_ in ends]
    near = [size for size in sizes if size <= max(sizes) / NEAR]
    unit = "points" if m.scale == 100 else m.title
    everything = [v for _, *values in ends for v in values if v is not None]
    axis = spanning([0.0, *everything], f"difference ({unit})")
    far = [mean for _, mean, *_ in ends if abs(mean) > max(near, default=0)]
    if 2 * len(near) < len(ends) or not max(near) or any((mean > 0) == m.higher for mean in far):
        return axis, 0
    inside = [v for _, mean, *more in ends if abs(mean) <= max(near) for v in (mean, *more)]
    reach = 2 * max(near)
    inside = [max(-reach, min(reach, v)) for v in inside if v is not None]
    axis = spanning([0.0, *inside], axis.title)
    beyond = [any(v is not None and not axis.low <= v <= axis.high for v in e[1:]) for e in ends]
    return axis, sum(beyond)


def _forest(width: int, ends: Sequence[tuple], axis: Axis, m: Any) -> Plot:
    figures = [cells.versus(row, m) for row, *_ in ends]
    phone = width < DESK
    names = max(text_width(row.name) for row, *_ in ends) + 12
    left = 12.0 if phone else min(names, 0.3 * width)
    right = 14.0 if phone else max(map(text_width, figures)) + 20
    step = 2.3 * LINE if phone else 1.45 * LINE
    plot = Plot(width, len(ends) * step + 3 * LINE, axis, left=left, right=right)
    plot.rule(plot.x(0), plot.y.start, plot.x(0), plot.y.end, "zero")
    for place, ((row, mean, low, high), figure) in enumerate(zip(ends, figures, strict=True)):
        y = plot.y.end + (place + 0.5) * step
        if phone:
            plot.text(0, y - LINE / 2, shortened(row.name, width - text_width(figure) - 8))
            plot.text(width, y - LINE / 2, figure, "end figures")
            y += LINE / 2
        else:
            plot.text(left - 12, y, shortened(row.name, left - 12), "end")
            plot.text(width - right + 14, y, figure, "figures")
        class_ = "accent" if _significant(row) else "plain"
        _interval(plot, y, (mean, low, high), class_, row.name)
    return plot


def _interval(plot: Plot, y: float, values: tuple, class_: str, name: str) -> None:
    """A mark at the mean and a bar over the interval; an arrow stands for what is cut off."""
    mean, low, high = values
    axis = plot.x
    if low is not None and low <= axis.high and high >= axis.low:
        a, b = axis(max(low, axis.low)), axis(min(high, axis.high))
        plot.rule(a, y, b, y, f"interval {class_}")
    for value, edge, way in ((mean if low is None else low, axis.low, -1),
                             (mean if high is None else high, axis.high, 1)):  # fmt: skip
        if value * way > edge * way:
            at = axis(edge)
            plot.add("path", d=f"M{at:.1f} {y - 4:.1f}l{6 * way} 4l{-6 * way} 4Z", class_=class_)
    if axis.low <= mean <= axis.high:
        plot.dot(axis(mean), round(y, 1), class_, title=name)
