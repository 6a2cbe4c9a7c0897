import numpy as np
import pytest

from mmfuse.data.splits import duplicate_groups, stratified

SHARES = {"train": 0.7, "valid": 0.1, "test": 0.2}


def counts(labels, chosen):
    return {
        (kind, split): int(((labels == kind) & (chosen == split)).sum())
        for kind in np.unique(labels)
        for split in SHARES
    }


def test_every_class_is_cut_at_the_stated_shares():
    labels = np.array([0] * 60 + [1] * 30 + [2] * 7)
    expected = {  # by hand: 60 -> 42/6/12, 30 -> 21/3/6, 7 -> cuts at 5 and rint(5.6) = 6
        (0, "train"): 42, (0, "valid"): 6, (0, "test"): 12,
        (1, "train"): 21, (1, "valid"): 3, (1, "test"): 6,
        (2, "train"): 5, (2, "valid"): 1, (2, "test"): 1,
    }  # fmt: skip
    assert counts(labels, stratified(labels, SHARES, 3)) == expected


def test_the_split_depends_on_the_seed_alone():
    labels = np.arange(200) % 4
    once, again, other = (stratified(labels, SHARES, seed) for seed in (1, 1, 2))
    assert (once == again).all()
    assert (once != other).any()


def test_members_are_drawn_evenly():
    labels = np.zeros(10, int)
    drawn = np.mean([stratified(labels, SHARES, seed) == "test" for seed in range(400)], axis=0)
    assert drawn == pytest.approx(np.full(10, 0.2), abs=0.08)  # 4 standard errors


def test_groups_stay_together_and_shares_hold_nearly():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 300, 900)
    labels = rng.integers(0, 3, 900)
    chosen = stratified(labels, SHARES, 0, groups)
    for group in np.unique(groups):
        assert len(set(chosen[groups == group])) == 1
    for split, share in SHARES.items():
        assert np.mean(chosen == split) == pytest.approx(share, abs=0.03)


def test_duplicate_groups_are_joined_through_any_column():
    texts = ["a", "b", "a", "c", "d", "c"]
    pictures = [1, 2, 3, 3, 4, 5]
    # 0-2 by text, 2-3 by picture, 3-5 by text; 1 and 4 alone
    assert duplicate_groups(texts, pictures).tolist() == [0, 1, 0, 0, 2, 0]
    assert duplicate_groups(texts).tolist() == [0, 1, 0, 2, 3, 2]
    assert duplicate_groups(["b", "a"]).tolist() == [0, 1]
    # by the second column 2 joins 0 and 3: still the group of the first example
    assert duplicate_groups(["y", "q", "z", "y"], [1, 2, 3, 3]).tolist() == [0, 1, 0, 0]
