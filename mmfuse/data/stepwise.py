"""A preprocessor as named stages, so that what is shown of a step is what the step does.

A stage takes the values of some examples and their mask and returns both. Before the first stage
the values are the raw column and the mask is bool [N, 1], False for an absent (empty) value; the
last stage leaves an array [N, ...] and a mask bool [N, T].
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from mmfuse.errors import InputError, RowError, nearest

AT_ONCE = 256  # examples that pass through the stages together; the result does not depend on it
LEARNED = {"learned": True}  # marks a field that ``fit`` sets and a config cannot
Stage = Callable[[Any, np.ndarray], tuple[Any, np.ndarray]]


class Stepwise:
    """The base of all preprocessors: a subclass is a frozen dataclass with ``stages`` and ``fit``.

    ``preprocessor(raw) -> (x, mask)``: x [N, ...] is what the encoder reads, mask bool [N, T] says
    which steps are real; a row of False means that the modality is absent, and its x is zeros.
    """

    def stages(self) -> Iterable[tuple[str, Stage]]:
        """The stages in order, without those whose fields are off."""
        raise NotImplementedError

    def __call__(self, raw: Sequence) -> tuple[np.ndarray, np.ndarray]:
        return _run(tuple(self.stages()), raw)

    def steps(self, value: Any) -> list[tuple[str, Any, np.ndarray]]:
        """``[(stage, value after it, mask [T] after it), ...]`` of one example."""
        values, mask, told = [value], _present([value]), []
        for name, stage in self.stages():
            values, mask = stage(values, mask)
            told.append((name, values[0], mask[0]))
        return told

    def before(self, last: str, raw: Sequence) -> tuple[np.ndarray, np.ndarray]:
        """What the present ones of the TRAINING values are just before the stage ``last``."""
        stages = tuple(self.stages())
        stages = stages[: [name for name, _ in stages].index(last)]
        rows = [row for row, value in enumerate(raw) if not _empty(value)]
        if not rows:
            raise RowError(0, "absent here and in every other training example")
        try:
            return _run(stages, [raw[row] for row in rows])
        except RowError as error:
            raise RowError(rows[error.row], str(error)) from error


def each(function: Callable[[Any], Any]) -> Stage:
    """The stage that applies ``function`` to every value that is present."""

    def stage(values: Sequence, mask: np.ndarray) -> tuple[list, np.ndarray]:
        out = list(values)
        for row in np.flatnonzero(mask.any(axis=1)):
            try:
                out[row] = function(values[row])
            except InputError as error:
                raise RowError(int(row), str(error)) from error
        return out, mask

    return stage


def standardised(x: np.ndarray, mask: np.ndarray, mean: Any, std: Any) -> np.ndarray:
    """(x - mean) / std in float32, zeros where the mask is False.

    ``mask`` has the leading axes of x; a constant column has std 0 and is only centred.
    """
    std = np.asarray(std, np.float32)
    x = ((x - np.asarray(mean, np.float32)) / np.where(std > 0, std, 1)).astype(np.float32)
    x[~mask] = 0
    return x


def check_choice(name: str, value: Any, allowed: Iterable[str]) -> None:
    """Raises an InputError if ``value`` is not one of ``allowed``."""
    if value not in tuple(allowed):
        raise InputError(
            f"{name} {value!r}; allowed: {', '.join(allowed)}{nearest(str(value), allowed)}"
        )


def check_number(name: str, value: Any, low: float, kind: type = int) -> None:
    """Raises an InputError if ``value`` is not a finite number of ``kind``, at least ``low``."""
    fits = isinstance(value, (int, kind)) and not isinstance(value, bool)
    if not fits or not low <= value < np.inf:
        what = "a whole number" if kind is int else "a number"
        raise InputError(f"{name} must be {what} >= {low:g}, got {value!r}")


def _empty(value: Any) -> bool:
    return (np.size(value) if isinstance(value, np.ndarray) else len(value)) == 0


def _present(raw: Sequence) -> np.ndarray:
    return np.array([[not _empty(value)] for value in raw], bool).reshape(len(raw), 1)


def _run(stages: Sequence[tuple[str, Stage]], raw: Sequence) -> tuple[Any, np.ndarray]:
    """All examples through the stages, ``AT_ONCE`` at a time: raw pictures and sound are large."""
    found = []
    for start in range(0, max(len(raw), 1), AT_ONCE):
        values = raw[start : start + AT_ONCE]
        mask = _present(values)
        try:
            for _, stage in stages:
                values, mask = stage(values, mask)
        except RowError as error:
            raise RowError(start + error.row, str(error)) from error
        found.append((values, mask))
    if len(found) == 1:
        return found[0]
    parts, masks = zip(*found, strict=True)
    return _joined(parts), np.concatenate(masks)


def _joined(parts: Sequence) -> Any:
    """One list of lists; of arrays one array, if they agree in all but the number of examples."""
    if isinstance(parts[0], list):
        return [value for part in parts for value in part]
    for number, part in enumerate(parts):
        if part.shape[1:] != parts[0].shape[1:]:
            raise RowError(
                number * AT_ONCE, f"shape {part.shape[1:]}, in others {parts[0].shape[1:]}"
            )
    return np.concatenate(parts)
