"""The Pareto plot: score against what it costs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from mmfuse.cells import number
from mmfuse.measures import measure
from mmfuse.report.page import Figure, axis_title
from mmfuse.report.svg import DESK, LINE, Axis, Plot, both, shortened, spanning, text_width
from mmfuse.summary import Table

EQUAL = 1.1  # costs within this factor are one cost: there is nothing to plot
NEAR = 4  # see `_score_axis`
LABELLED = 16  # with more points than this, only those that matter have their names beside them


def pareto(table: Table, prefix: str, costs: Sequence[tuple[str, str, Mapping]]) -> list[Figure]:
    """Score against each cost; ``costs`` are (name, title, {row: cost}) where some are known."""
    return [
        figure
        for name, title, of_row in costs
        if (figure := _pareto(table, f"{prefix}pareto-{name}", title, of_row))
    ]


def _pareto(table: Table, name: str, cost: str, of_row: Mapping[str, float]) -> Figure | None:
    m = measure(table.metric)
    points = [
        (row.name, of_row[row.name], row.metrics[table.metric].mean)
        for row in table.rows
        if of_row.get(row.name) and row.metrics[table.metric].mean is not None
    ]
    costs = [value for _, value, _ in points]
    if len(points) < 2 or max(costs) < EQUAL * min(costs):
        return None
    best = front(points, m.higher)
    title = f"{m.title} against {cost}"
    caption = (
        f"Mean test {m.title} against {cost}. Blue: the front, on which no row is both "
        f"cheaper and better: {', '.join(best)}. Hollow: the baseline, {table.baseline}. "
        "A triangle: a row beyond the edge, with its score. Names without room: see the data."
    )
    data = [(*point, point[0] in best) for point in points]

    def draw(width: int) -> Plot:
        return _scatter(width, points, best, table.baseline, (cost, m))

    columns = ("method", cost, f"{table.metric}_mean", "front")
    return Figure(name, title, caption, both(draw, title, caption), columns, data)


def front(points: Sequence[tuple[str, float, float]], higher: bool) -> list[str]:
    """Names of the (name, cost, score), in order of cost, that no other beats.

    One beats another if it is neither dearer nor worse, and cheaper or better.
    """
    found, sign = [], 1 if higher else -1
    for name, cost, score in sorted(points, key=lambda p: (p[1], -sign * p[2])):
        beaten = any(
            c <= cost and sign * s >= sign * score and (c, s) != (cost, score) for _, c, s in points
        )
        if not beaten:
            found.append(name)
    return found


def _scatter(
    width: int, points: Sequence[tuple], best: Sequence[str], baseline: str, what: tuple
) -> Plot:
    cost, m = what
    x = spanning([value for _, value, _ in points], cost, log=True, count=width // 90)
    y = _score_axis([score * m.scale for *_, score in points], m)
    plot = Plot(width, 340 if width == DESK else 300, x, y, right=16)
    places, words = {}, {}
    for name, value, score in points:
        seen = min(max(score * m.scale, y.low), y.high)
        places[name] = (plot.x(value), plot.y(seen))
        words[name] = name if seen == score * m.scale else f"{name} ({number(score, m)})"
    corners = [places[name] for name in best]
    path = "".join(f"H{a:.1f} V{b:.1f}" for a, b in corners[1:])
    plot.add("path", d=f"M{corners[0][0]} {corners[0][1]}{path}", class_="line accent dashed")
    for name, (a, b) in places.items():
        class_ = ("accent" if name in best else "plain") + (" hollow" if name == baseline else "")
        shape = "diamond" if name == baseline else "circle" if words[name] == name else "down"
        plot.dot(a, b, class_, shape, words[name])
    wanted = dict.fromkeys([*best, baseline, *(places if len(points) <= LABELLED else [])])
    shown = {name: words[name] for name in wanted if name in places}
    _labels(plot, places, shown, best, _boxes(corners))
    return plot


def _score_axis(scores: Sequence[float], m: Any) -> Axis:
    """An axis on which good scores can be told apart.

    Where at least half of the rows lie within the best quarter of the range, it shows that quarter,
    and the others are drawn at its edge with their score; else it shows all.
    """
    best, worst = (max(scores), min(scores)) if m.higher else (min(scores), max(scores))
    near = [score for score in scores if abs(score - best) <= abs(worst - best) / NEAR]
    return spanning(near if 2 * len(near) >= len(scores) else scores, axis_title(m))


def _boxes(corners: Sequence[tuple[float, float]]) -> list[tuple]:
    """What the steps of the front cover: one box for each tread and each riser."""
    found = []
    for (a, b), (c, d) in itertools.pairwise(corners):
        found += [(a, b - 2, c, b + 2), (c - 2, min(b, d), c + 2, max(b, d))]
    return found


def _labels(
    plot: Plot, places: Mapping, words: Mapping, strong: Sequence[str], steps: list[tuple]
) -> None:
    """Names beside their points where they cover nothing else; one without room is left out."""
    taken = [*steps, *((x - 5, y - 5, x + 5, y + 5) for x, y in places.values())]
    for name, word in words.items():
        x, y = places[name]
        text = shortened(word, plot.width * 0.45)
        w, h = text_width(text), LINE - 4
        tries = [(x + 8, y), (x - 8 - w, y)]
        tries += [(x - w / 2, y - 14), (x - w / 2, y + 14)]
        tries += [(x + 6, y - 13), (x + 6, y + 13), (x - 6 - w, y - 13), (x - 6 - w, y + 13)]
        for a, b in tries:
            box = (a, b - h / 2, a + w, b + h / 2)
            inside = a >= plot.x.start and box[2] <= plot.width and plot.y.end - 6 <= box[1]
            if inside and box[3] <= plot.y.start and not any(_overlap(box, t) for t in taken):
                taken.append(box)
                plot.text(a, b, text, "strong" if name in strong else "")
                break


def _overlap(a: tuple, b: tuple) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
