"""What can be wrong with a manifest as a whole, once its cells are read: one Problem each."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from mmfuse.data.own.cells import Facts
from mmfuse.data.own.table import Problem, Row, Table, shown
from mmfuse.errors import nearest

SPLITS = ("train", "valid", "test")
ALLOWANCES = {  # what a manifest may hold when its user says so
    "outside": "paths outside the manifest's folder",
    "shared": "the same file content in two splits",
    "rare": "classes with one example",
}
INTEGER = re.compile(r"-?\d{1,18}")
Found = dict[tuple[int, str], Facts]  # {(row number, column): what the cell holds}


def split_problems(rows: Iterable[Row]) -> Iterator[Problem]:
    """Unknown split names, and splits without a row."""
    found = Counter(row.cells["split"] for row in rows)
    for row in rows:
        name = row.cells["split"]
        if name not in SPLITS:
            yield Problem(
                row.number, "split",
                f"unknown split {shown(name)}; allowed: {', '.join(SPLITS)}{nearest(name, SPLITS)}",
            )  # fmt: skip
    for name in SPLITS:
        if not found[name]:
            yield Problem(0, "split", f"empty split: no row says '{name}'")


def id_problems(rows: Iterable[Row]) -> Iterator[Problem]:
    """Ids that are missing or given twice; one in two splits is a leak."""
    first: dict[str, Row] = {}
    for row in rows:
        name = row.cells["id"]
        if not name:
            yield Problem(row.number, "id", "empty id: every row needs one of its own")
            continue
        before = first.setdefault(name, row)
        if before is row:
            continue
        here, there = row.cells.get("split"), before.cells.get("split")
        if here == there:
            yield Problem(
                row.number, "id", f"duplicate id {shown(name)}, first in row {before.number}"
            )
        else:
            yield Problem(
                row.number, "id",
                f"leak: id {shown(name)} of split '{here}' is in split '{there}' too "
                f"(row {before.number})",
            )  # fmt: skip


def integers(rows: list[Row]) -> bool:
    """Whether the labels are integers: most of them are, and the others are mistakes."""
    return 2 * sum(bool(INTEGER.fullmatch(row.cells["label"])) for row in rows) > len(rows)


def label_of(row: Row) -> str:
    """The name of a row's class; 01 and 1 are the same integer."""
    label = row.cells["label"]
    return str(int(label)) if INTEGER.fullmatch(label) else label


def class_names(rows: list[Row]) -> list[str]:
    """The classes that training has, by number or by code point: class k is the k-th of them."""
    whole = integers(rows)
    trained = [row for row in rows if row.cells.get("split") == "train"]
    names = {label_of(row) for row in trained if not _label_fault(row.cells["label"], whole)}
    return sorted(names, key=int if whole else str)


def label_problems(rows: list[Row], rare: bool) -> Iterator[Problem]:
    """Labels that are no class, that training never has, or that only one row has."""
    whole = integers(rows)
    faults = {row.number: _label_fault(row.cells["label"], whole) for row in rows}
    yield from (Problem(number, "label", fault) for number, fault in faults.items() if fault)
    rows = [row for row in rows if not faults[row.number]]
    counts = Counter(map(label_of, rows))
    trained = {label_of(row) for row in rows if row.cells.get("split") == "train"}
    if len(trained) == 1:
        yield Problem(0, "label", f"training has one class only, {shown(*trained)}")
    for row in rows:
        name = label_of(row)
        if name not in trained and row.cells.get("split") in SPLITS and trained:
            hint = nearest(name, trained)
            yield Problem(row.number, "label", f"class {shown(name)} is not in training{hint}")
        elif counts[name] == 1 and not rare:
            hint = nearest(name, counts.keys() - {name})
            yield Problem(
                row.number,
                "label",
                f"class {shown(name)} has one example{hint}; allow 'rare' if meant",
            )


def _label_fault(label: str, whole: bool) -> str:
    if not label:
        return "empty label: every row needs one"
    if INTEGER.fullmatch(label):
        if int(label) < 0:
            return f"label {label} is negative; a class is a name or an integer from 0"
        return "" if whole else f"mixed column: integer {label} among class names"
    if whole:
        return f"mixed column: {shown(label)} among integers"
    return (
        f"label {label} is no class: numbers to predict are a 'target'" if _is_float(label) else ""
    )


def _is_float(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return any(character.isdigit() for character in text)  # "nan" and "inf" may be class names


def target_problems(rows: Iterable[Row]) -> Iterator[Problem]:
    """Targets that are not finite numbers."""
    for row in rows:
        text = row.cells["target"]
        try:
            finite = math.isfinite(float(text))
        except ValueError:
            finite = False
        if not finite:
            yield Problem(row.number, "target", f"{shown(text)} is not a finite number")


def presence_problems(table: Table) -> Iterator[Problem]:
    """Rows without any modality, cells of blanks, and modalities that training never has."""
    trained = [row for row in table.rows if row.cells.get("split") == "train"]
    for name in table.kinds:
        if trained and not any(row.cells[name] for row in trained):
            yield Problem(0, name, "no row of training has this modality")
    for row in table.rows:
        cells = {name: row.cells[name] for name in table.kinds}
        for name, cell in cells.items():
            if cell and not cell.strip():
                yield Problem(row.number, name, 'empty text: blanks only; an absent one is ""')
        if table.kinds and not any(cells.values()):
            yield Problem(row.number, "", f"no modality: {', '.join(cells)} are all empty")


def shared_problems(table: Table, found: Found) -> Iterator[Problem]:
    """The same file content in two splits: what is tested has been trained on."""
    first: dict[str, tuple[Row, str]] = {}
    for row in table.rows:
        for name, kind in table.kinds.items():
            facts = found.get((row.number, name))
            if facts is None or kind == "text":
                continue
            before, column = first.setdefault(facts.sha256, (row, name))
            here, there = row.cells.get("split"), before.cells.get("split")
            if here != there:
                yield Problem(
                    row.number, name,
                    f"leak: the same file content is in split '{there}' (row {before.number}, "
                    f"column '{column}'); allow 'shared' if meant",
                )  # fmt: skip


def feature_problems(found: Found) -> Iterator[Problem]:
    """Arrays that have another rank or width than most arrays of their column."""
    columns: dict[str, list[tuple[int, tuple[int, int]]]] = defaultdict(list)
    for (number, name), facts in found.items():
        if facts.kind == "features":
            columns[name].append((number, (len(facts.shape), facts.shape[-1])))
    for name, forms in columns.items():
        (usual, _), *_ = Counter(form for _, form in forms).most_common(1)
        first = next(number for number, form in forms if form == usual)
        for number, form in forms:
            if form != usual:
                yield Problem(
                    number, name,
                    f"array of rank {form[0]} and width {form[1]}; the column has rank {usual[0]} "
                    f"and width {usual[1]} (row {first})",
                )  # fmt: skip
