"""The HTML document round a report: its style, its one script, and its figures with their data."""

from __future__ import annotations

import base64
import csv
import dataclasses
import hashlib
import io
from collections.abc import Sequence
from importlib import resources
from typing import Any

from mmfuse.markup import Html, data_uri, tag
from mmfuse.report.grid import scrolled, simple_table

SHOWN = 40  # lines of a figure's data on the page; all of them are in its CSV


@dataclasses.dataclass(frozen=True)
class Figure:
    """A picture, what it shows, and the numbers that it was drawn from.

    Attributes:
      name: of its CSV file, without the ending.
      title, caption: plain text.
      picture: SVG or other markup.
      columns, rows: the numbers, in full.
    """

    name: str
    title: str
    caption: str
    picture: Html
    columns: tuple[str, ...]
    rows: Sequence[Sequence[Any]]

    def csv(self) -> str:
        """The numbers as CSV."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(self.rows)
        return out.getvalue()


def document(title: str, *body: Any) -> str:
    """One page that loads nothing: the browser is told to refuse whatever is not in this file."""
    style, script = (_text(name) for name in ("page.css", "page.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", Html(style)),
    ]
    content = [tag("a", "Skip to the content", href="#content", class_="skip"), *body]
    page = tag("html", tag("head", *head), tag("body", *content, tag("script", Html(script))),
               lang="en")  # fmt: skip
    return f"<!doctype html>\n{page}\n"


def shown(figure: Figure, folder: str, level: int = 3) -> Html:
    """The figure with its title, its caption and its data; ``folder`` holds its CSV file."""
    file = f"{figure.name}.csv"
    uri = data_uri("text/csv;charset=utf-8", figure.csv().encode())
    link = tag("a", file, href=uri, download=file)
    first = [[_cell(value) for value in row] for row in figure.rows[:SHOWN]]
    count = len(figure.rows)
    part = f"the first {SHOWN} of {count} lines" if count > SHOWN else f"{count} lines"
    table = simple_table(f"{figure.title}: {part}", figure.columns, first)
    return tag(
        "figure",
        tag(f"h{level}", figure.title),
        figure.picture,
        tag("figcaption", figure.caption),
        tag(
            "details",
            tag("summary", "Data"),
            tag("p", "In full: ", link, f" (also in {folder}/)"),
            scrolled(table, f"Data of: {figure.title}", "scroll tall"),
            class_="data",
        ),
    )


def section(identity: str, title: str, *content: Any, level: int = 3) -> Html:
    """A part of the page that can be linked to."""
    heading = tag(f"h{level}", title, id=f"{identity}-title")
    return tag("section", heading, *content, id=identity, aria_labelledby=f"{identity}-title")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _text(name: str) -> str:
    return (resources.files("mmfuse.report") / name).read_text(encoding="utf-8")


def listed(*items: Any, **attributes: Any) -> Html:
    """An unordered list."""
    return tag("ul", *(tag("li", item) for item in items), **attributes)


def axis_title(m: Any) -> str:
    """``Accuracy (%)``."""
    return m.title + (f" ({m.unit})" if m.unit else "")
