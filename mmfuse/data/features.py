"""``features``: ready vectors or sequences of feature frames, standardised column by column.

What is learned comes from real values of real frames of the training split alone: not from padding,
not from missing frames, not from sentinels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from mmfuse.data.stepwise import LEARNED, Stage, Stepwise
from mmfuse.errors import InputError, RowError, nearest

SIDES = ("right", "left")
NAN = ("error", "zero")
SCALES = ("column", "none")
LARGEST = float(np.finfo(np.float32).max)


@dataclasses.dataclass(frozen=True)
class Learned:
    """What training taught: column statistics, and what there was to count."""

    mean: tuple[float, ...]
    std: tuple[float, ...]  # 1 where the column is constant
    steps: int  # length of every sequence; 0 for vectors
    counts: dict[str, int]
    cast: str | None


@dataclasses.dataclass(frozen=True)
class Features(Stepwise):
    """Vectors [F] or sequences [T, F] to float32 [N, F] or [N, length, F], and the mask.

    ``x = (value - mean) / std`` with the mean and the standard deviation of each column over the
    real training frames, in float64, then cast to float32.

    * A constant column is centred and keeps its unit (std := 1); ``state()`` counts those.
    * A sentinel becomes the column's training mean, 0 in ``x``; so does NaN or Inf under
      ``nan="zero"``. Neither counts in the statistics. A number beyond float32 counts as Inf.
    * A sequence of 0 steps is absent: zeros, and a mask that is False everywhere. So is, under
      ``zero_is_missing``, a frame that is zero in every column.
    * Sequences longer than ``length`` keep their start under right padding, their end under left.

    Attributes:
      length: steps of every sequence; 0 = the longest of training. Vectors need none.
      side: where padding goes, "right" or "left".
      sentinel: the value that stands for "not measured"; None = there is none.
      zero_is_missing: whether a frame of zeros is no frame.
      nan: what NaN and Inf are: an "error" that names the example, or "zero".
      scale: "column" as above; "none" keeps the values, and what is unknown is 0: for switches, of
        which a rare one, standardised, would be many deviations large (the keys of a piano).
    """

    length: int = 0
    side: str = "right"
    sentinel: float | None = None
    zero_is_missing: bool = False
    nan: str = "error"
    scale: str = "column"
    learned: Learned | None = dataclasses.field(default=None, metadata=LEARNED)

    def __post_init__(self):
        if type(self.length) is not int or self.length < 0:
            raise InputError(f"features: length {self.length!r} must be a whole number >= 0")
        for field, allowed in (("side", SIDES), ("nan", NAN), ("scale", SCALES)):
            value = getattr(self, field)
            if value not in allowed:
                raise InputError(
                    f"features: {field} {value!r} is not one of {', '.join(allowed)}"
                    f"{nearest(value, allowed)}"
                )
        number = isinstance(self.sentinel, int | float) and not isinstance(self.sentinel, bool)
        if self.sentinel is not None and not (number and np.isfinite(self.sentinel)):
            raise InputError(f"features: sentinel {self.sentinel!r} must be a finite number")
        if not isinstance(self.zero_is_missing, bool):
            raise InputError(
                f"features: zero_is_missing {self.zero_is_missing!r} must be a boolean"
            )

    def fit(self, raw: Sequence[np.ndarray]) -> Features:
        """Takes statistics and the length from the training examples.

        Raises:
          RowError: as ``stages``.
          InputError: the length is to be learned, and no training sequence has a step.
        """
        read = [self._read(frames, row, raw[0]) for row, frames in enumerate(raw)]
        mean, std, constant = _statistics(read, np.shape(raw[0])[-1])
        if self.scale == "none":
            mean, std = np.zeros_like(mean), np.ones_like(std)
        lengths = [len(values) for values, _, _ in read]
        vectors = np.ndim(raw[0]) == 1
        steps = 0 if vectors else self.length or max(lengths)
        if not vectors and steps == 0:
            raise InputError("features: no training sequence has a step; set length")
        counts = {
            "frames": sum(int(real.sum()) for _, _, real in read),
            "missing_frames": sum(int((~real).sum()) for _, _, real in read),
            "absent": sum(not real.any() for _, _, real in read),
            "cut": 0 if vectors else sum(length > steps for length in lengths),
            "unknown_values": sum(int((~known[real]).sum()) for _, known, real in read),
            "constant_columns": constant,
        }
        dtype = np.asarray(raw[0]).dtype
        cast = None if dtype == np.float32 else f"{dtype} to float32"
        learned = Learned(tuple(mean.tolist()), tuple(std.tolist()), steps, counts, cast)
        return dataclasses.replace(self, learned=learned)

    def stages(self) -> Iterable[tuple[str, Stage]]:
        """One: standardise and pad, to x and the mask, bool [N, 1] for vectors or [N, length].

        It raises RowError for an example with other axes or columns than training had, that is not
        made of numbers, or that holds NaN or Inf under ``nan="error"``.
        """
        yield "standardise and pad", self._standardise

    def _standardise(
        self, raw: Sequence[np.ndarray], present: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        del present  # absent ones have no step
        learned = self.learned
        width, mean, std = len(learned.mean), np.array(learned.mean), np.array(learned.std)
        like = np.empty((width,) if learned.steps == 0 else (0, width))
        x = np.zeros((len(raw), learned.steps or 1, width), np.float32)
        mask = np.zeros(x.shape[:2], bool)
        for row, frames in enumerate(raw):
            values, known, real = self._read(frames, row, like)
            scaled = np.where(known & real[:, None], (values - mean) / std, 0)
            there = slice(0, len(real)) if self.side == "right" else slice(-len(real), None)
            kept = slice(0, x.shape[1]) if self.side == "right" else slice(-x.shape[1], None)
            if len(real):
                x[row, there], mask[row, there] = scaled[kept], real[kept]
        return (x if learned.steps else x[:, 0]), mask

    def state(self) -> dict:
        """Column statistics, the length, the cast, and counts over the training split."""
        return dataclasses.asdict(self.learned)

    def _read(self, frames, row: int, like) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """An example as values float64 [T, F], which are known [T, F], which frames are real [T].

        T = 1 for a vector. Values that are not known are 0.
        """
        frames = np.asarray(frames)
        if frames.dtype.kind not in "fiub":
            raise RowError(row, f"features: expected numbers, found {frames.dtype}")
        if frames.ndim not in (1, 2) or frames.ndim != np.ndim(like):
            raise RowError(row, f"features: expected {_axes(like)}, found {list(frames.shape)}")
        if frames.shape[-1] != np.shape(like)[-1]:
            raise RowError(
                row, f"features: expected {np.shape(like)[-1]} columns, found {frames.shape[-1]}"
            )
        values = np.atleast_2d(frames).astype(np.float64)
        finite = np.abs(values) <= LARGEST  # False for NaN as well
        if self.nan == "error" and not finite.all():
            step, column = np.argwhere(~finite)[0]
            raise RowError(
                row,
                f"features: {values[step, column]} in step {step}, column {column}; "
                "nan='zero' takes the training mean instead",
            )
        known = finite if self.sentinel is None else finite & ~_equals(frames, self.sentinel)
        real = (values != 0).any(1) if self.zero_is_missing else np.ones(len(values), bool)
        return np.where(known, values, 0), known, real


def _axes(like) -> str:
    return "a vector [F]" if np.ndim(like) == 1 else "a sequence [T, F]"


def _equals(frames: np.ndarray, value: float) -> np.ndarray:
    """Where the frames hold the value, as their own dtype would store it: [T, F]."""
    stored = frames.dtype.type(value) if frames.dtype.kind == "f" else value
    return np.atleast_2d(frames) == stored


def _statistics(read: list[tuple], width: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Mean and standard deviation [F] over known values of real frames; the constant columns.

    A column without any known value has mean 0 and counts as constant.
    """
    counted = [(values, known & real[:, None]) for values, known, real in read]
    n, total = np.zeros(width), np.zeros(width)
    low, high = np.full(width, np.inf), np.full(width, -np.inf)
    for values, use in counted:
        n += use.sum(0)
        total += values.sum(0, where=use)
        low = np.minimum(low, values.min(0, where=use, initial=np.inf))
        high = np.maximum(high, values.max(0, where=use, initial=-np.inf))
    constant = high <= low
    mean = np.where(constant, np.where(n > 0, low, 0), total / np.maximum(n, 1))
    squares = np.zeros(width)
    for values, use in counted:
        squares += np.square(values - mean).sum(0, where=use)
    std = np.where(constant, 1, np.sqrt(squares / np.maximum(n, 1)))
    return mean, std, int(constant.sum())
