"""Metrics as sums: every batch adds to them, they are merged by addition and divided once.

Classification keeps a confusion matrix, so accuracy, precision, recall and F1 are exact whatever
the batch size; regression keeps the moments that MAE, RMSE and the correlation need. Sentiment is
regression of a score in -3..3 (negative to positive), with the class measures of that field.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

Sums = dict[str, jax.Array]
SENTIMENT_RANGE = 3  # Scores of the task "sentiment" lie in -3..3.
AUXILIARY = "auxiliary/"  # Prefix of the sums, and means, of a fusion's auxiliary losses.


def classification_sums(logits: jax.Array, label: jax.Array, weight: jax.Array) -> Sums:
    """Sums over examples: ``confusion`` [C, C] (row = true class, column = predicted).

    logits [B, C], label int [B], weight [B] (0 for padding).
    """
    true = jax.nn.one_hot(label, logits.shape[-1])
    predicted = jax.nn.one_hot(jnp.argmax(logits, axis=-1), logits.shape[-1])
    return {"confusion": jnp.einsum("bc,bd,b->cd", true, predicted, weight)}


def regression_sums(prediction: jax.Array, label: jax.Array, weight: jax.Array) -> Sums:
    """Sums over examples of |p - y| and of the first and second moments of p [B] and y [B]."""
    p, y = prediction, label
    terms = {"abs": jnp.abs(p - y), "square": jnp.square(p - y)}
    terms |= {"p": p, "y": y, "pp": p * p, "yy": y * y, "py": p * y}
    return {name: jnp.sum(term * weight) for name, term in terms.items()}


def sentiment_sums(prediction: jax.Array, label: jax.Array, weight: jax.Array) -> Sums:
    """`regression_sums`, two confusion matrices [2, 2] by sign, and the hits among seven classes.

    ``has0``: y >= 0 against y < 0, over all examples. ``non0``: y > 0 against y < 0, over those
    with y != 0 alone. Both name what the literature calls Acc-2, and they differ by points.
    ``hits7``: p and y, clipped to -3..3 and rounded (halves to even), are the same whole number.
    """
    p, y = prediction, label
    found = [jnp.round(jnp.clip(v, -SENTIMENT_RANGE, SENTIMENT_RANGE)) for v in (p, y)]
    return regression_sums(p, y, weight) | {
        "has0": _binary_confusion(p >= 0, y >= 0, weight),
        "non0": _binary_confusion(p > 0, y > 0, weight * (y != 0)),
        "hits7": jnp.sum((found[0] == found[1]) * weight),
    }


def _binary_confusion(predicted: jax.Array, true: jax.Array, weight: jax.Array) -> jax.Array:
    """Counts [2, 2] of bool [B], row = true."""
    rows, columns = (jnp.stack([~v, v], axis=-1).astype(weight.dtype) for v in (true, predicted))
    return jnp.einsum("bc,bd,b->cd", rows, columns, weight)


def _ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """top / bottom, 0 where the bottom is 0 (a class never predicted has precision 0)."""
    return np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)


def classification_metrics(sums: dict[str, np.ndarray]) -> dict:
    """Accuracy, and precision, recall and F1 as macro and support-weighted means over classes.

    Macro means run over the classes that occur in the split or are predicted there. Values are in
    [0, 1]; the confusion matrix is a list of rows (true class) of counts.
    """
    confusion = np.asarray(sums["confusion"], np.float64)
    hits, support, predicted = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    precision, recall = _ratio(hits, predicted), _ratio(hits, support)
    f1 = _ratio(2 * hits, support + predicted)
    seen = (support + predicted) > 0
    metrics = {"accuracy": float(hits.sum() / confusion.sum())}
    for name, values in (("precision", precision), ("recall", recall), ("f1", f1)):
        metrics[f"{name}_macro"] = float(values[seen].mean())
        metrics[f"{name}_weighted"] = float(np.average(values, weights=support))
    return metrics | {"confusion": confusion.astype(int).tolist()}


def regression_metrics(sums: dict[str, np.ndarray]) -> dict:
    """Mean absolute and root mean squared error, and Pearson correlation.

    The correlation is None where either side is constant.
    """
    names = ("count", "abs", "square", "p", "y", "pp", "yy", "py")
    s = {name: float(sums[name]) for name in names}
    n = s["count"]
    covariance = s["py"] / n - s["p"] / n * s["y"] / n
    variance = (s["pp"] / n - (s["p"] / n) ** 2) * (s["yy"] / n - (s["y"] / n) ** 2)
    correlation = covariance / variance**0.5 if variance > 1e-12 else None
    return {"mae": s["abs"] / n, "rmse": (s["square"] / n) ** 0.5, "correlation": correlation}


def sentiment_metrics(sums: dict[str, np.ndarray]) -> dict:
    """`regression_metrics`, and accuracy and weighted F1 of the two binary readings and Acc-7.

    None for ``non0`` where every label is 0.
    """
    metrics = regression_metrics(sums)
    for name in ("has0", "non0"):
        confusion = np.asarray(sums[name])
        found = classification_metrics({"confusion": confusion}) if confusion.any() else {}
        metrics[f"acc2_{name}"] = found.get("accuracy")
        metrics[f"f1_{name}"] = found.get("f1_weighted")
    return metrics | {"acc7": float(sums["hits7"]) / float(sums["count"])}


TASKS = {
    "classification": (classification_sums, classification_metrics),
    "regression": (regression_sums, regression_metrics),
    "sentiment": (sentiment_sums, sentiment_metrics),
}
EXTENDS = {"sentiment": "regression"}  # task: the task whose metrics it has as well
METRICS = {  # name: (task, True where higher is better)
    "accuracy": ("classification", True),
    "precision_macro": ("classification", True),
    "precision_weighted": ("classification", True),
    "recall_macro": ("classification", True),
    "recall_weighted": ("classification", True),
    "f1_macro": ("classification", True),
    "f1_weighted": ("classification", True),
    "mae": ("regression", False),
    "rmse": ("regression", False),
    "correlation": ("regression", True),
    "acc2_has0": ("sentiment", True),
    "acc2_non0": ("sentiment", True),
    "f1_has0": ("sentiment", True),
    "f1_non0": ("sentiment", True),
    "acc7": ("sentiment", True),
    "loss": ("any", False),
}


def measures(metric: str, task: str) -> bool:
    """Whether the metric is one of this task."""
    return METRICS[metric][0] in (task, EXTENDS.get(task), "any")


def finalise(task: str, sums: dict[str, np.ndarray]) -> dict:
    """All metrics of one replica from its summed ``loss``, ``count``, task and auxiliary sums."""
    count = float(sums["count"])
    metrics = {
        name: float(value) / count
        for name, value in sums.items()
        if name == "loss" or name.startswith(AUXILIARY)
    }
    return metrics | TASKS[task][1](sums)
