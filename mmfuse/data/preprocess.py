"""From raw columns to model input: the kinds of preprocessor, each fitted on training data only.

A preprocessor has plain fields, ``fit(raw) -> itself fitted`` and ``__call__(raw) -> (x, mask)``:
``x`` is the array the encoder reads and ``mask`` bool [N, T] says which steps are real (T = 1 for
pictures; a row of False means that the modality is absent). ``state()`` is what was learned from
the training split, as JSON, for the run's record; ``steps(value)`` shows one example after each
step.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from mmfuse.data.features import Features
from mmfuse.data.picture_input import Picture
from mmfuse.data.sound_input import LogMel, Mfcc
from mmfuse.data.stepwise import LEARNED, Stage, Stepwise, check_number, standardised
from mmfuse.data.text_input import Text
from mmfuse.errors import InputError, RowError, nearest


@dataclasses.dataclass(frozen=True)
class Array(Stepwise):
    """Ready arrays (spectrograms, features) [N, ...] to float32, standardised as a whole.

    Arrays with a time axis ([N, T, F] or [N, T, F, 1]) keep it; [N, F] becomes one step.
    """

    mean: float = dataclasses.field(default=0.0, metadata=LEARNED)
    std: float = dataclasses.field(default=1.0, metadata=LEARNED)

    def stages(self) -> Iterable[tuple[str, Stage]]:
        """Stack, standardise."""
        yield "stack", self._stack
        yield "standardise", self._standardise

    def _stack(self, values: Sequence, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if not mask.all() or len({np.shape(value) for value in values}) > 1:
            raise InputError("array: needs arrays of one shape, and none absent")
        x = np.stack(values)
        return x, np.repeat(mask, x.shape[1] if x.ndim > 2 else 1, axis=1)

    def _standardise(self, x: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return standardised(x, mask[:, 0], self.mean, self.std), mask

    def fit(self, raw: Sequence) -> Array:
        """Takes one mean and one standard deviation from the training arrays."""
        values, _ = self.before("standardise", raw)
        mean, std = values.mean(dtype=np.float64), values.std(dtype=np.float64)
        return dataclasses.replace(self, mean=float(mean), std=float(std))

    def state(self) -> dict:
        """Statistics of the training arrays."""
        return {"mean": self.mean, "std": self.std}


@dataclasses.dataclass(frozen=True)
class Identity(Stepwise):
    """Whole numbers that name things (users, relations, types) to ids int32 [N, length].

    A value is an array [K] of K <= length of them, each in 0..size - 1; none (K = 0) is absent.
    Nothing is learned: which ids the training split has is for the dataset to say.

    Attributes:
      size: how many things there are; by default what the dataset's card says of them (``ids``).
      length: ids that an example may have.
    """

    size: int = 0
    length: int = 1

    def __post_init__(self):
        check_number("identity: size", self.size, 1)
        check_number("identity: length", self.length, 1)

    def stages(self) -> Iterable[tuple[str, Stage]]:
        """One: side by side, zeros behind them."""
        yield "ids", self._ids

    def _ids(self, values: Sequence, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        del mask  # no ids, no True
        x = np.zeros((len(values), self.length), np.int32)
        mask = np.zeros(x.shape, bool)
        for row, value in enumerate(values):
            ids = np.asarray(value)
            if ids.ndim != 1 or ids.dtype.kind not in "iu":
                raise RowError(row, f"identity: expected ids [K], found {ids.dtype} {ids.shape}")
            if len(ids) > self.length:
                raise RowError(row, f"identity: {len(ids)} ids; length {self.length} is the most")
            wrong = ids[(ids < 0) | (ids >= self.size)]
            if wrong.size:
                raise RowError(row, f"identity: id {wrong[0]} is outside 0..{self.size - 1}")
            x[row, : len(ids)], mask[row, : len(ids)] = ids, True
        return x, mask

    def fit(self, raw: Sequence) -> Identity:
        """Itself."""
        del raw
        return self

    def state(self) -> dict:
        """Nothing."""
        return {}

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        return self.size


PREPROCESSORS = {
    "text": Text,
    "picture": Picture,
    "log_mel": LogMel,
    "mfcc": Mfcc,
    "array": Array,
    "identity": Identity,
    "features": Features,
}


def build_preprocessor(name: str, **fields):
    """The preprocessor of that name; an unknown name or field is an InputError."""
    if name not in PREPROCESSORS:
        allowed = ", ".join(PREPROCESSORS)
        raise InputError(
            f"unknown preprocessor '{name}'; allowed: {allowed}{nearest(name, PREPROCESSORS)}"
        )
    kind = PREPROCESSORS[name]
    allowed = [f.name for f in dataclasses.fields(kind) if "learned" not in f.metadata]
    for field in fields:
        if field not in allowed:
            raise InputError(
                f"preprocessor '{name}' has no field '{field}'; allowed: {', '.join(allowed)}"
                f"{nearest(field, allowed)}"
            )
    return kind(**fields)
