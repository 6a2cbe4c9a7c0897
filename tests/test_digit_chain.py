"""The chain and its channels, against a second enumeration and against what is drawn."""

import itertools

import numpy as np
import pytest
from scipy import stats

from mmfuse.data import digit_chain as chain
from mmfuse.data.helpdesk_factors import MODALITIES, bayes_accuracies

ERRORS = {"audio": 0.2, "image": 0.3, "text": 0.4}
BY_THREE, BY_ONE = 0.8, 0.1


def test_every_digit_follows_and_is_followed_alike():
    table = chain.transitions(BY_THREE, BY_ONE)
    np.testing.assert_allclose(table.sum(axis=0), 1)
    np.testing.assert_allclose(table.sum(axis=1), 1)
    assert (table[4, 7], table[4, 5], table[9, 2], table[9, 0]) == (0.8, 0.1, 0.8, 0.1)
    assert table[4, 4] == pytest.approx(0.1 / 8)


def enumerated(errors, subset):
    """Bayes accuracy from the shown digits of ``subset``, by going through all that can happen."""
    weights = {}
    for digit, following, *shown in itertools.product(range(10), repeat=2 + len(subset)):
        step = {3: BY_THREE, 1: BY_ONE}.get((following - digit) % 10, (1 - BY_THREE - BY_ONE) / 8)
        p = step / 10
        for name, code in zip(subset, shown, strict=True):
            p *= 1 - errors[name] if code == digit else errors[name] / 9
        at = weights.setdefault(tuple(shown), np.zeros(10))
        at[following] += p
    return sum(at.max() for at in weights.values())


def test_the_optima_of_all_subsets_by_a_second_enumeration():
    table = chain.joint(chain.transitions(BY_THREE, BY_ONE), ERRORS)
    found = bayes_accuracies(table)
    assert table.sum() == pytest.approx(1) and len(found) == 8
    for size in range(4):
        for subset in itertools.combinations(MODALITIES, size):
            expected = enumerated(ERRORS, subset)
            assert found["+".join(subset) or "chance"] == pytest.approx(expected, abs=1e-12)


def test_one_modality_by_hand_and_three_can_vote():
    even = dict.fromkeys(MODALITIES, 0.3)
    found = bayes_accuracies(chain.joint(chain.transitions(0.9, 0.05), even))
    alone = 0.7 * 0.9 + 0.3 / 9 * (0.05 + 8 * 0.05 / 8)
    assert [found[m] for m in MODALITIES] == pytest.approx([alone] * 3)
    assert found["audio+image"] - alone < 0.002, "where two disagree, nobody knows"
    assert found["audio+image+text"] - alone > 0.12
    clean = bayes_accuracies(chain.joint(chain.transitions(0.9, 0.05), dict.fromkeys(even, 0.0)))
    assert clean["text"] == pytest.approx(0.9) == clean["audio+image+text"]


def test_a_drawn_stream_is_as_likely_as_the_tables_say():
    table, steps = chain.transitions(BY_THREE, BY_ONE), 40_000
    rng = np.random.default_rng(0)
    digits = chain.walk(table, steps + 1, rng)
    counts = np.zeros((10, 10))
    np.add.at(counts, (digits[:-1], digits[1:]), 1)
    expected = counts.sum(axis=1, keepdims=True) * table
    assert stats.chi2.sf(((counts - expected) ** 2 / expected).sum(), 90) > 1e-4
    shown = {m: chain.corrupted(digits[:-1], e, rng) for m, e in ERRORS.items()}
    for name, error in ERRORS.items():
        moved = np.bincount((shown[name] - digits[:-1]) % 10, minlength=10)
        law = np.array([1 - error] + [error / 9] * 9) * steps
        assert stats.chi2.sf(((moved - law) ** 2 / law).sum(), 9) > 1e-4
    joint = chain.joint(table, ERRORS)
    belief = chain.posterior(joint, shown)
    np.testing.assert_allclose(belief.sum(axis=1), 1)
    hits = np.mean(belief.argmax(axis=1) == digits[1:])
    optimum = bayes_accuracies(joint)["audio+image+text"]
    assert abs(hits - optimum) < 4 * (optimum * (1 - optimum) / steps) ** 0.5


def test_what_is_shown_without_error_leaves_the_chain_alone():
    table = chain.transitions(BY_THREE, BY_ONE)
    digits = np.arange(10)
    assert (chain.corrupted(digits, 0.0, np.random.default_rng(0)) == digits).all()
    joint = chain.joint(table, dict.fromkeys(MODALITIES, 0.0))
    with np.errstate(invalid="ignore"):
        belief = chain.posterior(joint, dict.fromkeys(MODALITIES, digits))
    np.testing.assert_allclose(belief, table)
