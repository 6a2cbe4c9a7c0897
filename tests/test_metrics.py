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
    computed = {"classification": metrics.finalise("classification", sums)}
    for task in ("regression", "sentiment"):
        moments = metrics.TASKS[task][0](jnp.ones(2), jnp.zeros(2), jnp.ones(2))
        computed[task] = metrics.finalise(task, moments | {"loss": 1.0, "count": 2.0})
    for name in metrics.METRICS:
        found = {task for task in metrics.TASKS if metrics.measures(name, task)}
        assert found == {task for task in computed if name in computed[task]}, name
    lower = {n for n, (_, higher) in metrics.METRICS.items() if not higher}
    assert lower == {"mae", "rmse", "loss"}


def scored(p, y, weight=None):
    p, y = jnp.asarray(p, jnp.float32), jnp.asarray(y, jnp.float32)
    weight = jnp.ones(len(p)) if weight is None else jnp.asarray(weight, jnp.float32)
    sums = jax.device_get(metrics.sentiment_sums(p, y, weight))
    return metrics.sentiment_metrics(sums | {"count": np.sum(weight)})


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
