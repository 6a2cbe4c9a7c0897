"""Classification: one of several classes, with a confusion matrix that gives exact metrics."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from mmfuse.decoders import PooledHead
from mmfuse.tasks.base import Columns, Sums, Task, whole_numbers


@dataclasses.dataclass(frozen=True)
class Classification(Task):
    """One of ``classes`` classes: logits [B, C], label int [B]."""

    classes: int
    metrics: ClassVar = {
        "accuracy": True,
        "precision_macro": True,
        "precision_weighted": True,
        "recall_macro": True,
        "recall_weighted": True,
        "f1_macro": True,
        "f1_weighted": True,
    }
    heads: ClassVar = {"pooled": PooledHead}

    @property
    def decides(self) -> int:
        return self.classes

    def sizes(self) -> dict:
        return {"outputs": self.classes}

    def labels(self, columns: Columns) -> np.ndarray:
        return whole_numbers(columns, self.classes)

    def loss(self, output: jax.Array, label: jax.Array, *, smoothing: float = 0.0) -> jax.Array:
        return cross_entropy(output, label, smoothing=smoothing)

    def sums(self, output: jax.Array, label: jax.Array, weight: jax.Array) -> Sums:
        """Sums over examples: ``confusion`` [C, C] (row = true class, column = predicted)."""
        true = jax.nn.one_hot(label, output.shape[-1])
        predicted = jax.nn.one_hot(jnp.argmax(output, axis=-1), output.shape[-1])
        return {"confusion": jnp.einsum("bc,bd,b->cd", true, predicted, weight)}

    def scores(self, sums: Mapping[str, np.ndarray]) -> dict:
        return confusion_scores(sums["confusion"])


def cross_entropy(logits: jax.Array, label: jax.Array, *, smoothing: float = 0.0) -> jax.Array:
    """Per-example cross-entropy [B] of logits [B, C] with labels int [B].

    The target is (1 - smoothing) * onehot + smoothing / C (Szegedy et al. 2016).
    """
    classes = logits.shape[-1]
    target = jax.nn.one_hot(label, classes) * (1 - smoothing) + smoothing / classes
    return -jnp.sum(target * jax.nn.log_softmax(logits), axis=-1)


def _ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """top / bottom, 0 where the bottom is 0 (a class never predicted has precision 0)."""
    return np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)


def confusion_scores(confusion: np.ndarray) -> dict:
    """Accuracy, and precision, recall and F1 as macro and support-weighted means over classes.

    Macro means run over the classes that occur in the split or are predicted there. Values are in
    [0, 1]; the confusion matrix is a list of rows (true class) of counts.
    """
    confusion = np.asarray(confusion, np.float64)
    hits, support, predicted = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    precision, recall = _ratio(hits, predicted), _ratio(hits, support)
    f1 = _ratio(2 * hits, support + predicted)
    seen = (support + predicted) > 0
    metrics = {"accuracy": float(hits.sum() / confusion.sum())}
    for name, values in (("precision", precision), ("recall", recall), ("f1", f1)):
        metrics[f"{name}_macro"] = float(values[seen].mean())
        metrics[f"{name}_weighted"] = float(np.average(values, weights=support))
    return metrics | {"confusion": confusion.astype(int).tolist()}
