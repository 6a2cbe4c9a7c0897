"""What needs no learning: scores of constant and random answers; and which runs are constant.

Counted from the labels of the test split, as the confusion matrix of a record or its stored
predictions have them. A constant chosen by the test labels is the best that a constant can do.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

CONSTANT = 1e-6  # outputs that vary by less, as a part of their size, are constant


def floors(
    metrics: Mapping[str, Any],
    predictions: Mapping[str, np.ndarray] | None,
    columns: Collection[str],
) -> tuple[dict[str, Any], ...]:
    """Returns ``({"name", "values": {metric: value}}, ...)`` of the metrics in ``columns``.

    Empty where the labels are not known.

    Args:
      metrics: the test metrics of one finished run, with ``confusion`` if it is classification.
      predictions: ``{"output" [N, C], "label" [N]}`` of that run, or None.
      columns: the metrics to return.
    """
    found = []
    for name, values in _floors(metrics, predictions):
        kept = {metric: value for metric, value in values.items() if metric in columns}
        found += [{"name": name, "values": kept}] if kept else []
    return tuple(found)


def _floors(
    metrics: Mapping[str, Any], predictions: Mapping[str, np.ndarray] | None
) -> Iterator[tuple[str, dict[str, float]]]:
    if metrics.get("confusion"):
        support = np.asarray(metrics["confusion"], np.float64).sum(1)
        yield "majority class (of the test labels)", constant_class(support)
        yield "chance (uniform guess)", {"accuracy": 1 / support.size}
        return
    if not _one_number(predictions):
        return
    label = np.asarray(predictions["label"], np.float64)
    values = {"mae": float(np.abs(label - np.median(label)).mean()), "rmse": float(label.std())}
    if "acc7" in metrics:
        values |= constant_sentiment(label)
    yield "best constant (of the test labels)", values


def _one_number(predictions: Mapping[str, Any] | None) -> bool:
    """Whether these are predictions of one number an example; other tasks keep other things."""
    return predictions is not None and np.shape(predictions["output"])[1:] == (1,)


def constant_class(support: np.ndarray) -> dict[str, float]:
    """Returns the metrics of always answering the most frequent class; support [C] is its counts.

    With its share q of the examples: accuracy and weighted recall q, F1 of that class
    2q / (1 + q) and 0 for every other one of the K classes that occur.
    """
    share, classes = float(support.max() / support.sum()), int((support > 0).sum())
    f1 = 2 * share / (1 + share)
    return {
        "accuracy": share,
        "precision_macro": share / classes,
        "precision_weighted": share * share,
        "recall_macro": 1 / classes,
        "recall_weighted": share,
        "f1_macro": f1 / classes,
        "f1_weighted": f1 * share,
    }


def constant_sentiment(label: np.ndarray) -> dict[str, float]:
    """Returns the class measures of the best constant score, each of its own; label [N] in -3..3.

    As `mmfuse.tasks.regression` counts them: ``has0`` y >= 0 against y < 0, ``non0`` without y = 0.
    """
    signs = {"has0": label >= 0, "non0": label[label != 0] > 0}
    values = {}
    for name, positive in signs.items():
        if positive.size:
            support = np.array([(~positive).sum(), positive.sum()], np.float64)
            found = constant_class(support)
            values |= {f"acc2_{name}": found["accuracy"], f"f1_{name}": found["f1_weighted"]}
    _, counts = np.unique(np.round(np.clip(label, -3, 3)), return_counts=True)
    return values | {"acc7": float(counts.max() / label.size)}


def collapsed(metrics: Mapping[str, Any], predictions: Mapping[str, np.ndarray] | None) -> bool:
    """Says whether a run answers every test example alike, though their labels differ.

    Classification: one class is predicted. Regression: the output does not vary, by the stored
    predictions, or by a correlation that is not defined where there are none.
    """
    confusion: Sequence[Sequence[int]] | None = metrics.get("confusion")
    if confusion:
        counts = np.asarray(confusion)
        return int((counts.sum(0) > 0).sum()) == 1 < int((counts.sum(1) > 0).sum())
    if _one_number(predictions):
        output = np.asarray(predictions["output"], np.float64)
        return bool(
            np.ptp(predictions["label"]) > 0
            and np.ptp(output) <= CONSTANT * max(1.0, float(np.abs(output).max()))
        )
    return "correlation" in metrics and metrics["correlation"] is None
