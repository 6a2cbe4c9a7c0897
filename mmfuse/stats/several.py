"""Rows over several data sets: mean ranks, who differs by them, and an aggregate score.

A data set counts once, by its mean over seeds: data sets, not runs, are the sample (Demsar 2006).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import chi2, rankdata, studentized_range, trim_mean

from mmfuse.stats.differences import LEVEL
from mmfuse.stats.groups import cliques

DRAWS = 2000


@dataclasses.dataclass(frozen=True)
class Ranking:
    """What a critical-difference diagram draws.

    Attributes:
      names: the rows, best mean rank first.
      ranks: their mean ranks over data sets, 1 is best; ties share the mean of their places.
      datasets: number of data sets.
      statistic: Friedman's chi square, corrected for ties; None where all rows tie everywhere.
      p: its p, chi square with k - 1 degrees of freedom.
      critical: the least difference of two mean ranks that Nemenyi's test calls significant.
      pairs: ``{(row, row): p}`` by Nemenyi's test, corrected over all pairs.
      cliques: the largest groups of rows in which no pair differs: the bars of the diagram.
      level: of both tests.
    """

    names: tuple[str, ...]
    ranks: tuple[float, ...]
    datasets: int
    statistic: float | None
    p: float | None
    critical: float
    pairs: dict[tuple[str, str], float]
    cliques: tuple[tuple[str, ...], ...]
    level: float


def ranking(
    scores: Mapping[str, Sequence[float]], higher: Sequence[bool], level: float = LEVEL
) -> Ranking:
    """Ranks rows on every data set and tests their mean ranks (Friedman 1937, Nemenyi 1963).

    Nemenyi: ``q = |R_i - R_j| / sqrt(k (k + 1) / (6 N))`` against the studentised range of k groups
    over sqrt(2), infinite degrees of freedom. Pairs differ only if Friedman's test says so of any.

    Args:
      scores: ``{row: [N scores]}``, one a data set, in one order.
      higher: for each data set, whether a higher score is better.
      level: of both tests.

    Raises:
      ValueError: fewer than two rows or data sets, or rows of different length.
    """
    names, n = list(scores), len(higher)
    k = len(names)
    if k < 2 or n < 2 or any(len(values) != n for values in scores.values()):
        raise ValueError("a ranking needs two rows and two data sets, and a score of each on each")
    table = np.array([scores[name] for name in names], np.float64).T  # [N, k]
    table = np.where(np.asarray(higher)[:, None], -table, table)
    ranks = np.stack([rankdata(line) for line in table])
    mean = ranks.mean(0)
    statistic, p = _friedman(ranks)
    unit = math.sqrt(k * (k + 1) / (6 * n))
    critical = float(studentized_range.ppf(1 - level, k, np.inf)) / math.sqrt(2) * unit
    order = sorted(range(k), key=lambda i: mean[i])
    pairs = {
        (names[i], names[j]): float(
            studentized_range.sf(abs(mean[i] - mean[j]) / unit * math.sqrt(2), k, np.inf)
        )
        for place, i in enumerate(order)
        for j in order[place + 1 :]
    }
    any_differ = p is not None and p <= level
    differ = [pair for pair, value in pairs.items() if any_differ and value <= level]
    ordered = [names[i] for i in order]
    return Ranking(
        names=tuple(ordered),
        ranks=tuple(float(mean[i]) for i in order),
        datasets=n,
        statistic=statistic,
        p=p,
        critical=critical,
        pairs=pairs,
        cliques=tuple(group for group in cliques(ordered, differ) if len(group) > 1),
        level=level,
    )


def _friedman(ranks: np.ndarray) -> tuple[float | None, float | None]:
    """Returns Friedman's chi square of ranks [N, k], corrected for ties, and its p."""
    n, k = ranks.shape
    ties = sum((c**3 - c).sum() for c in (np.unique(r, return_counts=True)[1] for r in ranks))
    correction = 1 - ties / (n * (k**3 - k))
    if correction <= 0:
        return None, None
    spread = ((ranks.sum(0) - n * (k + 1) / 2) ** 2).sum()
    statistic = float(12 * spread / (n * k * (k + 1)) / correction)
    return statistic, float(chi2.sf(statistic, k - 1))


def iqm(scores: Sequence[Sequence[float]]) -> float:
    """Returns the interquartile mean of all runs: the mean of the middle half (Agarwal 2021).

    ``scores`` has the runs of each data set. A quarter of all runs, rounded down, goes at each end.
    """
    return float(trim_mean(np.concatenate([np.asarray(s, np.float64) for s in scores]), 0.25))


def iqm_interval(
    scores: Sequence[Sequence[float]], level: float = 0.95, draws: int = DRAWS
) -> tuple[float, float]:
    """Returns the percentile interval of :func:`iqm`, runs resampled within each data set.

    Stratified: every draw has as many runs of each data set as there are. It speaks of other seeds
    on these data sets, not of other data sets. The generator is fixed.
    """
    rng = np.random.default_rng(0)
    strata = [np.asarray(s, np.float64) for s in scores]
    drawn = [s[rng.integers(0, s.size, (draws, s.size))] for s in strata]
    means = trim_mean(np.concatenate(drawn, axis=1), 0.25, axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
