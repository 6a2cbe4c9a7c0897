"""Text, CSV, JSON and JSON Lines: limited in size and depth, every fault with its line.

One rule for all text: UTF-8, a byte order mark at the start is dropped, and bytes that are not
UTF-8 become U+FFFD, one for each maximal ill-formed sequence, as Unicode recommends. Nothing else
is changed: full-width letters, emoji and line ends stay as they are.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator
from typing import Any

from mmfuse.data.safe.limits import (
    MIB,
    DataError,
    Source,
    decoding,
    name_of,
    one_line,
    open_source,
    read_bytes,
)

MAX_BYTES = 64 * MIB
MAX_JSON = 16 * MIB  # of one JSON text: it takes up to 25 times as much in memory
MAX_COLUMNS = 4096
MAX_FIELD = 100_000  # characters of a CSV cell
MAX_CELLS = 1 << 21  # of a table; JSON values of a file
MAX_LINE = 4 * MIB  # characters of a JSON line
MAX_DEPTH = 32  # of JSON
Row = tuple[int, dict[str, Any]]


def read_text(source: Source, max_bytes: int = MAX_BYTES, name: str = "") -> str:
    """The text of a file; empty for an empty one.

    Raises:
      DataError: for a file that can not be opened or has more than ``max_bytes``.
    """
    return read_bytes(source, max_bytes, name).decode("utf-8", "replace").removeprefix("\ufeff")


def read_csv(source: Source, max_bytes: int = MAX_BYTES, name: str = "") -> list[Row]:
    """Reads a table with a header; cells are text, in quotes or not, separated by commas.

    Returns:
      [(line, {column: cell})]; ``line`` is where the row starts, the header being in line 1. Empty
      lines are skipped.

    Raises:
      DataError: with the line, for columns without name or named twice, a row with more or fewer
        cells than columns, an open quote, a NUL byte, or more than the limits of this module.
    """
    label = name_of(source, name)
    lines = _Lines(source, max_bytes, label, newline="")
    with lines, decoding(label, "CSV file"):
        table = _records(lines, label)
        start, columns = next(table, (1, []))
        _check_columns(columns, f"{label}, line {start}")
        rows = []
        for start, cells in table:
            where = f"{label}, line {start}"
            if len(cells) != len(columns):
                raise DataError(f"{where}: {len(cells)} cells; there are {len(columns)} columns")
            if (len(rows) + 1) * len(columns) > MAX_CELLS:
                raise DataError(f"{where}: more than {MAX_CELLS} cells")
            rows.append((start, dict(zip(columns, cells, strict=True))))
        return rows


def read_rows(
    source: Source, separator: str, columns: int, max_bytes: int = MAX_BYTES, name: str = ""
) -> list[tuple[int, list[str]]]:
    """Reads a table without header: ``[(line, cells)]``; empty lines are skipped.

    Raises:
      DataError: with the line, for a row that has not exactly so many columns, a NUL byte, or more
        than the limits of this module.
    """
    label = name_of(source, name)
    rows = []
    with _Lines(source, max_bytes, label, newline="\n") as lines:
        for line in lines:
            cells = line.rstrip("\r\n").split(separator)
            if cells == [""]:
                continue
            where = f"{label}, line {lines.number}"
            if len(cells) != columns:
                raise DataError(f"{where}: {len(cells)} cells; expected {columns}")
            if (len(rows) + 1) * columns > MAX_CELLS:
                raise DataError(f"{where}: more than {MAX_CELLS} cells")
            rows.append((lines.number, cells))
    return rows


def read_jsonl(source: Source, max_bytes: int = MAX_BYTES, name: str = "") -> list[Row]:
    """Reads one JSON object a line.

    Returns:
      [(line, object)]; empty lines are skipped.

    Raises:
      DataError: with the line, for what is not an object, a key that comes twice, NaN, numbers
        beyond float64, half a surrogate pair, or more than the limits of this module.
    """
    label = name_of(source, name)
    rows, count = [], 0
    with _Lines(source, max_bytes, label, newline="\n") as lines:
        for line in lines:
            if not line.strip():
                continue
            where = f"{label}, line {lines.number}"
            if len(line) > MAX_LINE:
                raise DataError(f"{where}: more than {MAX_LINE} characters")
            row = _parse(line, where)
            if not isinstance(row, dict):
                raise DataError(f"{where}: a JSON {_kind(row)}; need an object")
            count += _count(row, where)
            if count > MAX_CELLS:
                raise DataError(f"{where}: more than {MAX_CELLS} values")
            rows.append((lines.number, row))
    return rows


def read_json(source: Source, max_bytes: int = MAX_JSON, name: str = "") -> Any:
    """Reads a file that is one JSON value; see `read_jsonl` for what is refused."""
    label = name_of(source, name)
    value = _parse(read_text(source, max_bytes, name), label)
    if _count(value, label) > MAX_CELLS:
        raise DataError(f"{label}: more than {MAX_CELLS} values")
    return value


class _Lines:
    """The lines of a source by the rule for text; counts them, and refuses NUL."""

    def __init__(self, source: Source, max_bytes: int, label: str, newline: str):
        self._label, self.number = label, 0
        stream, _ = open_source(source, max_bytes, label)
        self._text = io.TextIOWrapper(stream, "utf-8-sig", "replace", newline)

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *error: object) -> None:
        self._text.close()

    def __iter__(self) -> Iterator[str]:
        for line in self._text:
            self.number += 1
            if "\0" in line:
                raise DataError(f"{self._label}, line {self.number}: a NUL byte; is this text?")
            yield line


def _records(lines: _Lines, label: str) -> Iterator[tuple[int, list[str]]]:
    """(the line it starts in, cells) of every record that is not empty."""
    reader = csv.reader(iter(lines), strict=True)
    start = 1
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(f"{label}, line {start}: {one_line(error)}") from error
        if len(cells) > MAX_COLUMNS or any(len(cell) > MAX_FIELD for cell in cells):
            raise DataError(
                f"{label}, line {start}: more than {MAX_COLUMNS} cells, or {MAX_FIELD} characters "
                "in one"
            )
        if cells:
            yield start, cells
        start = lines.number + 1


def _check_columns(columns: list[str], where: str) -> None:
    if not columns:
        raise DataError(f"{where}: no header; the first line names the columns")
    for number, column in enumerate(columns, 1):
        if not column.strip():
            raise DataError(f"{where}: column {number} has no name")
        if columns.index(column) != number - 1:
            raise DataError(f"{where}: two columns are named '{one_line(column, 60)}'")


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(
            text,
            object_pairs_hook=lambda pairs: _object(pairs, where),
            parse_float=_finite,
            parse_constant=_constant,
        )
    except RecursionError as error:
        raise DataError(f"{where}: JSON of more than {MAX_DEPTH} levels") from error
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{where}: not JSON ({one_line(error)})") from error


def _object(pairs: list[tuple[str, Any]], where: str) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in found if keys.count(key) > 1)
        raise DataError(f"{where}: key '{one_line(twice, 60)}' comes twice")
    return found


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{one_line(text, 20)} is beyond float64")
    return value


def _constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON number")


def _count(value: Any, where: str, depth: int = 0) -> int:
    """The number of values in a JSON value; checks its depth and its text."""
    if depth > MAX_DEPTH:
        raise DataError(f"{where}: JSON of more than {MAX_DEPTH} levels")
    if isinstance(value, str):
        return 1 + _check_text(value, where)
    if isinstance(value, dict):
        return 1 + sum(
            _check_text(key, where) + _count(item, where, depth + 1) for key, item in value.items()
        )
    if isinstance(value, list):
        return 1 + sum(_count(item, where, depth + 1) for item in value)
    return 1


def _check_text(text: str, where: str) -> int:
    """Refuses what JSON can escape and UTF-8 can not hold; returns 0."""
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise DataError(f"{where}: half a surrogate pair in '{one_line(text, 40)}'")
    return 0


def _kind(value: Any) -> str:
    kinds = {list: "array", str: "string", bool: "boolean", type(None): "null"}
    return kinds.get(type(value), "number")
