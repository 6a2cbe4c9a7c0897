"""The cells of a printed table: the same text for Markdown and LaTeX, before either's escapes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from mmfuse.measures import Measure, measure, p_value
from mmfuse.notes import MARK, MISSED, UNLIKE
from mmfuse.published import Published
from mmfuse.stats import Summary
from mmfuse.summary import Row, Table

UNDEFINED = "-"


@dataclasses.dataclass(frozen=True)
class Cell:
    """A piece of plain text, and whether it is printed bold."""

    text: str
    bold: bool = False


def header(table: Table, clocks: bool) -> list[str]:
    """Returns the column titles; ``clocks`` adds what is measured."""
    first = measure(table.metric)
    titles = ["Method"]
    for metric in table.columns:
        m = measure(metric)
        titles.append(m.title + ("" if m.higher else " ↓") + (f" ({m.unit})" if m.unit else ""))
    if any(row.optimum is not None for row in table.rows):
        titles.insert(2, f"Optimum ({first.unit})" if first.unit else "Optimum")
    titles += [f"Δ {table.compared_with}", "Difference", "Seeds", "Parameters", "FLOPs"]
    if table.stored:
        titles += ["Effective FLOPs", "Sparsity (%)", "Size"]
    titles += ["Exported", "Latency"] if table.stored and clocks else []
    return titles + (["Train time"] if clocks else [])


def body(table: Table, clocks: bool) -> Iterator[list[Cell]]:
    """Yields the cells of each trained row, in the order of the header."""
    first, seeds = measure(table.metric), len(table.seeds)
    for row in table.rows:
        cells = [Cell(name(row))]
        for metric in table.columns:
            text = mean_sd(row.metrics[metric], measure(metric), seeds)
            cells.append(Cell(text, metric in row.best))
        if any(other.optimum is not None for other in table.rows):
            cells.insert(2, Cell(number(row.optimum, first)))
        cells += [Cell(versus(row, first)), Cell(verdict(row)), Cell(seeds_text(row))]
        cells += [Cell(count(row.parameters)), Cell(flops(row.flops))]
        if table.stored:
            cells += [Cell(text) for text in stored(row, table, clocks)]
        yield cells + ([Cell(seconds(row.train_seconds))] if clocks else [])


def bounds(table: Table, width: int) -> Iterator[list[Cell]]:
    """Yields the rows below the rule; a bound has one value and neither seeds nor cost."""
    optimum = any(row.optimum is not None for row in table.rows)
    for reference in (*table.references, *table.floors):
        cells = [Cell(reference["name"])]
        values = reference["values"]
        cells += [Cell(number(values.get(metric), measure(metric))) for metric in table.columns]
        if optimum:
            cells.insert(2, Cell(""))
        yield cells + [Cell("")] * (width - len(cells))


PUBLISHED = ("Method", "Metric", "Published", "Ours", "Ours - published", "In our interval")


def published(table: Table) -> Iterator[list[Cell]]:
    """Yields the cells of every published figure, in the order of ``PUBLISHED``."""
    for entry in table.published:
        m = measure(entry.metric)
        unit = f" ({m.unit})" if m.unit else ""
        figures = [number(entry.value, m), number(entry.ours, m)]
        cells = [entry.method, m.title + unit, *figures, _difference(entry, m), _inside(entry)]
        yield [Cell(text) for text in cells]


def _difference(entry: Published, m: Measure) -> str:
    if entry.difference is None:
        return UNDEFINED
    return f"{m.rounded(entry.difference):+.{m.digits}f}" + f" {UNLIKE}" * bool(entry.unlike)


def _inside(entry: Published) -> str:
    if entry.unlike:
        return f"unlike {UNLIKE}"
    return UNDEFINED if entry.inside is None else "inside" if entry.inside else "outside"


def name(row: Row) -> str:
    """Returns the row's name, and what marks the whole row."""
    collapsed = row.collapsed and len(row.collapsed) == len(row.seeds["done"])
    marks = [MISSED] * row.budget_missed + ["(collapsed)"] * bool(collapsed)
    return " ".join([row.name, *marks])


def number(value: float | None, m: Measure) -> str:
    """Returns ``93.21`` in the metric's own unit and digits."""
    return UNDEFINED if value is None else f"{m.rounded(value):.{m.digits}f}"


def mean_sd(s: Summary, m: Measure, seeds: int) -> str:
    """Returns ``93.21 ± 0.45``, marked if it is over fewer seeds than the table has."""
    spread = "" if s.sd is None else f" ± {number(s.sd, m)}"
    mark = f" {MARK}" if 0 < s.n < seeds else ""
    return number(s.mean, m) + spread + mark


def versus(row: Row, m: Measure) -> str:
    """Returns ``+1.23 [+0.10, +2.36]``: the paired difference and its 95 % t-interval."""
    d = row.difference
    if d is None:
        return "baseline"
    if d.mean is None:
        return UNDEFINED
    mean, low, high = (
        "" if x is None else f"{m.rounded(x):+.{m.digits}f}" for x in (d.mean, d.low, d.high)
    )
    return f"{mean} [{low}, {high}]" if low else mean


def verdict(row: Row) -> str:
    """Returns ``significant (p = 0.004, g = +2.10)``, ``not significant (...)``, ``not tested``."""
    c = row.comparison
    if c is None:
        return ""
    if c.holm is None:
        return "not tested"
    word = "significant" if c.significant else "not significant"
    return f"{word} ({p_value(c.holm)}, g = {round(c.effect, 2) + 0.0:+.2f})"


def seeds_text(row: Row) -> str:
    """Returns ``3``, or ``2/3, 1 diverged``, or ``3, 2 collapsed``."""
    total = sum(map(len, row.seeds.values()))
    lost = [f"{len(s)} {status}" for status, s in row.seeds.items() if s and status != "done"]
    first = f"{len(row.seeds['done'])}/{total}" if lost else str(total)
    collapsed = [f"{len(row.collapsed)} collapsed"] if row.collapsed else []
    return ", ".join([first, *lost, *collapsed])


def stored(row: Row, table: Table, clocks: bool) -> list[str]:
    """Returns what the stored model takes; sizes also as shares of those of its baseline."""
    base = next((r for r in table.rows if r.name == row.baseline), None)
    sparsity = UNDEFINED if row.sparsity is None else f"{100 * row.sparsity:.1f}"
    size = kilobytes(row.size_bytes, base and base.size_bytes)
    found = [flops(row.effective_flops), sparsity, size]
    if clocks:
        exported = kilobytes(row.exported_bytes, base and base.exported_bytes)
        found += [exported, microseconds(row.latency_seconds)]
    return found


def kilobytes(value: float | None, base: float | None) -> str:
    """Returns ``123.4 kB (27 %)``: the share of ``base``, where there is one."""
    if value is None:
        return UNDEFINED
    share = f" ({100 * value / base:.0f} %)" if base else ""
    return f"{value / 1000:,.1f} kB{share}"


def microseconds(value: float | None) -> str:
    """Returns ``123 µs``."""
    return UNDEFINED if value is None else f"{1e6 * value:,.0f} µs"


def count(value: int | None) -> str:
    """Returns ``12,345``."""
    return UNDEFINED if value is None else f"{value:,}"


def flops(value: float | None) -> str:
    """Returns ``1.23 M``: three digits and a power of 1000."""
    if value is None:
        return UNDEFINED
    for letter in ("", "k", "M", "G", "T"):
        if value < 999.5 or letter == "T":
            break
        value /= 1000
    digits = 0 if not letter or value >= 99.95 else 1 if value >= 9.995 else 2
    return f"{value:,.{digits}f} {letter}".strip()


def seconds(value: float | None) -> str:
    """Returns ``12.3 s``."""
    return UNDEFINED if value is None else f"{value:,.1f} s"
