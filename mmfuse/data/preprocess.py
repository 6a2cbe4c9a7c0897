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
from mmfuse.data.stepwise import LEARNED, Stage, Stepwise, standardised
from mmfuse.data.text_input import Text
from mmfuse.errors import InputError, nearest


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


PREPROCESSORS = {
    "text": Text,
    "picture": Picture,
    "log_mel": LogMel,
    "mfcc": Mfcc,
    "array": Array,
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
