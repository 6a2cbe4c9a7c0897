"""The critical-difference diagram: mean ranks over several datasets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmfuse.markup import Html
from mmfuse.report.svg import LINE, Axis, Plot, both, shortened, text_width


def ranks(average: Mapping[str, float], groups: Sequence[Sequence[str]], distance: float) -> Html:
    """Mean ranks, best first; a bar joins methods whose ranks cannot be told apart.

    Args:
      average: ``{method: mean rank}``, 1 is best.
      groups: sets of methods that cannot be told apart, as the test found them.
      distance: the critical difference, drawn to scale.
    """
    order = sorted(average, key=lambda name: (average[name], name))
    said = "; ".join(f"{name}: {average[name]:.2f}" for name in order)

    def draw(width: int) -> Plot:
        return _ranks(width, order, average, groups, distance)

    return both(draw, "Critical-difference diagram", f"Mean ranks: {said}")


def _ranks(width: int, order: Sequence[str], average: Mapping, groups: Sequence, distance: float):
    names = max(map(text_width, order)) + 12
    left, right = min(names, 0.42 * width), 24 + 12 * len(groups)
    height = (len(order) + 4) * 1.4 * LINE
    axis = Axis(1, max(len(order), 2), "mean rank (1 is best)", count=width // 90)
    plot = Plot(width, height, axis, left=left, right=right, top=2 * LINE)
    a, b = plot.x(1), plot.x(min(1 + distance, axis.high))
    plot.rule(a, LINE * 0.9, b, LINE * 0.9, "group")
    plot.text(b + 8, LINE * 0.9, f"CD = {distance:.2f}")
    step = (plot.y.start - plot.y.end) / len(order)
    place = {name: plot.y.end + (i + 0.5) * step for i, name in enumerate(order)}
    for name in order:
        x = plot.x(average[name])
        plot.rule(left, place[name], x, place[name])
        plot.text(left - 10, place[name], shortened(name, left - 12), "end")
        plot.dot(x, round(place[name], 1), "accent", title=f"{name}: {average[name]:.2f}")
    for i, group in enumerate(groups):
        at = plot.width - right + 16 + 12 * i
        tops = [place[name] for name in group]
        plot.rule(at, min(tops) - 3, at, max(tops) + 3, "group")
    return plot
