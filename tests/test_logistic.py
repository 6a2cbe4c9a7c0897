"""Logistic regression against statsmodels, and against what must be."""

import numpy as np
import pytest
from statsmodels.discrete.discrete_model import MNLogit

from mmfuse.data.logistic import answers, fit


def test_without_a_penalty_it_is_the_maximum_of_the_likelihood():
    rng = np.random.default_rng(0)
    x, label = rng.normal(size=(300, 3)), rng.integers(0, 3, 300)
    weights, bias = fit(x, label, 3, 1e-9)
    wanted = MNLogit(label, np.column_stack([np.ones(300), x])).fit(disp=0).params  # [4, 2]
    np.testing.assert_allclose((bias - bias[0])[1:], wanted[0], atol=1e-3)
    np.testing.assert_allclose((weights - weights[:, :1])[:, 1:], wanted[1:], atol=1e-3)


@pytest.mark.parametrize("penalty", [0.5, 10.0])
def test_the_penalised_loss_is_least_there(penalty):
    rng = np.random.default_rng(1)
    x, label = rng.normal(size=(80, 4)), rng.integers(0, 3, 80)
    weights, bias = fit(x, label, 3, penalty)
    score = x @ weights + bias
    p = np.exp(score) / np.exp(score).sum(1, keepdims=True)
    error = p - np.eye(3)[label]
    np.testing.assert_allclose(x.T @ error, -penalty * weights, atol=1e-3)
    np.testing.assert_allclose(error.sum(0), 0, atol=1e-3)


def test_nothing_is_learned_of_the_test_part():
    rng = np.random.default_rng(2)
    x, label = rng.normal(size=(60, 5)), rng.integers(0, 2, 60)
    x[:, 0] += 5 * label
    x[:, 4] = 7  # a constant column
    test = np.arange(60) < 20
    found = answers(x, label, ~test, test)
    assert np.mean(found == label[:20]) > 0.9
    np.testing.assert_array_equal(answers(x, np.where(test, 0, label), ~test, test), found)
