"""The files ``DIR/probes/*.json`` of a workdir: how they are kept.

No jax here. Each file holds what was found for every probed row; a later call replaces the rows
that it ran. A *summary* is :class:`mmfuse.stats.Summary` as a dict, and a *value by seed* is
``{"values": {seed: number or None}, "summary": its summary}``. Clocks live in ``latency.json``
alone.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmfuse.errors import InputError
from mmfuse.record import write_json
from mmfuse.stats import paired, summary
from mmfuse.workdir import Workdir

FORMAT = 1
WHATS = ("modalities", "noise", "missing", "attention", "samples", "latency")
EXPLAINED = ("classification", "regression", "sentiment")  # tasks with one score of an example
GENERATED = ("picture", "sound", "words")  # tasks of which there are samples
MACHINE = ("device", "cores", "repeats")  # where and how a row's latency was measured
SEEDS = 3  # of a verdict: with two, the t-interval has one degree of freedom
LINES = (
    f"A verdict is that of its own line, from {SEEDS} seeds on; none is corrected for the number "
    "of lines."
)
Values = Mapping[int, float | None]


def path(workdir: Workdir, what: str) -> Path:
    """Where the probes of one kind lie."""
    return workdir.path / "probes" / f"{what}.json"


def read(workdir: Workdir) -> dict[str, dict[str, Any] | None]:
    """The content of every file, None where there is none.

    Raises:
      InputError: a file is damaged, or of another format.
    """
    found: dict[str, dict[str, Any] | None] = {}
    for what in WHATS:
        file = path(workdir, what)
        found[what] = _load(file) if file.is_file() else None
    return found


def _load(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        version, rows = content["format"], content["rows"].items()
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"'{file}' is damaged ({type(error).__name__}); remove it and probe again"
        ) from error
    if version != FORMAT:
        raise InputError(f"'{file}' has format {version}; this version of mmfuse reads {FORMAT}")
    shared = {key: content.pop(key) for key in MACHINE if key in content}  # of older versions
    return content | {"rows": {row: shared | entry for row, entry in rows}}


def current(
    found: Mapping[str, dict[str, Any]], records: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, dict[str, Any]], str]:
    """What was found of the parameters that the records tell of, and a sentence on the rest.

    A row whose runs were made again since it was probed is left out; the sentence is empty where
    there is none.
    """
    now = {(r["row"], str(r["seed"])): r.get("params_sha256") for r in records}
    kept, stale = {}, {}
    for what, content in found.items():
        rows = {}
        for row, entry in content["rows"].items():
            if all(now.get((row, seed)) == sha for seed, sha in entry["params"].items()):
                rows[row] = entry
            else:
                stale.setdefault(row, []).append(what)
        kept[what] = content | {"rows": rows}
    named = "; ".join(f"{row} ({', '.join(whats)})" for row, whats in stale.items())
    said = "Left out, as the parameters that were probed are not those of the records any more: "
    return kept, f"{said}{named}. Probe again." if stale else ""


def distinct(logs: Iterable[Sequence[Mapping[str, Any]]]) -> set[tuple[str, str, Any]]:
    """Each opening of the test split once: (run, purpose, time), whatever log names it.

    An older log has no times: there, the n-th opening of its run and purpose is one with number n.
    """
    found = set()
    for log in logs:
        numbers: Counter[tuple[str, str]] = Counter()
        for opening in log:
            key = (opening["run"], opening["purpose"])
            found.add((*key, opening.get("at") or numbers[key]))
            numbers[key] += 1
    return found


def logs(found: Mapping[str, Mapping[str, Any]]) -> list[Sequence[Mapping[str, Any]]]:
    """The logs of openings of all rows of all files."""
    rows = [row for content in found.values() for row in content["rows"].values()]
    return [row["openings"] for row in rows if "openings" in row]


def write_row(
    workdir: Workdir, what: str, facts: Mapping[str, Any], row: str, entry: Mapping[str, Any]
) -> None:
    """Adds or replaces one row of a file; ``facts`` are what all its rows share."""
    file = path(workdir, what)
    file.parent.mkdir(exist_ok=True)
    rows = _load(file)["rows"] if file.is_file() else {}
    head = {"format": FORMAT, "what": what, **facts}
    write_json(file, {**head, "rows": {**rows, row: entry}})


def by_seed(values: Values) -> dict[str, Any]:
    """A value by seed, as it is written; what is None has no part in the summary."""
    finite = [value for value in values.values() if value is not None]
    return {
        "values": {str(seed): value for seed, value in values.items()},
        "summary": dataclasses.asdict(summary(finite)),
    }


def difference(values: Values, clean: Values) -> dict[str, Any]:
    """The summary of ``values - clean``, paired by seed, as it is written."""
    both = [{s: v for s, v in side.items() if v is not None} for side in (values, clean)]
    return dataclasses.asdict(paired(*both))


def area(x: Sequence[float], y: Sequence[float | None]) -> float | None:
    """The mean height of a curve: its trapezoid area over the width of x; None with a gap."""
    if None in y:
        return None
    return float(np.trapezoid(np.asarray(y, float), np.asarray(x, float)) / (x[-1] - x[0]))


def verdict(found: Mapping[str, Any]) -> str:
    """What the summary of a difference says of an explanation; larger is better."""
    if found["n"] == 0:
        return "nothing to delete"
    if found["n"] < SEEDS:
        return f"fewer than {SEEDS} seeds"
    if found["low"] is None:  # all seeds agree to the bit, which no test can judge
        return "no spread" if found["mean"] else "not told apart"
    if found["low"] > 0:
        return "faithful"
    return "worse than random" if found["high"] < 0 else "not told apart"
