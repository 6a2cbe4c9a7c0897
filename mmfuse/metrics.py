"""Metrics as sums: every batch adds to them, they are merged by addition and divided once.

Classification keeps a confusion matrix, so accuracy, precision, recall and F1 are exact whatever
the batch size; regression keeps the moments that MAE and the correlation need.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

Sums = dict[str, jax.Array]
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
    terms = {"abs": jnp.abs(p - y), "p": p, "y": y, "pp": p * p, "yy": y * y, "py": p * y}
    return {name: jnp.sum(term * weight) for name, term in terms.items()}


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
    """Mean absolute error and Pearson correlation (None where either side is constant)."""
    s = {name: float(value) for name, value in sums.items()}
    n = s["count"]
    covariance = s["py"] / n - s["p"] / n * s["y"] / n
    variance = (s["pp"] / n - (s["p"] / n) ** 2) * (s["yy"] / n - (s["y"] / n) ** 2)
    correlation = covariance / variance**0.5 if variance > 1e-12 else None
    return {"mae": s["abs"] / n, "correlation": correlation}


TASKS = {
    "classification": (classification_sums, classification_metrics),
    "regression": (regression_sums, regression_metrics),
}
METRICS = {  # name: (task, True where higher is better)
    "accuracy": ("classification", True),
    "precision_macro": ("classification", True),
    "precision_weighted": ("classification", True),
    "recall_macro": ("classification", True),
    "recall_weighted": ("classification", True),
    "f1_macro": ("classification", True),
    "f1_weighted": ("classification", True),
    "mae": ("regression", False),
    "correlation": ("regression", True),
    "loss": ("any", False),
}


def finalise(task: str, sums: dict[str, np.ndarray]) -> dict:
    """All metrics of one replica from its summed ``loss``, ``count``, task and auxiliary sums."""
    count = float(sums["count"])
    metrics = {
        name: float(value) / count
        for name, value in sums.items()
        if name == "loss" or name.startswith(AUXILIARY)
    }
    return metrics | TASKS[task][1](sums)
