"""Several numbers, or several labels, at once: against numpy and scikit-learn's definitions."""

import jax
import numpy as np
import pytest

from mmfuse.errors import RowError
from mmfuse.tasks.multilabel import Multilabel
from mmfuse.tasks.vector import Vector


def scores(task, output, label, weight=None):
    weight = np.ones(len(output), np.float32) if weight is None else weight
    sums = jax.device_get(task.sums(output, label, weight)) | {"count": weight.sum()}
    return task.scores(sums)


@pytest.fixture
def vector():
    rng = np.random.default_rng(0)
    value, mask = rng.normal(1, 2, (50, 4)), rng.random((50, 4)) < 0.6
    output = (value + rng.normal(0, 0.5, value.shape)).astype(np.float32)
    return output, {"value": value.astype(np.float32), "mask": mask}


def test_masked_loss_and_scores_by_numpy(vector):
    output, label = vector
    label["mask"][0] = False  # an example without any
    y, mask = label["value"].astype(float), label["mask"]
    expected = [
        np.mean((output[b] - y[b])[mask[b]] ** 2) if mask[b].any() else 0 for b in range(50)
    ]
    np.testing.assert_allclose(Vector(4).loss(output, label), expected, rtol=1e-5)
    found, r2 = scores(Vector(4), output, label), []
    for f in range(4):
        own, p = y[mask[:, f], f], output[mask[:, f], f]
        r2.append(1 - np.sum((own - p) ** 2) / np.sum((own - own.mean()) ** 2))
    assert found["r2_by_feature"] == pytest.approx(r2, rel=1e-4)
    assert found["r2"] == pytest.approx(np.mean(r2), rel=1e-4)
    assert found["mae"] == pytest.approx(np.abs(output - y)[mask].mean(), rel=1e-5)


def test_predicting_the_mean_has_no_r2_and_a_constant_feature_is_left_out(vector):
    _, label = vector
    y, mask = label["value"], label["mask"]
    y[:, 1] = 3.0
    mask[:, 2] = False
    means = np.array([y[mask[:, f], f].mean() if mask[:, f].any() else 0 for f in range(4)])
    found = scores(Vector(4), np.tile(means, (50, 1)).astype(np.float32), label)
    assert found["r2"] == pytest.approx(0, abs=1e-4)
    assert [value is None for value in found["r2_by_feature"]] == [False, True, True, False]
    label["mask"][:] = False
    nothing = scores(Vector(4), y, label)
    assert (nothing["r2"], nothing["mae"], nothing["r2_by_feature"]) == (None, None, [None] * 4)


def test_what_is_undefined_changes_nothing(vector):
    output, label = vector

    def loss(output, value):
        return Vector(4).loss(output, label | {"value": value})

    other = np.where(label["mask"], label["value"], 1e9).astype(np.float32)
    np.testing.assert_array_equal(loss(output, label["value"]), loss(output, other))
    grads = jax.grad(lambda o: loss(o, other).sum())(output)
    assert (np.asarray(grads) != 0).sum() == label["mask"].sum()
    assert (np.asarray(grads)[~label["mask"]] == 0).all()
    assert scores(Vector(4), output, label) == scores(Vector(4), output, label | {"value": other})


def test_labels_of_a_vector_are_checked():
    columns = {"label": [[1, np.nan], [3, 4]], "label_mask": [[True, False], [True, True]]}
    found = Vector(2).labels(columns)
    np.testing.assert_array_equal(found["value"], [[1, 0], [3, 4]])
    with pytest.raises(RowError, match="NaN or Inf") as error:
        Vector(2).labels(columns | {"label": [[1, 2], [np.inf, 4]]})
    assert error.value.row == 1
    with pytest.raises(RowError, match=r"label has shape \(2,\), but the card says \(3,\)"):
        Vector(3).labels(columns)
    with pytest.raises(RowError, match=r"label_mask has shape \(1,\)"):
        Vector(2).labels(columns | {"label_mask": [[True], [True]]})


def test_multilabel_by_numpy():
    rng = np.random.default_rng(1)
    z, y = rng.normal(0, 3, (30, 6)).astype(np.float32), rng.integers(2, size=(30, 6))
    p = 1 / (1 + np.exp(-z.astype(float)))
    expected = -np.sum(y * np.log(p) + (1 - y) * np.log(1 - p), axis=1)
    label = Multilabel(6).labels({"label": list(y)})
    np.testing.assert_allclose(Multilabel(6).loss(z, label), expected, rtol=1e-5)
    soft = y * 0.8 + 0.1
    expected = -np.sum(soft * np.log(p) + (1 - soft) * np.log(1 - p), axis=1)
    np.testing.assert_allclose(Multilabel(6).loss(z, label, smoothing=0.2), expected, rtol=1e-5)
    found, said = scores(Multilabel(6), z, label), z > 0
    hits, union = np.sum(said & (y == 1)), np.sum(said | (y == 1))
    assert found["frame_accuracy"] == pytest.approx(hits / union)
    assert found["f1_micro"] == pytest.approx(2 * hits / (said.sum() + y.sum()))
    nll = -np.sum(y * np.log(p) + (1 - y) * np.log(1 - p)) / 30
    assert found["nll"] == pytest.approx(nll, rel=1e-5)


def test_sure_mistakes_are_finite_and_silence_has_no_accuracy():
    z = np.array([[1e4, -1e4]], np.float32)
    np.testing.assert_allclose(Multilabel(2).loss(z, np.array([[0.0, 1.0]], np.float32)), [2e4])
    found = scores(Multilabel(2), -np.ones((3, 2), np.float32), np.zeros((3, 2), np.float32))
    assert (found["frame_accuracy"], found["f1_micro"]) == (None, None)
    with pytest.raises(RowError, match=r"2 is outside 0\.\.1"):
        Multilabel(2).labels({"label": [[0, 1], [2, 0]]})
