"""Rows over several tables: their mean ranks as a critical-difference diagram, and their scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmfuse.comparison import body, compare, header, lines, notes
from mmfuse.errors import InputError
from mmfuse.markup import Html, joined
from mmfuse.report.grid import scrolled, simple_table
from mmfuse.report.page import Figure
from mmfuse.report.svg import LINE, Axis, Plot, both, shortened, text_width
from mmfuse.stats.several import Ranking
from mmfuse.summary import Table


def ranks(tables: Mapping[str, Table]) -> Figure | None:
    """Ranks the rows that every table has; None if fewer than two have a score in each."""
    try:
        found = compare(tables)
    except InputError:  # one table, or nothing in common
        return None
    caption = f"Test scores on {len(tables)} data sets, best mean rank first"
    table = scrolled(simple_table(caption, header(found), body(found)), caption)
    data = [list(line.values()) for line in lines(found)]
    return Figure(
        "ranks", "Critical-difference diagram",
        f"Bars join rows that cannot be told apart. {' '.join(notes(found))}",
        joined([_diagram(found.ranking), table]), tuple(lines(found)[0]), data,
    )  # fmt: skip


def _diagram(found: Ranking) -> Html:
    pairs = list(zip(found.names, found.ranks, strict=True))
    said = "; ".join(f"{name}: {rank:.2f}" for name, rank in pairs)
    return both(
        lambda width: _draw(width, pairs, found.cliques, found.critical),
        "Critical-difference diagram", f"Mean ranks: {said}",
    )  # fmt: skip


def _draw(
    width: int,
    pairs: Sequence[tuple[str, float]],
    cliques: Sequence[Sequence[str]],
    critical: float,
) -> Plot:
    """A line a row, best first; the critical difference to scale; bars at the right."""
    left = min(max(text_width(name) for name, _ in pairs) + 12, 0.42 * width)
    right = 24 + 12 * len(cliques)
    axis = Axis(1, len(pairs), "mean rank", count=width // 90)
    plot = Plot(width, (len(pairs) + 4) * 1.4 * LINE, axis, left=left, right=right, top=2 * LINE)
    a, b = plot.x(1), plot.x(min(1 + critical, len(pairs)))
    more = " (beyond the axis)" if 1 + critical > len(pairs) else ""
    plot.rule(a, LINE * 1.5, b, LINE * 1.5, "group")
    plot.text(a, LINE * 0.6, f"CD = {critical:.2f}{more}")
    step = (plot.y.start - plot.y.end) / len(pairs)
    place = {name: plot.y.end + (i + 0.5) * step for i, (name, _) in enumerate(pairs)}
    for name, rank in pairs:
        plot.rule(left, place[name], plot.x(rank), place[name])
        plot.text(left - 10, place[name], shortened(name, left - 12), "end")
        plot.dot(plot.x(rank), round(place[name], 1), "accent", title=f"{name}: {rank:.2f}")
    for i, group in enumerate(cliques):
        at = plot.width - right + 16 + 12 * i
        ends = [place[name] for name in group]
        plot.rule(at, min(ends) - 3, at, max(ends) + 3, "group")
    return plot
