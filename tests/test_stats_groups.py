"""Letters: rows share one exactly if they do not differ."""

import itertools
import random

import numpy as np
import pytest
import scipy.stats
from statsmodels.stats.multitest import multipletests

from mmfuse.stats.groups import cliques, letters, pairs


def test_letters_by_hand():
    assert letters("xyz", []) == {"x": "a", "y": "a", "z": "a"}
    assert letters("xyz", [("x", "z")]) == {"x": "a", "y": "ab", "z": "b"}
    assert letters("xyz", [("x", "z"), ("x", "y")]) == {"x": "a", "y": "b", "z": "b"}
    every = list(itertools.combinations("xyz", 2))
    assert letters("xyz", every) == {"x": "a", "y": "b", "z": "c"}
    assert letters([], []) == {}


@pytest.mark.parametrize("seed", range(20))
def test_letters_are_shared_exactly_where_nothing_differs(seed):
    rng = random.Random(seed)
    names = [f"r{i}" for i in range(7)]
    every = list(itertools.combinations(names, 2))
    differ = rng.sample(every, rng.randrange(len(every) + 1))
    shown = letters(names, differ)
    for a, b in every:
        assert bool(set(shown[a]) & set(shown[b])) == ((a, b) not in differ)
    groups = [set(group) for group in cliques(names, differ)]
    assert not any(one < other for one in groups for other in groups)


def test_many_letters_stay_apart():
    names = [str(i) for i in range(30)]
    shown = letters(names, list(itertools.combinations(names, 2)))
    assert len(set(shown.values())) == 30 and shown["26"] == "a1"


def test_pairs_are_corrected_over_all_pairs():
    rng = np.random.default_rng(0)
    rows = {str(i): dict(enumerate(rng.normal(0.1 * i, 0.05, 5))) for i in range(4)}
    found = pairs(rows)
    ps = [
        scipy.stats.ttest_rel(list(rows[a].values()), list(rows[b].values())).pvalue
        for a, b in found
    ]
    wanted = multipletests(ps, method="holm")[1]
    assert len(found) == 6 and [c.holm for c in found.values()] == pytest.approx(wanted)
