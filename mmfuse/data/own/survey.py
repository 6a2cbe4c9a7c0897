"""A manifest read whole: every cell opened, every problem collected, everything counted.

One pass over the files before anything is trained or written. The time is that of reading and
decoding each file once; the memory is that of one file and a few numbers for each cell.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mmfuse.data.own import checks
from mmfuse.data.own.cells import examine
from mmfuse.data.own.table import Problem, Row, Table, cell_kind, read_table
from mmfuse.errors import InputError, ReportError, nearest


@dataclasses.dataclass(frozen=True)
class Survey:
    """What a manifest and all of its files hold, and what is wrong with them."""

    table: Table
    found: checks.Found
    problems: tuple[Problem, ...]  # by row and column

    @property
    def task(self) -> str:
        """Classification by a column ``label``, or regression by a column ``target``."""
        return "classification" if "label" in self.table.columns else "regression"

    @functools.cached_property
    def classes(self) -> list[str]:
        """The class names in order; none for regression."""
        return checks.class_names(self.table.rows) if self.task == "classification" else []

    def rows(self, split: str) -> list[Row]:
        """The rows of a split, in the manifest's order."""
        return [row for row in self.table.rows if row.cells.get("split") == split]

    def width(self, column: str) -> int:
        """The feature width of a column of arrays."""
        shapes = (facts.shape for (_, name), facts in self.found.items() if name == column)
        return next(shapes)[-1]

    def fingerprint(self) -> str:
        """sha256 of all that reaches the dataset: rows in order, and the contents of all files.

        It knows neither paths nor the manifest's form: a CSV and a JSONL of the same rows agree.
        """
        digest = hashlib.sha256(json.dumps(self.table.modalities).encode())
        answer = "label" if self.task == "classification" else "target"
        for row in self.table.rows:
            label = checks.label_of(row) if answer == "label" else float(row.cells[answer])
            holds = {
                name: facts.sha256
                for name in sorted(self.table.kinds)
                if (facts := self.found.get((row.number, name)))
            }
            line = [row.cells["id"], row.cells["split"], label, holds]
            digest.update(json.dumps(line).encode())
        return digest.hexdigest()

    def notes(self) -> Iterator[str]:
        """What is worth knowing and no reason to stop."""
        for name in self.table.modalities:
            of_column = {n: facts for (n, column), facts in self.found.items() if column == name}
            lossy = [str(number) for number, facts in of_column.items() if facts.lossy]
            if lossy:
                more = f" and {len(lossy) - 5} more" if len(lossy) > 5 else ""
                yield (
                    f"column '{name}': U+FFFD stands for invalid UTF-8 in row "
                    f"{', '.join(lossy[:5])}{more}"
                )
            rates = Counter(facts.rate for facts in of_column.values() if facts.rate)
            if len(rates) > 1:
                listed = ", ".join(f"{rate} Hz in {rates[rate]} files" for rate in sorted(rates))
                yield (
                    f"column '{name}': sample rates differ ({listed}); every sound is resampled to "
                    "the sample_rate of the column's preprocessor"
                )
            dtypes = Counter(facts.dtype for facts in of_column.values() if facts.dtype)
            for dtype in sorted(dtypes.keys() - {"float32"}):
                yield f"column '{name}': {dtypes[dtype]} arrays of {dtype} are stored as float32"


def allowed(names: str) -> frozenset[str]:
    """The names of ALLOWANCES in ``"outside,shared"``; an unknown one is an InputError."""
    chosen = {name.strip() for name in names.split(",") if name.strip()}
    for name in sorted(chosen - checks.ALLOWANCES.keys()):
        raise InputError(
            f"unknown allowance '{name}' for a manifest; allowed: {', '.join(checks.ALLOWANCES)}"
            f"{nearest(name, checks.ALLOWANCES)}"
        )
    return frozenset(chosen)


def survey(path: str | Path, allow: str = "") -> Survey:
    """Reads a manifest and all of its files, and finds all that is wrong.

    Args:
      path: the manifest; the paths in it start from its folder.
      allow: names of ALLOWANCES, with commas between.

    Raises:
      InputError: only for a manifest that cannot be read at all; ``problems`` has the rest.
    """
    allowances, table = allowed(allow), read_table(path)
    found, problems = _examined(table, "outside" in allowances)
    problems += table.problems
    rows, columns = list(table.rows), set(table.columns)
    if "id" in columns:
        problems += checks.id_problems(rows)
    if "split" in columns and rows:
        problems += checks.split_problems(rows)
    if "label" in columns and rows:
        problems += checks.label_problems(rows, "rare" in allowances)
    if "target" in columns:
        problems += checks.target_problems(rows)
    problems += checks.presence_problems(table)
    problems += checks.feature_problems(found)
    if "shared" not in allowances:
        problems += checks.shared_problems(table, found)
    return Survey(table, found, tuple(sorted(set(problems))))


def _examined(table: Table, outside: bool) -> tuple[checks.Found, list[Problem]]:
    found, problems, seen = {}, [], {}
    for row in table.rows:
        for name, kind in table.kinds.items():
            cell = row.cells[name]
            if not cell.strip() or cell_kind(cell, table.path.parent) != kind:
                continue  # absent, or told as a mixed column
            key = (kind, cell)
            if key not in seen:  # a file that several rows share is read once
                try:
                    seen[key] = examine(kind, cell, table.path.parent, outside)
                except InputError as error:
                    seen[key] = str(error)
            if isinstance(seen[key], str):
                problems.append(Problem(row.number, name, seen[key]))
            else:
                found[row.number, name] = seen[key]
    return found, problems


def checked(found: Survey) -> Survey:
    """The same survey, if it found nothing wrong.

    Raises:
      ReportError: all problems at once; they are also written beside the manifest, as
        ``NAME.problems.txt``, where that folder can be written to. A sound manifest loses it.
    """
    path = found.table.path
    report, lines = Path(f"{path}.problems.txt"), [str(problem) for problem in found.problems]
    count, place = f"{len(lines)} problem{'s' if len(lines) > 1 else ''}", f"see {report}"
    try:
        if not lines:
            report.unlink(missing_ok=True)
            return found
        report.write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError:  # a folder for reading only: the lines are printed all the same
        place = "listed above"
    if lines:
        raise ReportError(f"{path}: {count}; {place}", lines)
    return found
