"""Which rows differ from the baseline: tests of differences paired by seed.

The test that decides is Student's t: with five seeds no exact test can reach a level of 5 %
(sign-flip: 2 of 32 patterns). Where there are seeds enough the exact test stands beside it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from scipy.special import gammaln, stdtr

from mmfuse.stats.seeds import ROUNDING, size

LEVEL = 0.05
FEWEST = 3  # seeds of a claim: two say nothing of how differences are distributed
MOST_EXACT = 20  # seeds whose 2^n signs are enumerated


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One row against another over the seeds that both have; None is what cannot be known.

    Attributes:
      n: number of shared seeds.
      t: Student's t of the differences.
      p: its two-sided p, for this pair alone.
      holm: the same, corrected for all comparisons of the family.
      exact: two-sided p of the exact sign-flip test, where it can reach the level.
      exact_holm: the same, corrected.
      effect: Hedges' g of paired differences: their mean over their sd, bias corrected.
      significant: whether ``holm`` is at most the level.
      reason: why there is no test, or an empty string.
    """

    n: int
    t: float | None = None
    p: float | None = None
    holm: float | None = None
    exact: float | None = None
    exact_holm: float | None = None
    effect: float | None = None
    significant: bool = False
    reason: str = ""


def compare(
    values: Mapping[int, float], other: Mapping[int, float], family: int = 1, level: float = LEVEL
) -> Comparison:
    """Tests whether ``values - other`` has mean zero, seed by seed: ``t = mean sqrt(n) / sd``.

    No test where fewer than ``FEWEST`` seeds are shared, or where the differences do not vary: a
    spread of zero makes t infinite, and says that the seeds changed nothing, not that all would
    agree.

    Args:
      values: ``{seed: value}`` of a row.
      other: ``{seed: value}`` of the row it is compared with.
      family: how many comparisons are made; decides whether the exact test is of use.
      level: the level that the family of comparisons keeps.
    """
    seeds = sorted(set(values) & set(other))
    x = np.array([values[seed] - other[seed] for seed in seeds], np.float64)
    if x.size < FEWEST:
        return Comparison(x.size, reason=f"fewer than {FEWEST} seeds in common")
    rounding = ROUNDING * size(values, other)
    if np.abs(x).max() <= rounding:
        return Comparison(x.size, reason="equal in every seed")
    sd = float(np.std(x, ddof=1))
    if sd <= rounding:
        return Comparison(x.size, reason="the same difference in every seed: no spread to test by")
    t = float(x.mean()) * math.sqrt(x.size) / sd
    return Comparison(
        n=x.size,
        t=t,
        p=2 * float(stdtr(x.size - 1, -abs(t))),
        exact=sign_flip(x) if reaches(x.size, family, level) else None,
        effect=correction(x.size - 1) * float(x.mean()) / sd,
    )


def reaches(n: int, family: int, level: float = LEVEL) -> bool:
    """Says whether the smallest p of n sign flips, 2 / 2^n, can pass Holm's first step."""
    return n <= MOST_EXACT and 2.0 ** (1 - n) * family <= level


def sign_flip(differences: Sequence[float]) -> float:
    """Returns the exact two-sided p of the mean under all 2^n sign patterns.

    The share of patterns whose sum is as far from zero as the one seen; sums that differ by
    rounding alone are equal. Exact if differences are symmetric about zero (Fisher 1935).
    """
    x = np.asarray(differences, np.float64)
    sums = x[:1]  # the first sign is fixed: every pattern has a mirror image with the same |sum|
    for value in x[1:]:
        sums = np.concatenate([sums + value, sums - value])
    slack = 1e-12 * np.abs(x).sum()
    return float(np.mean(np.abs(sums) >= abs(x.sum()) - slack))


def correction(df: int) -> float:
    """Returns Hedges' factor: ``G(df/2) / (sqrt(df/2) G((df-1)/2))``, G the gamma function.

    It makes mean / sd unbiased for normal values; needs df >= 2 (Hedges 1981).
    """
    return math.exp(gammaln(df / 2) - gammaln((df - 1) / 2)) / math.sqrt(df / 2)


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Returns Holm's adjusted p values; what was not tested counts in the family and stays None.

    Sorted upwards, ``p_(i)`` becomes ``max over j <= i of (m - j + 1) p_(j)``, at most 1
    (Holm 1979). Rejecting those at most ``level`` keeps the chance of any false claim below it.
    """
    tested = sorted((p, place) for place, p in enumerate(ps) if p is not None)
    adjusted: list[float | None] = [None] * len(ps)
    largest = 0.0
    for rank, (p, place) in enumerate(tested):
        largest = max(largest, min(1.0, (len(ps) - rank) * p))
        adjusted[place] = largest
    return adjusted


def against(
    rows: Mapping[str, Mapping[int, float]],
    baseline: str,
    own: Mapping[str, str] = MappingProxyType({}),
    level: float = LEVEL,
) -> dict[str, Comparison]:
    """Compares every row with the baseline and corrects for their number.

    Args:
      rows: ``{row: {seed: value}}``; a baseline that is not among them has no seeds.
      baseline: the row that the others are compared with.
      own: ``{row: the row it is compared with instead}``.
      level: the chance of any false claim among them, under the assumptions of the test.
    """
    others = [name for name in rows if name != baseline]
    found = [
        compare(rows[name], rows.get(own.get(name, baseline), {}), len(others), level)
        for name in others
    ]
    return dict(zip(others, corrected(found, level), strict=True))


def footnotes(
    found: Mapping[str, Comparison], baseline: str, level: float = LEVEL
) -> Iterator[str]:
    """Yields what was tested, how, and at what level, for the comparisons of :func:`against`."""
    tested = {name: c for name, c in found.items() if c.p is not None}
    if tested:
        yield (
            f"Difference: paired t test over seeds against {baseline}, two-sided; p corrected by "
            f"Holm for the {len(found)} row(s) compared; significant: p at most {level:g}. So the "
            f"chance of any false claim among them is at most {level * 100:g} % if differences are "
            "normal. g: Hedges' effect size, the mean difference over its standard deviation."
        )
        yield _exact(tested, len(found), level)
    untested: dict[str, list[str]] = {}
    for name, c in found.items():
        if c.reason:
            untested.setdefault(c.reason, []).append(name)
    for reason, names in untested.items():
        yield f"Not tested, {reason}: {', '.join(names)}."


def _exact(tested: Mapping[str, Comparison], family: int, level: float) -> str:
    """Says what the exact test makes of the same differences."""
    without = [name for name, c in tested.items() if c.exact_holm is None]
    if without:
        most = max(c.n for c in tested.values())
        if most > MOST_EXACT:
            return f"No exact sign-flip test: over {MOST_EXACT} seeds its patterns are too many."
        needed = next(n for n in range(2, 64) if 2.0 ** (1 - n) * family <= level)
        return (
            f"No exact sign-flip test: with {family} row(s) compared it can reach {level:g} from "
            f"{needed} seeds on."
        )
    other = [n for n, c in tested.items() if (c.exact_holm <= level) != c.significant]
    verdict = f"decides otherwise on {', '.join(other)}" if other else "decides alike on every row"
    return f"The exact sign-flip test of the same differences, corrected alike, {verdict}."


def corrected(found: Sequence[Comparison], level: float = LEVEL) -> list[Comparison]:
    """Returns the comparisons of one family with their corrected p values and verdicts."""
    adjusted = holm([c.p for c in found])
    exact = holm([c.exact for c in found])
    return [
        dataclasses.replace(c, holm=p, exact_holm=e, significant=p is not None and p <= level)
        for c, p, e in zip(found, adjusted, exact, strict=True)
    ]
