"""What ``experiments.probe`` found: modalities, noise, missing inputs, attention, latency."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmfuse.markup import Html, joined, tag
from mmfuse.measures import interval, measure
from mmfuse.report.grid import scrolled, simple_table
from mmfuse.report.page import Figure, axis_title
from mmfuse.report.panel import SERIES, folded, legend, panel, scaled, spread
from mmfuse.report.svg import spanning
from mmfuse.stats import Summary
from mmfuse.summary import Table

MEANING = {
    "modalities": "Whether a row uses every modality",
    "noise": "Robustness to noise",
    "missing": "Robustness to missing inputs",
    "attention": "Attention and its faithfulness",
    "samples": "What it generates",
    "latency": "Latency",
}
KINDS = tuple(MEANING)
CURVES = {
    "noise": "With noise in one modality",
    "modality": "With one modality missing in part of the examples",
    "steps": "With steps of one modality missing",
}
PARTS = ("n", "mean", "low", "high")


def known(table: Table, content: Mapping[str, Any]) -> dict[str, Any]:
    """The probed rows that the table has, in its order."""
    return {
        row.name: content["rows"][row.name] for row in table.rows if row.name in content["rows"]
    }


def series(modalities: Sequence[str]) -> list[tuple[str, str]]:
    """(class, words) of the line of each modality."""
    return list(zip(itertools.cycle(SERIES), modalities))


def curve_figures(table: Table, content: Mapping[str, Any], prefix: str) -> Iterator[Figure]:
    """Yields, for each kind of curve, a panel a row with one line a modality."""
    rows, m = known(table, content), measure(content["metric"])
    lines_of = series(content["modalities"])
    for kind, title in CURVES.items():
        found = {
            name: [curve for curve in row["curves"] if curve["kind"] == kind]
            for name, row in rows.items()
        }
        found = {name: curves for name, curves in found.items() if curves}
        figure = _curves(f"{prefix}{kind}", title, found, m, lines_of) if found else None
        if figure:
            yield figure


def _curves(name: str, title: str, found: Mapping, m: Any, lines_of: Sequence) -> Figure | None:
    class_of = {modality: class_ for class_, modality in lines_of}
    lines = {
        row: [(class_of[curve["modality"]], _points(curve, m.scale)) for curve in curves]
        for row, curves in found.items()
    }
    every = [s for of in lines.values() for _, points in of for _, s in points if s.n]
    if not every:
        return None
    first = next(iter(found.values()))[0]
    places = [v for curves in found.values() for curve in curves for v in curve["x"]]
    x = spanning(places, first["axis"], count=4)
    y = spanning([v for s in every for v in (s.low, s.high)], count=4)
    panels = [
        tag("div", tag("p", row, class_="name"), panel(row, x, y, of)) for row, of in lines.items()
    ]
    caption = (
        f"{axis_title(m)} on the test split against {first['axis']}. Line: mean over seeds; band: "
        "lowest to highest seed. The changed inputs are the same for every row and seed."
    )
    data = [
        (row, curve["modality"], at, *(p["summary"][part] for part in PARTS))
        for row, curves in found.items() for curve in curves
        for at, p in zip(curve["x"], curve["points"], strict=True)
    ]  # fmt: skip
    seen = {curve["modality"] for curves in found.values() for curve in curves}
    read = [entry for entry in lines_of if entry[1] in seen]
    key = legend(read)
    areas = _areas(found, f"{axis_title(m)}, mean height over {first['axis']}", m, read)
    picture = tag("div", key, folded(panels, "panels"), areas)
    return Figure(name, title, caption, picture, ("method", "modality", "x", *PARTS), data)


def _areas(found: Mapping[str, Any], caption: str, m: Any, read: Sequence[tuple]) -> Html:
    """The area under each line by its width, with the 95 % interval: a column a modality."""
    lines = []
    for row, curves in found.items():
        of = {curve["modality"]: curve["area"]["summary"] for curve in curves}
        lines.append([row, *(interval(of.get(modality, {}), m, "") for _, modality in read)])
    heads = ["Method", *(modality for _, modality in read)]
    return scrolled(simple_table(caption, heads, lines), caption)


def _points(curve: Mapping[str, Any], scale: float) -> list[tuple[float, Summary]]:
    """(x, what the seeds scored there)."""
    values = [[v for v in p["values"].values() if v is not None] for p in curve["points"]]
    return [(x, spread(of, scale)) for x, of in zip(curve["x"], values, strict=True)]


def modality_figure(table: Table, content: Mapping[str, Any], prefix: str) -> Figure | None:
    """What each row loses without a modality, as a table: it is read, and it is compared."""
    rows, m = known(table, content), measure(content["metric"])
    if not rows:
        return None
    data = [
        (name, *_key(p), p["summary"]["mean"], *(p["difference"][part] for part in PARTS))
        for name, row in rows.items() for p in row["points"]
    ]  # fmt: skip
    caption = (
        "Shuffled: replaced by that of another example, so that only the pairing is lost. In "
        "brackets the 95 % interval over seeds. A change near zero says that the row does not "
        "use the input."
    )
    tables = [_changed(rows, kind, m) for kind in dict.fromkeys(line[1] for line in data)]
    columns = ("method", "change", "modalities", "score", *(f"difference_{x}" for x in PARTS))
    title = f"What {m.title} loses without an input"
    return Figure(f"{prefix}modalities", title, caption, joined(tables), columns, data)


def _changed(rows: Mapping[str, Any], changed: str, m: Any) -> Html:
    """The table of one kind of change: a line a row, a column for each set of modalities."""
    of_row = {
        name: {names: p for p in row["points"] for kind, names in [_key(p)] if kind == changed}
        for name, row in rows.items()
    }
    sets = list(dict.fromkeys(names for points in of_row.values() for names in points))
    lines = [
        [name, plain(scaled(rows[name]["clean"]["summary"], m.scale), m),
         *(interval(points.get(names, {}).get("difference", {}), m) for names in sets)]
        for name, points in of_row.items()
    ]  # fmt: skip
    caption = f"Change of {m.title}{' in points' if m.scale == 100 else ''}: input {changed}"
    return scrolled(simple_table(caption, ["Method", "Clean", *sets], lines), caption)


def _key(point: Mapping[str, Any]) -> tuple[str, str]:
    return point["change"], "+".join(point["modalities"])


def plain(s: Summary, m: Any) -> str:
    """A mean in the digits of its metric, or a dash."""
    return "-" if s.mean is None else f"{s.mean:.{m.digits}f}"


def latencies(
    table: Table, content: Mapping[str, Any], key: str
) -> dict[tuple[str, int], dict[str, float]]:
    """``{row: milliseconds}`` of ``at_one`` or ``at_best`` on each machine: (device, cores)."""
    found: dict[tuple[str, int], dict[str, float]] = {}
    for name, row in known(table, content).items():
        if row.get(key) is not None:
            machine = row["device"], row["cores"]
            found.setdefault(machine, {})[name] = row[key] * 1e3
    return found
