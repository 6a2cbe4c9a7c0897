"""Tests of differences against scipy, statsmodels and hand computation; and what is not claimed."""

import math

import numpy as np
import pytest
import scipy.stats
from statsmodels.stats.multitest import multipletests

from mmfuse.stats.differences import (
    FEWEST,
    against,
    compare,
    correction,
    footnotes,
    holm,
    reaches,
    sign_flip,
)


def _seeds(values):
    return dict(enumerate(map(float, values)))


@pytest.mark.parametrize("n", [3, 5, 10, 40])
def test_t_test_against_scipy(n):
    a, b = np.random.default_rng(n).normal(0.5, 0.1, (2, n))
    found, wanted = compare(_seeds(a), _seeds(b)), scipy.stats.ttest_rel(a, b)
    assert (found.n, found.t, found.p) == pytest.approx((n, wanted.statistic, wanted.pvalue))


@pytest.mark.parametrize("n", [6, 9, 12])
def test_sign_flip_against_scipy(n):
    x = np.random.default_rng(n).normal(0.3, 1.0, n)
    wanted = scipy.stats.permutation_test((x,), np.mean, permutation_type="samples",
                                          n_resamples=np.inf)  # fmt: skip
    assert sign_flip(x) == pytest.approx(wanted.pvalue, rel=1e-12)


def test_sign_flip_by_hand():
    # Signs of 1, 2, 4 sum to +-7, +-5, +-3, +-1: only the first two of eight reach 7.
    assert sign_flip([1.0, 2.0, 4.0]) == 2 / 8
    assert sign_flip([1.0, 2.0, -4.0]) == 1.0  # every sum is as far from 0 as 1
    assert sign_flip([0.1, 0.2, -0.3]) == 1.0  # a sum of zero, but for rounding
    assert sign_flip([1.0, 1.0, 1.0, 0.0]) == 4 / 16  # ties and zeros


def test_sign_flip_stands_where_it_can_reach_the_level():
    # 2 / 2^5 = .0625 misses .05; 2 / 2^6 = .031 reaches it for one comparison but not for two.
    assert [reaches(n, 1) for n in (5, 6)] == [False, True]
    assert [reaches(n, 2) for n in (6, 7)] == [False, True]
    x = _seeds(range(6))
    zero = _seeds([0.0] * 6)
    assert compare(x, zero).exact is not None and compare(x, zero, family=2).exact is None
    assert compare(_seeds(range(21)), _seeds([0] * 21)).exact is None


@pytest.mark.parametrize("seed", range(5))
def test_holm_against_statsmodels(seed):
    ps = np.random.default_rng(seed).uniform(0, 0.2, 8)
    assert holm(ps) == pytest.approx(multipletests(ps, method="holm")[1], rel=1e-12)


def test_holm_by_hand():
    # Sorted .01 .02 .03 .04, times 4 3 2 1: .04 .06 .06 .04, made rising: .04 .06 .06 .06.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    # An untested one counts: three comparisons, not two.
    assert holm([0.02, None, 0.01]) == [pytest.approx(0.04), None, pytest.approx(0.03)]
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []


def test_hedges_correction():
    # df = 4: G(2) / (sqrt(2) G(1.5)) = 1 / (sqrt(2) sqrt(pi) / 2).
    assert correction(4) == pytest.approx(2 / math.sqrt(2 * math.pi), rel=1e-12)
    assert correction(50) == pytest.approx(1 - 3 / (4 * 50 - 1), rel=1e-4)  # Hedges' approximation
    # Differences 1 2 3: mean 2, sd 1.
    assert compare(_seeds([1, 2, 3]), _seeds([0, 0, 0])).effect == pytest.approx(2 * correction(2))


def test_effect_is_unbiased():
    draws = np.random.default_rng(0).normal(1.0, 1.0, (20000, 4))
    found = correction(3) * draws.mean(1) / draws.std(1, ddof=1)
    assert found.mean() == pytest.approx(1.0, abs=4 * found.std() / math.sqrt(20000))


@pytest.mark.parametrize(
    ("a", "b", "reason"),
    [
        ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5], "equal in every seed"),
        ([0.81, 0.80, 0.90], [0.62, 0.61, 0.71], "no spread"),  # .19 but for the last bit
        ([0.9, 0.8], [0.1, 0.001], "fewer than 3"),
        ([0.9], [0.1], "fewer than 3"),
        ([], [0.1], "fewer than 3"),
    ],
)
def test_nothing_is_claimed_without_a_spread_or_with_few_seeds(a, b, reason):
    found = against({"row": _seeds(a), "base": _seeds(b)}, "base")["row"]
    assert not found.significant and found.p is None and found.holm is None
    assert reason in found.reason
    assert FEWEST == 3


def test_seeds_are_paired_by_name():
    a, b = {3: 0.5, 1: 0.7, 2: 0.62, 9: 0.0}, {1: 0.6, 2: 0.5, 3: 0.41, 8: 1.0}
    wanted = scipy.stats.ttest_rel([0.7, 0.62, 0.5], [0.6, 0.5, 0.41])
    assert compare(a, b).p == pytest.approx(wanted.pvalue, rel=1e-9) and compare(a, b).n == 3


def test_against_corrects_for_all_rows():
    rng = np.random.default_rng(1)
    rows = {f"row {i}": _seeds(rng.normal(0.5 + 0.2 * i, 0.05, 5)) for i in range(4)}
    rows["short"] = _seeds([0.4])
    found = against(rows, "row 0")
    assert list(found) == ["row 1", "row 2", "row 3", "short"]
    base = list(rows["row 0"].values())
    ps = [scipy.stats.ttest_rel(list(rows[f"row {i}"].values()), base).pvalue for i in (1, 2, 3)]
    wanted = multipletests([*ps, 1.0], method="holm")[1][:3]
    assert [found[f"row {i}"].holm for i in (1, 2, 3)] == pytest.approx(wanted)
    assert [found[f"row {i}"].significant for i in (1, 2, 3)] == [p <= 0.05 for p in wanted]


def test_claims_among_equal_rows_keep_the_level():
    """Normal scores of five equal rows: any claim in at most 5 % of tables, and not in none."""
    rng, tables = np.random.default_rng(0), 1000
    claims = 0
    for scores in rng.normal(0.0, 1.0, (tables, 5, 5)):
        rows = {str(i): _seeds(x) for i, x in enumerate(scores)}
        claims += any(c.significant for c in against(rows, "0").values())
    assert 0.02 < claims / tables < 0.05 + 3 * math.sqrt(0.05 * 0.95 / tables)


def test_footnotes_say_what_was_done():
    rng = np.random.default_rng(2)
    rows = {name: _seeds(rng.normal(0.5, 0.1, 9)) for name in "abc"} | {"d": _seeds([1.0])}
    said = " ".join(footnotes(against(rows, "a"), "a"))
    assert "paired t test over seeds against a" in said and "for the 3 row(s)" in said
    assert "sign-flip test of the same differences, corrected alike, decides alike" in said
    assert "Not tested, fewer than 3 seeds in common: d." in said
    few = {name: _seeds(rng.normal(0.5, 0.1, 5)) for name in "ab"}
    assert "can reach 0.05 from 6 seeds on" in " ".join(footnotes(against(few, "a"), "a"))
