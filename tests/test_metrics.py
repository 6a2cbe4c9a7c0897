import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmfuse import metrics


def classified(logits, label, weight=None):
    weight = np.ones(len(label)) if weight is None else weight
    sums = metrics.classification_sums(
        jnp.asarray(logits, jnp.float32), jnp.asarray(label), jnp.asarray(weight, jnp.float32)
    )
    return sums, metrics.classification_metrics(jax.device_get(sums))


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


def test_regression_by_hand_and_by_numpy():
    p, y = np.array([1.0, 2.0, 4.0]), np.array([1.0, 3.0, 2.0])
    ones = jnp.ones(3)
    sums = metrics.regression_sums(jnp.asarray(p, jnp.float32), jnp.asarray(y, jnp.float32), ones)
    found = metrics.regression_metrics(jax.device_get(sums) | {"count": 3})
    assert found["mae"] == pytest.approx(1)
    assert found["correlation"] == pytest.approx(np.corrcoef(p, y)[0, 1], abs=1e-5)
    sums = metrics.regression_sums(jnp.full(3, 2.0), jnp.asarray(y, jnp.float32), ones)
    constant = metrics.regression_metrics(jax.device_get(sums) | {"count": 3})
    assert constant["correlation"] is None


@pytest.mark.parametrize("task", metrics.TASKS)
def test_batches_and_padding_change_nothing(task):
    rng = np.random.default_rng(1)
    n, classes = 37, 4
    output = rng.normal(size=(n, classes)) if task == "classification" else rng.normal(size=n)
    label = rng.integers(classes, size=n) if task == "classification" else rng.normal(size=n)
    output = output.astype(np.float32)
    label = label.astype(np.int32 if task == "classification" else np.float32)
    found = []
    for size in (1, 10, 37, 64):
        total = None
        for start in range(0, n, size):
            index = np.minimum(np.arange(start, start + size), n - 1)
            weight = (np.arange(start, start + size) < n).astype(np.float32)
            sums = metrics.TASKS[task][0](output[index], label[index], weight)
            sums = jax.device_get(sums) | {"loss": weight.sum() * 2, "count": weight.sum()}
            total = sums if total is None else jax.tree.map(np.add, total, sums)
        assert total["count"] == n
        found.append(metrics.finalise(task, total))
    assert found[0]["loss"] == 2
    for other in found[1:]:
        assert other.pop("confusion", None) == found[0].get("confusion")
        expected = {k: v for k, v in found[0].items() if k != "confusion"}
        assert other == pytest.approx(expected, abs=1e-5)


def test_every_metric_that_can_be_chosen_is_computed():
    sums, _ = classified(logits_for([0, 1], 2), [0, 1])
    sums = {"confusion": np.asarray(sums["confusion"]), "loss": 1.0, "count": 2.0}
    moments = dict.fromkeys(("abs", "p", "y", "pp", "yy", "py"), 1.0) | {"loss": 1.0, "count": 2.0}
    computed = {
        "classification": metrics.finalise("classification", sums),
        "regression": metrics.finalise("regression", moments),
    }
    for name, (task, _) in metrics.METRICS.items():
        assert all(name in computed[t] for t in computed if task in (t, "any")), name
    assert {n for n, (_, higher) in metrics.METRICS.items() if not higher} == {"mae", "loss"}
