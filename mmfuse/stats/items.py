"""The noise of the test split: what another draw of test examples could have changed.

All of it takes one score per run and test example, ``[S, N]`` (S seeds, N examples), from stored
predictions. Seeds and examples are crossed: every seed answers the same examples.

Where runs were pooled over folds (``mmfuse.folds``) the folds, speakers say, are what was drawn:
examples of one fold go together, and ``N`` is the number of folds (``mmfuse.stats.scores``).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import bdtr, stdtr, stdtrit

from mmfuse.stats.differences import holm
from mmfuse.stats.scores import COUNTED, EXAMPLES, SCORES, Predictions, drawn, scores_of

DRAWS = 2000
CHUNK = 2**22  # numbers drawn at a time


@dataclasses.dataclass(frozen=True)
class ItemNoise:
    """The standard error of a row's mean score over ``n`` test examples, its seeds held fixed.

    ``of`` says what was drawn: examples, or folds of them.
    """

    n: int
    error: float
    of: str = EXAMPLES


@dataclasses.dataclass(frozen=True)
class ItemTest:
    """One row against another on the same test examples, over the seeds that both have.

    Attributes:
      n: number of test examples, or of folds.
      seeds: number of shared seeds.
      mean: mean difference of the scores.
      error: its standard error over examples, seeds held fixed.
      low, high: 95 % interval of the paired bootstrap over examples, seeds held fixed.
      p: two-sided p of the paired t test over examples of the differences averaged over seeds.
      holm: the same, corrected for all rows of the table.
      both_error: standard error over examples and seeds together.
      both_low, both_high: 95 % interval for new examples and new seeds; None with one seed.
      t_low, t_high: 95 % t-interval over examples, seeds held fixed; folds are too few to resample.
      mcnemar: ``{seed: exact p}`` of right against wrong answers; empty for real-valued scores and
        for folds, whose examples are not independent.
      mcnemar_mean: the same of the averaged outputs of all seeds; None where there are none.
      of: what ``n`` counts, as in :class:`ItemNoise`.
    """

    n: int
    seeds: int
    mean: float
    error: float
    low: float
    high: float
    p: float
    both_error: float | None
    both_low: float | None
    both_high: float | None
    t_low: float
    t_high: float
    mcnemar: dict[int, float]
    mcnemar_mean: float | None
    holm: float | None = None
    of: str = EXAMPLES


def noise(metric: str, runs: Mapping[int, Predictions]) -> ItemNoise | None:
    """Returns the test-set noise of a row: ``sd over examples of the seed mean / sqrt(N)``.

    None without predictions, with fewer than two examples, or for a metric that is not a mean over
    examples (F1, correlation, RMSE).
    """
    scores = scores_of(metric, runs, sorted(runs))
    if scores is None or scores.shape[1] < 2:
        return None
    return ItemNoise(scores.shape[1], _error(scores), drawn(runs))


def compare_items(
    metric: str, runs: Mapping[int, Predictions], other: Mapping[int, Predictions]
) -> ItemTest | None:
    """Compares two rows on the same test examples; None where :func:`noise` is.

    Raises:
      ValueError: the two were tested on other labels.
    """
    seeds = sorted(set(runs) & set(other))
    a, b = scores_of(metric, runs, seeds), scores_of(metric, other, seeds)
    if a is None or b is None or a.shape[1] < 2:
        return None
    first = seeds[0]
    if not _equal(runs[first].get("label"), other[first].get("label")):
        raise ValueError("the two rows were tested on other labels")
    d = a - b
    error, mean = _error(d), float(d.mean())
    low, high = bootstrap(d.mean(0))
    both_error, both_low, both_high = crossed(d)
    of = drawn(runs)
    counted = (
        metric in COUNTED and of == EXAMPLES and not isinstance(runs[first]["output"], Mapping)
    )
    half = float(stdtrit(d.shape[1] - 1, 0.975)) * error
    return ItemTest(
        n=d.shape[1],
        seeds=len(seeds),
        mean=mean,
        error=error,
        low=low,
        high=high,
        p=_t_test(mean, error, d.shape[1]),
        both_error=both_error,
        both_low=both_low,
        both_high=both_high,
        t_low=mean - half,
        t_high=mean + half,
        of=of,
        mcnemar={s: mcnemar(x, y) for s, x, y in zip(seeds, a, b, strict=True)} if counted else {},
        mcnemar_mean=_mcnemar_mean(metric, runs, other, seeds) if counted else None,
    )


def corrected_items(found: Sequence[ItemTest | None]) -> list[ItemTest | None]:
    """Returns the tests of one table with p values corrected for their number."""
    adjusted = holm([None if test is None else test.p for test in found])
    return [
        None if test is None else dataclasses.replace(test, holm=p)
        for test, p in zip(found, adjusted, strict=True)
    ]


def mcnemar(right: np.ndarray, other_right: np.ndarray) -> float:
    """Returns the exact two-sided p of McNemar's test; arguments [N] are 1 where right.

    Of the b + c examples that one alone gets right, b ~ Binomial(b + c, 1/2) if they are equally
    good; ``p = min(1, 2 P(X <= min(b, c)))`` (McNemar 1947). 1 where they never differ.
    """
    b = int(((right > 0) & (other_right == 0)).sum())
    c = int(((right == 0) & (other_right > 0)).sum())
    return min(1.0, 2 * float(bdtr(min(b, c), b + c, 0.5))) if b + c else 1.0


def bootstrap(values: np.ndarray, level: float = 0.95, draws: int = DRAWS) -> tuple[float, float]:
    """Returns the percentile interval of the mean of ``values`` [N], resampled over N.

    A draw is how often each distinct value comes: one multinomial, exactly as N draws with
    replacement. The generator is fixed, so equal values give equal bounds.
    """
    distinct, counts = np.unique(values, return_counts=True)
    rng, n, means = np.random.default_rng(0), values.size, []
    step = max(1, CHUNK // distinct.size)
    for start in range(0, draws, step):
        drawn = rng.multinomial(n, counts / n, size=min(step, draws - start))
        means.append(drawn @ distinct / n)
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def crossed(
    d: np.ndarray, level: float = 0.95
) -> tuple[float, float, float] | tuple[None, None, None]:
    """Returns standard error and interval of the mean of ``d`` [S, N] for new seeds and examples.

    Two-way random effects without repetition: ``se^2 = A + B - E`` with A the variance of seed
    means / S, B that of example means / N, and E the mean square of the residual / (S N); never
    below A or B. Degrees of freedom of t by Satterthwaite: ``se^4 / (A^2 / (S - 1) + B^2 / (N - 1)
    + E^2 / ((S - 1) (N - 1)))``. None with one seed.
    """
    seeds, items = d.shape
    if seeds < 2 or items < 2:
        return None, None, None
    by_seed, by_item, mean = d.mean(1), d.mean(0), float(d.mean())
    a = float(by_seed.var(ddof=1)) / seeds
    b = float(by_item.var(ddof=1)) / items
    residual = d - by_seed[:, None] - by_item[None] + mean
    free = (seeds - 1) * (items - 1)
    e = float((residual**2).sum()) / free / (seeds * items)
    variance = max(a + b - e, a, b)
    error = math.sqrt(variance)
    if error == 0:
        return 0.0, mean, mean
    df = variance**2 / (a**2 / (seeds - 1) + b**2 / (items - 1) + e**2 / free)
    half = float(stdtrit(df, (1 + level) / 2)) * error
    return error, mean - half, mean + half


def _equal(a: Any, b: Any) -> bool:
    """Whether two labels, arrays or dicts of arrays, are the same."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    return np.array_equal(a, b)


def _error(scores: np.ndarray) -> float:
    return float(scores.mean(0).std(ddof=1)) / math.sqrt(scores.shape[1])


def _t_test(mean: float, error: float, n: int) -> float:
    """Returns the two-sided p; of one difference on all n examples, that of the sign-flip test."""
    if error == 0:
        return 1.0 if mean == 0 else 2.0 ** (1 - n)
    return 2 * float(stdtr(n - 1, -abs(mean) / error))


def _mcnemar_mean(metric: str, runs: Mapping, other: Mapping, seeds: list[int]) -> float:
    right = []
    for row in (runs, other):
        output = np.mean([_normalised(row[s]["output"]) for s in seeds], axis=0)
        right.append(SCORES[metric](output, row[seeds[0]]["label"]))
    return mcnemar(*right)


def _normalised(output: np.ndarray) -> np.ndarray:
    """Returns log probabilities of logits, so that no seed counts more by its scale alone."""
    x = np.asarray(output, np.float64)
    if x.shape[-1] == 1:
        return x
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))
