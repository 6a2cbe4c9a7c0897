"""Ranks over data sets against scipy, scikit-posthocs and the tables of Demsar 2006."""

import numpy as np
import pandas
import pytest
import scikit_posthocs
import scipy.stats

from mmfuse.stats.several import iqm, iqm_interval, ranking


def _scores(seed=0, k=5, n=8, ties=False):
    values = np.random.default_rng(seed).normal(0, 1, (k, n)) + np.arange(k)[:, None] / 2
    return {f"r{i}": np.round(row) if ties else row for i, row in enumerate(values)}


@pytest.mark.parametrize("ties", [False, True])
def test_friedman_against_scipy(ties):
    scores = _scores(ties=ties)
    found = ranking(scores, [True] * 8)
    wanted = scipy.stats.friedmanchisquare(*scores.values())
    assert (found.statistic, found.p) == pytest.approx((wanted.statistic, wanted.pvalue))


def test_nemenyi_against_scikit_posthocs():
    scores = _scores()
    found = ranking(scores, [True] * 8)
    wanted = scikit_posthocs.posthoc_nemenyi_friedman(pandas.DataFrame(scores))
    for (a, b), p in found.pairs.items():
        assert p == pytest.approx(wanted.loc[a, b], abs=1e-6)


@pytest.mark.parametrize(("k", "q"), [(2, 1.960), (3, 2.343), (5, 2.728), (10, 3.164)])
def test_critical_difference_against_the_published_table(k, q):
    # Demsar 2006, table 5(a): critical values of Nemenyi's test at .05.
    n = 14
    found = ranking(_scores(k=k, n=n), [True] * n)
    assert found.critical == pytest.approx(q * (k * (k + 1) / (6 * n)) ** 0.5, rel=1e-3)


def test_ranks_by_hand():
    # Accuracy: b a c; MAE, where less is better: a, then b and c tie.
    scores = {"a": [0.8, 1.0], "b": [0.9, 2.0], "c": [0.7, 2.0]}
    found = ranking(scores, [True, False])
    assert found.names == ("a", "b", "c") and found.ranks == pytest.approx((1.5, 1.75, 2.75))
    assert found.cliques == (("a", "b", "c"),)


def test_rows_apart_by_more_than_the_critical_difference_differ():
    n = 12
    scores = {"best": np.full(n, 3.0), "middle": np.full(n, 2.0), "worst": np.full(n, 1.0)}
    found = ranking(scores, [True] * n)
    assert found.critical == pytest.approx(2.343 * (12 / (6 * n)) ** 0.5, rel=1e-3)  # .957
    assert found.cliques == () and all(p < 0.05 for p in found.pairs.values())
    few = ranking({name: values[:5] for name, values in scores.items()}, [True] * 5)  # 1.48
    assert few.cliques == (("best", "middle"), ("middle", "worst"))


def test_equal_rows_are_not_told_apart():
    found = ranking({"a": [1.0, 2.0], "b": [1.0, 2.0]}, [True, True])
    assert found.p is None and found.cliques == (("a", "b"),)


def test_no_pair_is_told_apart_where_friedman_finds_nothing():
    # One far pair among many rows: Nemenyi alone would call it, Friedman does not.
    for seed in range(40):
        scores = {f"r{i}": x for i, x in enumerate(np.random.default_rng(seed).normal(size=(8, 6)))}
        found = ranking(scores, [True] * 6)
        if found.p > 0.05:
            assert len(found.cliques) == 1 and len(found.cliques[0]) == 8


@pytest.mark.parametrize("scores", [{"a": [1.0, 2.0]}, {"a": [1.0], "b": [2.0]},
                                    {"a": [1.0, 2.0], "b": [1.0]}])  # fmt: skip
def test_too_little_to_rank(scores):
    with pytest.raises(ValueError, match="two rows and two data sets"):
        ranking(scores, [True] * len(next(iter(scores.values()))))


def test_iqm_by_hand():
    # 1 to 8 over two data sets: without two at each end, the mean of 3 4 5 6.
    assert iqm([[8.0, 1.0, 3.0], [2.0, 7.0, 4.0, 5.0, 6.0]]) == 4.5


def test_iqm_interval_is_stratified():
    # No spread within a data set: nothing to resample, however far the data sets are apart.
    assert iqm_interval([[1.0, 1.0], [9.0, 9.0]]) == (5.0, 5.0)
    rng = np.random.default_rng(0)
    scores = rng.normal([[0.0], [5.0]], 1.0, (2, 40))
    low, high = iqm_interval(scores, draws=5000)
    other = [iqm([s[rng.integers(0, 40, 40)] for s in scores]) for _ in range(1500)]
    assert (low, high) == pytest.approx(tuple(np.quantile(other, [0.025, 0.975])), abs=0.08)
    assert iqm_interval(scores) == iqm_interval(scores)
