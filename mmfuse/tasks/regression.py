"""Regression of one number, and of a sentiment score with the class measures of that field."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from mmfuse.decoders import PooledHead
from mmfuse.tasks.base import Columns, Sums, Task, finite
from mmfuse.tasks.classification import confusion_scores

SENTIMENT_RANGE = 3  # Scores of the task "sentiment" lie in -3..3.


@dataclasses.dataclass(frozen=True)
class Regression(Task):
    """One number: prediction [B, 1], label float [B]; squared error. Smoothing has no meaning."""

    metrics: ClassVar = {"mae": False, "rmse": False, "correlation": True}
    heads: ClassVar = {"pooled": PooledHead}

    def sizes(self) -> dict:
        return {"outputs": 1}

    def labels(self, columns: Columns) -> np.ndarray:
        return finite(columns)

    def loss(self, output: jax.Array, label: jax.Array, *, smoothing: float = 0.0) -> jax.Array:
        del smoothing
        return jnp.square(output[:, 0] - label)

    def sums(self, output: jax.Array, label: jax.Array, weight: jax.Array) -> Sums:
        """Sums of |p - y|, (p - y)^2, and first and second moments of p and y.

        In float32: of labels whose mean is hundreds of standard deviations from zero the
        correlation loses its digits. Such labels do not train either; standardise them.
        """
        p, y = output[:, 0], label
        terms = {"abs": jnp.abs(p - y), "square": jnp.square(p - y)}
        terms |= {"p": p, "y": y, "pp": p * p, "yy": y * y, "py": p * y}
        return {name: jnp.sum(term * weight) for name, term in terms.items()}

    def scores(self, sums: Mapping[str, np.ndarray]) -> dict:
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


@dataclasses.dataclass(frozen=True)
class Sentiment(Regression):
    """Regression of a score in -3..3, negative to positive."""

    metrics: ClassVar = Regression.metrics | {
        "acc2_has0": True,
        "acc2_non0": True,
        "f1_has0": True,
        "f1_non0": True,
        "acc7": True,
    }

    def sums(self, output: jax.Array, label: jax.Array, weight: jax.Array) -> Sums:
        """Those of a regression, two confusions [2, 2] by sign, and the hits among seven classes.

        ``has0``: y >= 0 against y < 0, over all examples. ``non0``: y > 0 against y < 0, over those
        with y != 0 alone. Both name what the literature calls Acc-2, and they differ by points.
        ``hits7``: p and y, clipped to -3..3 and rounded (halves to even), are the same number.
        """
        p, y = output[:, 0], label
        found = [jnp.round(jnp.clip(v, -SENTIMENT_RANGE, SENTIMENT_RANGE)) for v in (p, y)]
        return super().sums(output, label, weight) | {
            "has0": _binary_confusion(p >= 0, y >= 0, weight),
            "non0": _binary_confusion(p > 0, y > 0, weight * (y != 0)),
            "hits7": jnp.sum((found[0] == found[1]) * weight),
        }

    def scores(self, sums: Mapping[str, np.ndarray]) -> dict:
        """Also accuracy and weighted F1 of the two binary readings, and Acc-7.

        None for ``non0`` where every label is 0.
        """
        metrics = super().scores(sums)
        for name in ("has0", "non0"):
            confusion = np.asarray(sums[name])
            found = confusion_scores(confusion) if confusion.any() else {}
            metrics[f"acc2_{name}"] = found.get("accuracy")
            metrics[f"f1_{name}"] = found.get("f1_weighted")
        return metrics | {"acc7": float(sums["hits7"]) / float(sums["count"])}


def _binary_confusion(predicted: jax.Array, true: jax.Array, weight: jax.Array) -> jax.Array:
    """Counts [2, 2] of bool [B], row = true."""
    rows, columns = (jnp.stack([~v, v], axis=-1).astype(weight.dtype) for v in (true, predicted))
    return jnp.einsum("bc,bd,b->cd", rows, columns, weight)
