"""A comparison table as HTML: the cells of :mod:`mmfuse.cells`, sortable by their headers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from mmfuse import cells, published
from mmfuse.cells import UNLIKE, Cell
from mmfuse.markup import Html, joined, tag
from mmfuse.summary import Table

POWERS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
NUMBER = re.compile(r"([+-]?[\d,]*\.?\d+)(?: ([kMGT]))?(?![\w.])")
BRACKET = re.compile(r"\(.*\)|\[.*\]")


def main_table(table: Table, caption: str) -> Html:
    """The trained rows, which can be sorted, and below a rule the known bounds, which stay."""
    titles = cells.header(table, clocks=True)
    heads = [
        tag("th", tag("button", title, type="button"), scope="col", aria_sort="none")
        for title in titles
    ]
    trained = [_line(line) for line in cells.body(table, clocks=True)]
    bounds = [_line(line) for line in cells.bounds(table, len(titles))]
    return scrolled(
        tag(
            "table",
            tag("caption", caption),
            tag("thead", tag("tr", *heads)),
            tag("tbody", *trained),
            tag("tbody", *bounds) if bounds else "",
            class_="main sortable",
        ),
        caption,
    )


def note_list(table: Table) -> Html:
    """The notes below the table, those on published figures among them."""
    notes = (*table.notes, *published.notes(table.published, UNLIKE), *table.local_notes)
    return tag("ul", *(tag("li", x) for x in notes), class_="notes")


def published_table(table: Table) -> Html:
    """Published figures beside ours; nothing where there are none."""
    if not table.published:
        return joined(())
    lines = [[cell.text for cell in line] for line in cells.published(table)]
    caption = "Published figures beside ours"
    return scrolled(simple_table(caption, cells.PUBLISHED, lines, "main"), caption)


def simple_table(
    caption: str, heads: Sequence[str], rows: Iterable[Sequence[Any]], class_: str | None = None
) -> Html:
    """A table whose first column names its rows."""
    lines = [
        tag("tr", tag("th", first, scope="row"), *(tag("td", cell) for cell in rest))
        for first, *rest in rows
    ]
    return tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", *(tag("th", head, scope="col") for head in heads))),
        tag("tbody", *lines),
        class_=class_,
    )


def scrolled(content: Html, label: str, class_: str = "scroll") -> Html:
    """Content that may be wider than a phone: it scrolls by itself, by keyboard too."""
    return tag("div", content, class_=class_, role="region", aria_label=label, tabindex=0)


def sort_key(text: str) -> str:
    """What a cell is sorted by: the number it begins with, else the text; nothing sorts last.

    ``1.23 M`` counts as 1230000, ``93.21 ± 0.45`` as 93.21, ``2/3, 1 failed`` as 2.
    """
    if text in (cells.UNDEFINED, ""):
        return ""
    found = NUMBER.match(text)
    if not found:
        return text
    return repr(float(found[1].replace(",", "")) * POWERS[found[2] or ""])


def _line(line: Sequence[Cell]) -> Html:
    name, *rest = line
    head = tag("th", name.text, scope="row", data_sort=name.text)
    return tag("tr", head, *map(_datum, rest))


def _datum(cell: Cell) -> Html:
    """A cell; a line may break between words and before a bracket, not within a number."""
    words = "says" if cell.text[:1].isalpha() or BRACKET.search(cell.text) else None
    text = BRACKET.sub(lambda found: found[0].replace(" ", "\u00a0"), cell.text)
    content = tag("b", text) if cell.bold else text
    return tag("td", content, data_sort=sort_key(cell.text), class_=words)
