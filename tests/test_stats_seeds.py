"""Statistics against hand-computed values, scipy, and the coverage that is promised."""

import math

import numpy as np
import pytest
import scipy.stats

from mmfuse.stats import paired, summary


def test_summary_by_hand():
    # 1, 2, 4: mean 7/3; squared deviations 16/9 + 1/9 + 25/9 = 42/9; / 2 = 7/3.
    s = summary([1.0, 2.0, 4.0])
    assert s.n == 3 and s.reason == ""
    assert s.mean == pytest.approx(7 / 3, rel=1e-15)
    assert s.sd == pytest.approx(math.sqrt(7 / 3), rel=1e-15)
    t = 0.95 * math.sqrt(2 / (1 - 0.95**2))  # closed form for two degrees of freedom
    half = t * math.sqrt(7 / 3) / math.sqrt(3)
    assert (s.low, s.high) == pytest.approx((7 / 3 - half, 7 / 3 + half), rel=1e-12)


@pytest.mark.parametrize("n", [2, 3, 5, 40])
@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_summary_against_scipy(n, level):
    x = np.random.default_rng(n).normal(3.0, 0.1, n)
    s = summary(x, level)
    low, high = scipy.stats.t.interval(level, n - 1, loc=x.mean(), scale=scipy.stats.sem(x))
    assert s.sd == pytest.approx(np.std(x, ddof=1), rel=1e-12)
    assert (s.low, s.high) == pytest.approx((low, high), rel=1e-10)


def test_interval_covers_as_promised():
    rng = np.random.default_rng(0)
    draws = [summary(x) for x in rng.normal(0.0, 1.0, (2000, 3))]
    share = np.mean([s.low < 0 < s.high for s in draws])
    assert abs(share - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 2000)


def test_one_seed_has_no_spread():
    s = summary([0.5])
    assert (s.n, s.mean, s.sd, s.low, s.high) == (1, 0.5, None, None, None)
    assert s.reason.startswith("one seed")


def test_no_seed():
    s = summary([])
    assert s.mean is None and s.reason == "no finished seed"


def test_equal_values_have_no_spread_and_no_interval():
    s = summary([0.7] * 3)
    assert (s.n, s.mean, s.sd, s.low, s.high) == (3, 0.7, 0.0, None, None)
    assert s.reason.startswith("no spread")


def test_a_spread_of_rounding_is_none():
    # .81 - .62 and .80 - .61 differ in the last bit alone.
    s = paired({0: 0.81, 1: 0.80, 2: 0.9}, {0: 0.62, 1: 0.61, 2: 0.71})
    assert s.mean == pytest.approx(0.19) and (s.sd, s.low, s.high) == (0.0, None, None)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_must_be_finite(bad):
    with pytest.raises(ValueError, match="finite"):
        summary([1.0, bad])


@pytest.mark.parametrize("level", [0, 1, 1.5])
def test_level(level):
    with pytest.raises(ValueError, match="level"):
        summary([1.0, 2.0], level)


def test_paired_takes_the_spread_of_the_differences():
    a, b = {0: 0.9, 1: 0.5, 2: 0.7}, {2: 0.6, 1: 0.39, 0: 0.8}
    s = paired(a, b)
    low, high = scipy.stats.ttest_rel([0.9, 0.5, 0.7], [0.8, 0.39, 0.6]).confidence_interval(0.95)
    assert s.mean == pytest.approx((0.1 + 0.11 + 0.1) / 3)
    assert (s.low, s.high) == pytest.approx((low, high), rel=1e-9)
    assert s.sd < summary(list(a.values())).sd / 10


def test_paired_uses_shared_seeds_only():
    s = paired({0: 1.0, 1: 2.0, 7: 9.0}, {0: 0.5, 1: 1.0, 3: -5.0})
    assert (s.n, s.mean) == (2, 0.75)


def test_paired_without_shared_seeds():
    assert paired({0: 1.0}, {1: 1.0}).reason == "no seed in common with the baseline"
    assert paired({0: 1.0}, {0: 0.75}).reason.startswith("one seed")
