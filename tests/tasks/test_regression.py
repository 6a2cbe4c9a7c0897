import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmfuse.errors import RowError
from mmfuse.tasks.regression import Regression, Sentiment


def test_regression_by_hand_and_by_numpy():
    p, y = np.array([1.0, 2.0, 4.0]), np.array([1.0, 3.0, 2.0])
    ones = jnp.ones(3)
    task = Regression()
    output = jnp.asarray(p[:, None], jnp.float32)
    sums = task.sums(output, jnp.asarray(y, jnp.float32), ones)
    found = task.scores(jax.device_get(sums) | {"count": 3})
    assert found["mae"] == pytest.approx(1)
    assert found["correlation"] == pytest.approx(np.corrcoef(p, y)[0, 1], abs=1e-5)
    sums = task.sums(jnp.full((3, 1), 2.0), jnp.asarray(y, jnp.float32), ones)
    constant = task.scores(jax.device_get(sums) | {"count": 3})
    assert constant["correlation"] is None


def test_squared_error():
    found = Regression().loss(jnp.array([[1.0], [3.0]]), jnp.array([2.0, 1.0]), smoothing=0.3)
    np.testing.assert_allclose(found, [1, 4])


def scored(p, y, weight=None):
    p, y = jnp.asarray(p, jnp.float32), jnp.asarray(y, jnp.float32)
    weight = jnp.ones(len(p)) if weight is None else jnp.asarray(weight, jnp.float32)
    sums = jax.device_get(Sentiment().sums(p[:, None], y, weight))
    return Sentiment().scores(sums | {"count": np.sum(weight)})


def test_sentiment_by_hand():
    y = [-3.0, -0.4, 0.0, 0.0, 1.0, 2.2]
    p = [-3.7, 0.1, 0.0, -0.2, 0.9, -1.0]
    found = scored(p, y)
    # has 0: true - - + + + +, predicted - + + - + -: 3 of 6. F1 of -: 2/(2+3), of +: 4/(4+3).
    assert found["acc2_has0"] == pytest.approx(3 / 6)
    assert found["f1_has0"] == pytest.approx((2 * (2 / 5) + 4 * (4 / 7)) / 6)
    # non 0 leaves -3, -0.4, 1, 2.2: true - - + +, predicted - + + -: 2 of 4, F1 of each 2/4.
    assert found["acc2_non0"] == pytest.approx(2 / 4)
    assert found["f1_non0"] == pytest.approx(1 / 2)
    # seven classes: true -3 0 0 0 1 2, predicted -3 (clipped) 0 0 0 1 -1: 5 of 6.
    assert found["acc7"] == pytest.approx(5 / 6)
    assert found["mae"] == pytest.approx((0.7 + 0.5 + 0 + 0.2 + 0.1 + 3.2) / 6, abs=1e-6)
    squares = 0.49 + 0.25 + 0 + 0.04 + 0.01 + 10.24
    assert found["rmse"] == pytest.approx((squares / 6) ** 0.5, abs=1e-6)


def test_sentiment_against_counting():
    rng = np.random.default_rng(2)
    y = rng.integers(-15, 16, 400) / 5
    p = np.float32(y + rng.normal(0, 1.5, 400))
    found = scored(p, y)
    for name, kept, side in (("has0", y > -9, np.greater_equal), ("non0", y != 0, np.greater)):
        true, predicted = side(y[kept], 0), side(p[kept], 0)
        assert found[f"acc2_{name}"] == pytest.approx(np.mean(true == predicted))
        weighted = 0
        for c in (False, True):
            hits = np.sum((true == c) & (predicted == c))
            weighted += 2 * hits / (np.sum(true == c) + np.sum(predicted == c)) * np.mean(true == c)
        assert found[f"f1_{name}"] == pytest.approx(weighted)
    hits = [round(max(-3, min(3, a))) == round(b) for a, b in zip(p.tolist(), y, strict=True)]
    assert found["acc7"] == pytest.approx(np.mean(hits))


def test_what_is_not_defined_is_none_and_weights_count():
    found = scored([1.0, -1.0], [0.0, 0.0])
    assert (found["acc2_non0"], found["f1_non0"], found["acc2_has0"]) == (None, None, 0.5)
    assert scored([1, 2, 9], [1, -2, 9], [1, 1, 0]) == scored([1, 2], [1, -2])


def test_a_label_that_is_no_number_names_its_row():
    assert Regression().labels({"label": [1, 2.5]}).dtype == np.float32
    with pytest.raises(RowError, match="nan is not finite") as error:
        Regression().labels({"label": [0.5, 1.0, np.nan]})
    assert error.value.row == 2
