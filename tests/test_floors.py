"""Floors against the metrics of a predictor that is really constant."""

import numpy as np
import pytest

from mmfuse.floors import collapsed, floors
from mmfuse.measures import MEASURES
from mmfuse.tasks.classification import confusion_scores
from mmfuse.tasks.regression import Regression, Sentiment


def test_majority_class_has_the_metrics_of_a_constant_answer():
    support = np.array([3, 0, 7, 2])
    confusion = np.zeros((4, 4))
    confusion[:, 2] = support
    wanted = confusion_scores(confusion)
    spread = [[1, 1, 1, 0], [0, 0, 0, 0], [2, 2, 2, 1], [0, 0, 1, 1]]
    majority, chance = floors({"confusion": spread}, None, wanted)
    assert majority["values"] == pytest.approx(
        {k: v for k, v in wanted.items() if k != "confusion"}
    )
    assert chance["values"] == {"accuracy": 0.25}


def _metrics(task, p, y):
    sums = task.sums(np.float32(p)[:, None], np.float32(y), np.ones(len(y), np.float32))
    return task.scores({name: np.asarray(v) for name, v in sums.items()} | {"count": len(y)})


def test_best_constant_of_a_regression():
    label = np.array([1.0, 2.0, 2.5, 7.0, -1.0])
    stored = {"output": np.zeros((5, 1)), "label": label}
    (floor,) = floors({"mae": 1.0}, stored, ("mae", "rmse"))
    at = [_metrics(Regression(), np.full(5, c), label)
          for c in (2.0, label.mean())]  # fmt: skip
    assert floor["values"] == pytest.approx({"mae": at[0]["mae"], "rmse": at[1]["rmse"]}, rel=1e-5)
    assert floors({"mae": 1.0}, None, ("mae",)) == ()
    assert floors({"mae": 1.0}, stored, ("loss",)) == ()


def test_best_constant_of_a_sentiment():
    label = np.array([-3.0, -1.2, 0.0, 0.0, 1.0, 2.0, 2.2, 2.4])
    (floor,) = floors({"acc7": 0.5}, {"output": np.zeros((8, 1)), "label": label}, MEASURES)
    tries = [_metrics(Sentiment(), np.full(8, c), label)
             for c in np.linspace(-3, 3, 61)]  # fmt: skip
    for name in ("acc2_has0", "acc2_non0", "f1_has0", "f1_non0", "acc7"):
        assert floor["values"][name] == pytest.approx(max(found[name] for found in tries))


def test_collapsed():
    assert collapsed({"confusion": [[0, 4], [0, 6]]}, None)
    assert not collapsed({"confusion": [[1, 4], [0, 6]]}, None)
    assert not collapsed({"confusion": [[0, 0], [0, 6]]}, None)  # one label: nothing else to say
    label, flat = np.arange(4.0), np.full((4, 1), 0.3)
    assert collapsed({"mae": 1.0}, {"output": flat, "label": label})
    assert not collapsed({"mae": 1.0}, {"output": flat + label[:, None], "label": label})
    assert collapsed({"correlation": None}, None) and not collapsed({"correlation": 0.1}, None)
