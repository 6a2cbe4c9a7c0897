"""Prints a table as Markdown, CSV, LaTeX, JSON or HTML. No jax: a table is a function of records.

``json`` and ``tex`` hold only what a rerun reproduces, so that they can be compared by sha256;
``md``, ``csv`` and ``html`` also hold train times, which are measured.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

from mmfuse import cells, published
from mmfuse.cells import Cell
from mmfuse.errors import InputError, nearest
from mmfuse.markup import tag
from mmfuse.measures import measure
from mmfuse.mixing import refuse_mixed
from mmfuse.notes import UNLIKE
from mmfuse.published import Published
from mmfuse.record import dumps
from mmfuse.report.grid import main_table, note_list, published_table
from mmfuse.report.page import document
from mmfuse.summary import CLOCKS, STORED, Row, Table, summarise

__all__ = ["FORMATS", "Table", "refuse_mixed", "render", "summarise"]

TEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$",
    "#": r"\#", "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}",
    "±": r"$\pm$", "Δ": r"$\Delta$", "†": r"\textdagger{}",
    "‡": r"\textdaggerdbl{}", "§": r"\S{}", "↓": r"$\downarrow$",
}  # fmt: skip


def render(table: Table, format: str) -> str:
    """Returns the table as text that ends in a newline.

    Args:
      table: of :func:`summarise`.
      format: one of ``FORMATS``: ``md``, ``csv``, ``tex`` (booktabs), ``json`` or
        ``html`` (a page that needs no other file).

    Raises:
      InputError: another format.
    """
    if format not in FORMATS:
        allowed = ", ".join(FORMATS)
        raise InputError(f"unknown format '{format}'{nearest(format, FORMATS)}; allowed: {allowed}")
    return FORMATS[format](table)


def _markdown(table: Table) -> str:
    titles = cells.header(table, clocks=True)
    header = [escape_markdown(title) for title in titles]
    body = [_each(_bold_markdown, line) for line in cells.body(table, clocks=True)]
    bounds = [_each(_bold_markdown, line) for line in cells.bounds(table, len(titles))]
    notes = [f"- {escape_markdown(note)}" for note in (*_notes(table), *table.local_notes)]
    lines = [*grid(header, body, bounds), ""]
    if table.published:
        beside = [_each(_bold_markdown, line) for line in cells.published(table)]
        lines += [*grid(list(cells.PUBLISHED), beside), ""]
    return "\n".join([*lines, *notes]) + "\n"


def _notes(table: Table) -> tuple[str, ...]:
    return (*table.notes, *published.notes(table.published, UNLIKE))


def grid(header: list[str], body: list[list[str]], below: list[list[str]] = ()) -> list[str]:
    """Returns the aligned lines of a Markdown table of cells that are escaped already.

    ``below`` stands under a rule of its own.
    """
    widths = [max(map(_width, column)) for column in zip(header, *body, *below, strict=True)]
    rule = ["-" * max(widths[0], 3), *("-" * max(width - 1, 2) + ":" for width in widths[1:])]
    widths = [len(dashes) for dashes in rule]
    # Markdown has no rule inside a table; a row of dashes reads as one in text and on a page.
    between = [["—" * min(width, 3) for width in widths]] if below else []
    return [_padded(line, widths) for line in [header, rule, *body, *between, *below]]


def _each(make: Callable[[Cell], str], line: list[Cell]) -> list[str]:
    return [make(cell) for cell in line]


def _padded(line: list[str], widths: list[int]) -> str:
    """Returns one line: the first column to the left, all others to the right."""
    gaps = [" " * (width - _width(text)) for text, width in zip(line, widths, strict=True)]
    rest = [gap + text for gap, text in zip(gaps[1:], line[1:], strict=True)]
    return f"| {' | '.join([line[0] + gaps[0], *rest])} |"


def _width(text: str) -> int:
    """Returns the columns that a terminal needs: Chinese characters take two."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) > 0 for c in text)


def _bold_markdown(cell: Cell) -> str:
    return f"**{escape_markdown(cell.text)}**" if cell.bold else escape_markdown(cell.text)


def escape_markdown(text: str) -> str:
    """Returns text that Markdown shows as it is, inside a table cell too."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    text = re.sub(r"([\\|*`])", r"\\\1", text).replace("](", "]\\(")
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)  # inside a word it stays as it is


def escape_tex(text: str) -> str:
    """Returns text that LaTeX prints as it is."""
    return "".join(TEX.get(character, character) for character in " ".join(text.split()))


def _tex(table: Table) -> str:
    titles = cells.header(table, clocks=False)
    body = [_tex_line(_each(_bold_tex, line)) for line in cells.body(table, clocks=False)]
    bounds = [_tex_line(_each(_bold_tex, line)) for line in cells.bounds(table, len(titles))]
    lines = [
        "% needs \\usepackage{booktabs} and \\usepackage{textcomp}",
        r"\begin{tabular}{l" + "r" * (len(titles) - 1) + "}",
        r"\toprule",
        _tex_line([escape_tex(title) for title in titles]),
        r"\midrule",
        *body,
        *([r"\midrule"] if bounds else []),
        *bounds,
        r"\bottomrule",
        r"\end{tabular}",
        *_tex_published(table),
        "",
        r"\smallskip",
        *(rf"{{\footnotesize {escape_tex(note)}\par}}" for note in _notes(table)),
    ]
    return "\n".join(lines) + "\n"


def _tex_published(table: Table) -> list[str]:
    if not table.published:
        return []
    titles = [escape_tex(title) for title in cells.PUBLISHED]
    body = [_tex_line(_each(_bold_tex, line)) for line in cells.published(table)]
    begin = r"\begin{tabular}{ll" + "r" * (len(titles) - 2) + "}"
    lines = [begin, r"\toprule", _tex_line(titles), r"\midrule", *body]
    return ["", r"\medskip", *lines, r"\bottomrule", r"\end{tabular}"]


def _tex_line(line: list[str]) -> str:
    return " & ".join(line) + r" \\"


def _bold_tex(cell: Cell) -> str:
    # A first cell that begins with a bracket would be read as the argument of the \\ before it.
    text = re.sub(r"^\[", "{[}", escape_tex(cell.text))
    text = re.sub(r"(?<![\w.])-(?=\d)", "$-$", text)  # a minus, not a hyphen
    return rf"\textbf{{{text}}}" if cell.bold else text


PARTS = ("mean", "sd", "n", "low", "high")
COMPARISON = ("t", "p", "holm", "exact", "exact_holm", "effect", "significant", "reason")
ITEMS = ("n", "error", "low", "high", "p", "holm", "both_error", "both_low", "both_high",
         "mcnemar_mean")  # fmt: skip


def _csv(table: Table) -> str:
    """One line a row, numbers in full and in the metric's own unit (a share, not per cent)."""
    lines = [_csv_row(row, table.columns) for row in table.rows]
    for kind, references in (("reference", table.references), ("floor", table.floors)):
        for reference in references:
            means = {f"{metric}_mean": value for metric, value in reference["values"].items()}
            lines.append({"method": reference["name"], "kind": kind, **means})
    lines += [_csv_published(entry) for entry in table.published]
    out = io.StringIO()
    fields = dict.fromkeys(key for line in lines for key in line)
    writer = csv.DictWriter(out, list(fields), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


def _csv_row(row: Row, columns: Sequence[str]) -> dict[str, Any]:
    line = {"method": row.name, "kind": "trained", "seeds": cells.seeds_text(row)}
    for column in columns:
        line |= _parts(column, row.metrics[column], PARTS)
    line |= _parts("difference", row.difference, PARTS)
    line |= _parts("difference", row.comparison, COMPARISON)
    line |= {"group": row.group, "collapsed": len(row.collapsed)}
    line |= _parts("noise", row.noise, ("n", "error")) | _parts("items", row.items, ITEMS)
    return (
        line
        | {
            "optimum": row.optimum,
            "parameters": row.parameters,
            "flops_per_example": row.flops,
            "train_seconds": row.train_seconds,
        }
        | _known(row, (*STORED, *CLOCKS[1:]))
    )


def _known(row: Row, keys: Sequence[str]) -> dict[str, Any]:
    return {key: getattr(row, key) for key in keys if getattr(row, key) is not None}


def _csv_published(entry: Published) -> dict[str, Any]:
    return {
        "method": entry.method,
        "kind": "published",
        f"{entry.metric}_mean": entry.value,
        "published_ours": entry.ours,
        "published_difference": entry.difference,
        "published_inside": entry.inside,
        "published_unlike": "; ".join(entry.unlike),
        "published_source": entry.source,
    }


def _parts(name: str, what: Any, parts: Sequence[str]) -> dict[str, Any]:
    return {f"{name}_{part}": None if what is None else getattr(what, part) for part in parts}


def _json(table: Table) -> str:
    return dumps(
        {
            "format": 1,
            "metric": table.metric,
            "columns": table.columns,
            "baseline": table.baseline,
            "seeds": table.seeds,
            "rows": [_json_row(row) for row in table.rows],
            "references": table.references,
            "floors": table.floors,
            "published": [dataclasses.asdict(entry) for entry in table.published],
            "notes": _notes(table),
        }
    )


def _json_row(row: Row) -> dict[str, Any]:
    content = dataclasses.asdict(row)
    for key in CLOCKS:
        del content[key]
    return content


def _html(table: Table) -> str:
    title = f"{measure(table.metric).title} and cost of {len(table.rows)} rows"
    heading = tag("h1", title)
    parts = (main_table(table, title), published_table(table), note_list(table))
    return document(title, tag("main", heading, *parts, id="content"))


FORMATS: dict[str, Callable[[Table], str]] = {
    "md": _markdown,
    "csv": _csv,
    "tex": _tex,
    "json": _json,
    "html": _html,
}
