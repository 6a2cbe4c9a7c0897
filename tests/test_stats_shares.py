"""Exact intervals of a rate against scipy."""

import pytest
import scipy.stats

from mmfuse.stats.shares import clopper_pearson


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (10, 10), (3, 20), (9, 200)])
def test_against_scipy(hits, n):
    wanted = scipy.stats.binomtest(hits, n).proportion_ci(0.95, method="exact")
    assert clopper_pearson(hits, n) == pytest.approx((wanted.low, wanted.high), abs=1e-9)


@pytest.mark.parametrize(("hits", "n"), [(0, 0), (3, 2), (-1, 2)])
def test_impossible_counts(hits, n):
    with pytest.raises(ValueError, match="hits"):
        clopper_pearson(hits, n)
