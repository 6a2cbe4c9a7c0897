import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmfuse.errors import RowError
from mmfuse.tasks.classification import Classification, cross_entropy


def classified(logits, label, weight=None):
    weight = np.ones(len(label)) if weight is None else weight
    task = Classification(np.shape(logits)[1])
    sums = task.sums(
        jnp.asarray(logits, jnp.float32), jnp.asarray(label), jnp.asarray(weight, jnp.float32)
    )
    return sums, task.scores(jax.device_get(sums))


def logits_for(predicted, classes):
    return np.eye(classes)[np.asarray(predicted)] * 3 - 1


def test_three_classes_by_hand():
    true, predicted = [0, 0, 0, 0, 1, 1, 2, 2], [0, 0, 1, 2, 1, 1, 1, 0]
    _, found = classified(logits_for(predicted, 3), true)
    assert found.pop("confusion") == [[2, 1, 1], [0, 2, 0], [1, 1, 0]]
    precision, recall = (2 / 3, 2 / 4, 0), (2 / 4, 2 / 2, 0)
    f1 = (4 / 7, 2 / 3, 0)  # 2 hits / (support + predicted): 4/(4+3), 4/(2+4), 0/(2+1)
    expected = {"accuracy": 4 / 8}
    for name, values in (("precision", precision), ("recall", recall), ("f1", f1)):
        expected[f"{name}_macro"] = sum(values) / 3
        expected[f"{name}_weighted"] = (4 * values[0] + 2 * values[1] + 2 * values[2]) / 8
    assert found == pytest.approx(expected)


def test_random_predictions_against_counting():
    rng = np.random.default_rng(0)
    true, logits = rng.integers(5, size=300), rng.normal(size=(300, 5))
    predicted = logits.argmax(1)
    _, found = classified(logits, true)
    scores = []
    for c in range(5):
        right = np.sum((true == c) & (predicted == c))
        p, r = right / np.sum(predicted == c), right / np.sum(true == c)
        scores.append((p, r, 2 * p * r / (p + r), np.mean(true == c)))
    scores = np.array(scores)
    assert found["accuracy"] == pytest.approx(np.mean(true == predicted))
    for column, name in enumerate(("precision", "recall", "f1")):
        assert found[f"{name}_macro"] == pytest.approx(scores[:, column].mean())
        assert found[f"{name}_weighted"] == pytest.approx(scores[:, column] @ scores[:, 3])


def test_macro_means_leave_out_classes_that_never_occur():
    _, found = classified(logits_for([0, 0, 1], 4), [0, 1, 1])
    assert found["recall_macro"] == pytest.approx((1 + 1 / 2) / 2)
    _, found = classified(logits_for([0, 3], 4), [0, 0])  # class 3 is predicted: it counts
    assert found["precision_macro"] == pytest.approx((1 + 0) / 2)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_cross_entropy_against_numpy(smoothing):
    rng = np.random.default_rng(0)
    logits, label = rng.normal(size=(6, 5)) * 4, rng.integers(5, size=6)
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    expected = [
        -sum(
            ((1 - smoothing) * (c == label[b]) + smoothing / 5) * log_p[b, c] for c in range(5)
        )
        for b in range(6)
    ]  # fmt: skip
    found = cross_entropy(jnp.asarray(logits, jnp.float32), label, smoothing=smoothing)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_cross_entropy_of_a_sure_mistake_is_finite():
    logits = jnp.asarray([[1e4, 0.0], [0.0, 1e4]])
    np.testing.assert_allclose(cross_entropy(logits, jnp.array([1, 1])), [1e4, 0])


@pytest.mark.parametrize("wrong", [3, -1])
def test_a_label_beyond_the_classes_names_its_row(wrong):
    assert Classification(3).labels({"label": [0, np.int64(2)]}).dtype == np.int32
    with pytest.raises(RowError, match=f"{wrong} is outside 0..2") as error:
        Classification(3).labels({"label": [0, wrong, 2]})
    assert error.value.row == 1
