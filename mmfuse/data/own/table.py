"""A manifest: the table, CSV or JSONL, that says which of the user's files make up an example.

Columns ``id``, ``split`` (train, valid, test), ``label`` (a class name or an integer) or ``target``
(a number), and one per modality: text, or the path of a file below the manifest's folder. A column
whose name begins with ``_`` is ignored. An empty cell is an absent modality.

UTF-8, with or without a byte order mark; invalid bytes become U+FFFD and are told. Rows are
numbered as a spreadsheet or an editor does: the header of a CSV is row 1, a JSONL starts with row
1. What is wrong is collected, not raised, so that one report can hold all of it.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePath

from mmfuse.data.safe.limits import MIB
from mmfuse.data.safe.texts import read_text
from mmfuse.errors import InputError, listed, nearest

KEYS = ("id", "split", "label", "target")
ENDINGS = {
    ".txt": "text file",
    **dict.fromkeys((".png", ".jpg", ".jpeg"), "picture"),
    **dict.fromkeys((".wav", ".flac", ".ogg"), "sound"),
    **dict.fromkeys((".npy", ".npz"), "features"),
}
MODALITY_KINDS = ("text", "picture", "sound", "features")
SIZE_LIMIT = 256 * MIB  # bytes of a manifest
AS_WRITTEN = {"parse_int": str, "parse_float": str, "parse_constant": str}  # numbers in JSON


@dataclasses.dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong, where it is, and what is allowed; row 0 and column "" = nowhere."""

    row: int
    column: str
    text: str

    def __str__(self) -> str:
        places = [f"row {self.row}"] if self.row else []
        places += [f"column '{self.column}'"] if self.column else []
        return " ".join(f"{', '.join(places)}{': ' if places else ''}{self.text}".split())


@dataclasses.dataclass(frozen=True)
class Row:
    """One example: its row number and its cells by column; "" = empty."""

    number: int
    cells: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Table:
    """What a manifest says, before any of its files is opened.

    ``kinds`` is {modality column: kind of its cells}: "text", "text file", "picture", "sound" or
    "features"; where a column mixes kinds, the more frequent one, and ``problems`` says so.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    kinds: dict[str, str]
    problems: tuple[Problem, ...]

    @property
    def modalities(self) -> dict[str, str]:
        """{column: one of MODALITY_KINDS}, in the order of their names."""
        return {name: self.kinds[name].removesuffix(" file") for name in sorted(self.kinds)}


def shown(value: str) -> str:
    """A cell in a message: quoted, escaped, and cut when it is long."""
    return repr(value if len(value) <= 60 else f"{value[:57]}...")


def read_table(path: str | Path) -> Table:
    """Reads a manifest.

    Raises:
      InputError: when there is no such file, it is too large, or it is neither CSV nor JSONL.
    """
    path = Path(path)
    readers = {".csv": _csv_rows, ".jsonl": _jsonl_rows}
    if path.suffix.lower() not in readers:
        raise InputError(f"manifest '{path}' must end in .csv or .jsonl")
    problems: list[Problem] = []
    columns, rows = readers[path.suffix.lower()](_text(path), problems)
    for row in rows:
        row.cells.update({name: row.cells[name].strip() for name in KEYS if name in row.cells})
    problems += _header_problems(columns, 1 if path.suffix.lower() == ".csv" else 0)
    kinds = {}
    for name in columns:
        if name not in KEYS and not name.startswith("_") and name not in kinds:
            kinds[name] = _column_kind(name, rows, path.parent, problems)
    if not kinds:
        problems.append(Problem(0, "", "no column holds a modality: add one, such as 'text'"))
    if not rows:
        problems.append(Problem(0, "", "no rows of examples"))
    return Table(path, tuple(columns), tuple(rows), kinds, tuple(problems))


def _text(path: Path) -> str:
    if not path.is_file():
        folder = path.parent if path.parent.is_dir() else Path()
        others = [str(p) for end in ("csv", "jsonl") for p in sorted(folder.glob(f"*.{end}"))]
        raise InputError(f"no manifest '{path}'{nearest(str(path), others)}{listed(others[:10])}")
    text = read_text(path, max_bytes=SIZE_LIMIT)
    if text.startswith("\ufffd\ufffd"):  # a byte order mark of UTF-16
        raise InputError(f"manifest '{path}' is not UTF-8; save it as UTF-8")
    return text


def _csv_rows(text: str, problems: list[Problem]) -> tuple[list[str], list[Row]]:
    records = _csv_records(text, problems)
    columns = [name.strip() for name in next(records, (1, []))[1]]
    if len(columns) == 1 and any(mark in columns[0] for mark in ";\t"):
        problems.append(Problem(1, "", f"one cell, {shown(columns[0])}: separate cells by commas"))
    rows = []
    for number, cells in records:
        if len(cells) == len(columns):
            rows.append(Row(number, dict(zip(columns, cells, strict=True))))
        else:
            problems.append(
                Problem(
                    number,
                    columns[len(cells)] if len(cells) < len(columns) else "",
                    f"ragged: {len(cells)} cells, but the header has {len(columns)}",
                )
            )
    return columns, rows


def _csv_records(text: str, problems: list[Problem]) -> Iterator[tuple[int, list[str]]]:
    """(row number, cells) of every record that is not blank; what cannot be read is a problem."""
    records, number = csv.reader(io.StringIO(text, newline=""), strict=True), 0
    while True:
        number += 1
        try:
            cells = next(records)
        except StopIteration:
            return
        except csv.Error as error:
            problems.append(Problem(number, "", f"not readable as CSV: {error}"))
            continue
        if cells:
            yield number, cells


def _jsonl_rows(text: str, problems: list[Problem]) -> tuple[list[str], list[Row]]:
    columns: dict[str, None] = {}
    found = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            pairs = json.loads(line, object_pairs_hook=tuple, **AS_WRITTEN)
        except (ValueError, RecursionError) as error:
            problems.append(Problem(number, "", f"not readable as JSON: {error}"))
            continue
        if not isinstance(pairs, tuple):
            problems.append(Problem(number, "", "not a JSON object such as {...}"))
            continue
        cells = {}
        for name, value in pairs:
            cells[name.strip()] = _json_cell(number, name, value, name in cells, problems)
        columns |= dict.fromkeys(cells)
        found.append((number, cells))
    rows = [Row(n, {name: cells.get(name, "") for name in columns}) for n, cells in found]
    return list(columns), rows


def _json_cell(number: int, name: str, value: object, again: bool, problems: list[Problem]) -> str:
    if again:
        problems.append(Problem(number, name, "given twice in one object"))
    if value is None or isinstance(value, str):
        halves = (value or "").encode("utf-16", "surrogatepass")  # a lone half of a pair is lost
        return halves.decode("utf-16", "replace")
    problems.append(Problem(number, name, "must be a string, a number or null"))
    return ""


def _header_problems(columns: list[str], row: int) -> Iterator[Problem]:
    for name, count in Counter(columns).items():
        if count > 1:
            yield Problem(row, name, f"bad header: {count} columns have this name")
        if not (name.isidentifier() or name.startswith("_")):
            yield Problem(row, name, f"bad header: {shown(name)}; use letters, digits and _ only")
    for name in ("id", "split"):
        if name not in columns:
            yield Problem(row, name, f"missing column{nearest(name, columns)}{listed(columns)}")
    given = [name for name in ("label", "target") if name in columns]
    if len(given) != 1:
        fault = "give label or target, not both" if given else "missing column (or 'target')"
        hint = "" if given else f"{nearest('label', columns)}{listed(columns)}"
        yield Problem(row, "label", f"{fault}{hint}")


def _column_kind(name: str, rows: list[Row], folder: Path, problems: list[Problem]) -> str:
    """The kind of the cells of a column; a mixed column is a problem that names rows of each."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row.cells[name].strip():
            found.setdefault(cell_kind(row.cells[name], folder), []).append(row)
    if not found:
        problems.append(Problem(0, name, "bad header: every cell of the column is empty"))
        return "text"
    main = max(found, key=lambda kind: len(found[kind]))
    for kind in found.keys() - {main}:
        first = found[kind][0]
        fault = (
            f"mixed column: {kind} in {_numbers(found[kind])} ({shown(first.cells[name])}), {main} "
            f"in {_numbers(found[main])}; a column holds one kind"
        )
        problems.append(Problem(first.number, name, fault))
    return main


def _numbers(rows: list[Row]) -> str:
    first = ", ".join(str(row.number) for row in rows[:3])
    return f"row{'s' if len(rows) > 1 else ''} {first}{', ...' if len(rows) > 3 else ''}"


def cell_kind(cell: str, folder: Path) -> str:
    """A known ending makes a path; a sentence that ends in one does, if there is such a file."""
    kind = ENDINGS.get(PurePath(cell.strip()).suffix.lower())
    sentence = len(cell.split()) > 1 and not os.path.isfile(folder / cell.strip())
    return "text" if kind is None or sentence else kind
