"""Published results beside a table: a file of figures with the conditions they hold under.

A file is JSON::

    {"format": 1, "results": [{"method": "TFN", "metric": "mae", "value": 0.97,
      "conditions": {"features": "...", "split": "...", "protocol": "..."},
      "source": "where the figure was read"}]}

``row`` names our row where that is not ``method``. Values are in the metric's own unit (a share,
not per cent). Conditions are compared word for word with ``config.conditions`` of the ablation.
What was not measured under the same conditions is marked, with what differs, and is never said to
agree or to disagree.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmfuse.errors import InputError, listed, nearest
from mmfuse.measures import MEASURES

if TYPE_CHECKING:
    from mmfuse.summary import Table

FORMAT = 1
CONDITIONS = ("features", "split", "protocol")
REQUIRED = ("method", "metric", "value", "conditions", "source")
KEYS = (*REQUIRED, "row")


@dataclasses.dataclass(frozen=True)
class Published:
    """One published figure and our row beside it.

    Attributes:
      method, metric, value, source: as in the file.
      row: our row, None if the table has none of that name.
      ours: its mean, None if it has no finished seed or the table lacks the metric.
      difference: ours minus the published figure.
      inside: whether the figure lies in the 95 % interval of our mean; None where there is no
        interval, or where conditions differ.
      unlike: what differs, ``"split: A there, B here"``; empty if the conditions are the same.
    """

    method: str
    metric: str
    value: float
    source: str
    row: str | None
    ours: float | None
    difference: float | None
    inside: bool | None
    unlike: tuple[str, ...]


def load(path: str | os.PathLike) -> list[dict[str, Any]]:
    """Returns the results of a file, checked.

    Raises:
      InputError: no such file, not such a file, or an entry that is not whole, by its number.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read '{path}': {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"'{path}' is not JSON: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"'{path}' is not a file of published results with \"format\": {FORMAT}")
    results = content.get("results")
    if not isinstance(results, list) or not results:
        raise InputError(f"'{path}' has no results; it needs a list of them")
    for number, entry in enumerate(results, 1):
        _check(entry, f"'{path}', result {number}")
    return results


def _check(entry: Any, where: str) -> None:
    if not isinstance(entry, dict):
        raise InputError(f"{where}: must be an object with keys{listed(KEYS)}")
    for key in entry:
        if key not in KEYS:
            raise InputError(f"{where}: unknown key '{key}'{nearest(key, KEYS)}{listed(KEYS)}")
    for key in REQUIRED:
        if key not in entry:
            raise InputError(f"{where}: {key} is missing{listed(KEYS)}")
    for key in ("method", "metric", "source", "row"):
        if not isinstance(entry.get(key, "-"), str) or not entry.get(key, "-").strip():
            raise InputError(f"{where}: {key} must be a text that is not empty")
    if entry["metric"] not in MEASURES:
        name = entry["metric"]
        raise InputError(
            f"{where}: unknown metric '{name}'{nearest(name, MEASURES)}{listed(MEASURES)}"
        )
    value = entry["value"]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{where}: value must be a finite number, got {value!r}")
    if MEASURES[entry["metric"]].unit == "%" and not 0 <= value <= 1:
        raise InputError(f"{where}: {entry['metric']} is a share in 0..1, got {value}")
    check_conditions(entry["conditions"], f"{where}, conditions", whole=True)


def check_conditions(conditions: Any, where: str, whole: bool = False) -> dict[str, str]:
    """Returns conditions whose keys are known and whose values are texts; all keys if ``whole``."""
    if not isinstance(conditions, Mapping):
        raise InputError(f"{where} must have keys{listed(CONDITIONS)}")
    for key, value in conditions.items():
        if key not in CONDITIONS:
            hint = nearest(key, CONDITIONS)
            raise InputError(f"unknown key '{key}' in {where}{hint}{listed(CONDITIONS)}")
        if not isinstance(value, str) or not value.strip():
            raise InputError(f"{where}: {key} must be a text that is not empty, got {value!r}")
    for key in CONDITIONS if whole else ():
        if key not in conditions:
            raise InputError(f"{where}: {key} is missing{listed(CONDITIONS)}")
    return dict(conditions)


def beside(
    table: Table, results: Sequence[Mapping[str, Any]], conditions: Mapping[str, str]
) -> tuple[Published, ...]:
    """Puts every result of a metric that the table shows beside our row of its method.

    Args:
      table: ours.
      results: of :func:`load`.
      conditions: of the ablation; what it does not state counts as unlike.

    Raises:
      InputError: there is none of these metrics.
    """
    mine = [result for result in results if result["metric"] in table.columns]
    if not mine:
        there = ", ".join(dict.fromkeys(result["metric"] for result in results))
        raise InputError(
            f"no published figure of {', '.join(table.columns)}; there are figures of {there}"
        )
    return tuple(_beside(table, result, conditions) for result in mine)


def _beside(table: Table, result: Mapping[str, Any], conditions: Mapping[str, str]) -> Published:
    name = result.get("row", result["method"])
    row = next((row for row in table.rows if row.name == name), None)
    ours = row.metrics.get(result["metric"]) if row else None
    unlike = tuple(
        f"{key}: {result['conditions'][key]} there, {conditions.get(key, 'not stated')} here"
        for key in CONDITIONS
        if result["conditions"][key] != conditions.get(key)
    )
    mean = None if ours is None else ours.mean
    known = ours is not None and ours.low is not None and not unlike
    return Published(
        method=result["method"],
        metric=result["metric"],
        value=result["value"],
        source=result["source"],
        row=row.name if row else None,
        ours=mean,
        difference=None if mean is None else mean - result["value"],
        inside=ours.low <= result["value"] <= ours.high if known else None,
        unlike=unlike,
    )


def notes(published: Sequence[Published], mark: str) -> list[str]:
    """Returns what the columns mean, what differs where, and the sources."""
    if not published:
        return []
    found = [
        "Published: ours minus the published figure; 'inside' if the figure lies in the 95 % "
        "t-interval of our mean, which holds our seeds' noise and not theirs."
    ]
    unlike: dict[tuple[str, ...], list[str]] = {}
    sources: dict[str, list[str]] = {}
    for entry in published:
        if entry.unlike:
            unlike.setdefault(entry.unlike, []).append(entry.method)
        sources.setdefault(entry.source, []).append(entry.method)
    for differs, names in unlike.items():
        found.append(
            f"{mark} not measured under our conditions, so not to be compared: "
            f"{', '.join(dict.fromkeys(names))} ({'; '.join(differs)})."
        )
    for source, names in sources.items():
        found.append(f"Source of {', '.join(dict.fromkeys(names))}: {source}.")
    return found
