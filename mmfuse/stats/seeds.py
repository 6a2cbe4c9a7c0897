"""The few statistics of a comparison table, over seeds.

Seeds are few, so intervals are Student's t: at n = 3 a percentile bootstrap that claims 95 % covers
about three quarters. Rows share seeds (and so data order), so differences are taken seed by seed.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.special import stdtrit

ROUNDING = 1e-6  # spread, as a part of the values, that is rounding (of float32) and not noise
FLAT = "no spread between seeds: an interval of no width would claim to be certain"


@dataclasses.dataclass(frozen=True)
class Summary:
    """What is known of a mean; None stands for what cannot be known, and ``reason`` says why.

    Attributes:
      n: number of finite values.
      mean: their mean, None if n = 0.
      sd: sample standard deviation, ddof = 1, None if n < 2.
      low: lower end of the t-interval of the mean, None if n < 2 or the values do not vary.
      high: its upper end.
      reason: why something is None, or an empty string.
    """

    n: int
    mean: float | None
    sd: float | None
    low: float | None
    high: float | None
    reason: str = ""


def summary(values: Sequence[float], level: float = 0.95) -> Summary:
    """Returns mean, sd and t-interval: ``mean -+ t_(level, n - 1) * sd / sqrt(n)``.

    Args:
      values: one a seed; values that are not finite must be left out by the caller.
      level: the share of such intervals that hold the true mean, if values are normal.

    Raises:
      ValueError: a value is not finite, or level is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, not {level}")
    x = np.asarray(values, dtype=np.float64)
    if not np.isfinite(x).all():
        raise ValueError(f"values must be finite: {list(values)}")
    if x.size == 0:
        return Summary(0, None, None, None, None, "no finished seed")
    # Exact rational sums: equal values have exactly that mean, and no spread at all.
    mean = statistics.mean(x.tolist())
    if x.size == 1:
        return Summary(1, mean, None, None, None, "one seed: its spread cannot be known")
    sd = statistics.stdev(x.tolist())
    if sd <= ROUNDING * float(np.abs(x).max()):
        return Summary(x.size, mean, 0.0, None, None, FLAT)
    half = float(stdtrit(x.size - 1, (1 + level) / 2)) * sd / math.sqrt(x.size)
    return Summary(x.size, mean, sd, mean - half, mean + half)


def paired(
    values: Mapping[int, float], baseline: Mapping[int, float], level: float = 0.95
) -> Summary:
    """Returns the summary of ``values - baseline`` over the seeds that both have.

    Args:
      values: ``{seed: value}`` of one row.
      baseline: ``{seed: value}`` of the row it is compared with.
      level: as in :func:`summary`. No correction for comparing many rows with one baseline.
    """
    shared = sorted(set(values) & set(baseline))
    result = summary([values[seed] - baseline[seed] for seed in shared], level)
    if not shared and values and baseline:
        return dataclasses.replace(result, reason="no seed in common with the baseline")
    if result.sd is not None and result.sd <= ROUNDING * size(values, baseline):
        return dataclasses.replace(result, sd=0.0, low=None, high=None, reason=FLAT)
    return result


def size(*rows: Mapping[int, float]) -> float:
    """Returns the largest absolute value of some rows: what their rounding is measured by."""
    return max((abs(value) for row in rows for value in row.values()), default=0.0)
