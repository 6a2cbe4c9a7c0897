"""Regression of several numbers at once, of which some may be undefined."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from mmfuse.decoders import PooledHead
from mmfuse.tasks.base import Columns, Sums, Task, masked, mean_where

CONSTANT = 1e-6  # A feature whose variance is less than this is constant: it has no R2.


@dataclasses.dataclass(frozen=True)
class Vector(Task):
    """``width`` numbers: prediction [B, F], label ``{"value" [B, F], "mask" bool [B, F]}``.

    In the dataset, ``label`` holds the numbers and ``label_mask`` says which are defined; what the
    others hold has no influence. The features should be standardised, as all weigh the same.
    """

    width: int
    metrics: ClassVar = {"r2": True, "mae": False}
    heads: ClassVar = {"pooled": PooledHead}

    def sizes(self) -> dict:
        return {"outputs": self.width}

    def labels(self, columns: Columns) -> dict[str, np.ndarray]:
        return masked(columns, (self.width,), (self.width,))

    def loss(self, output: jax.Array, label: dict, *, smoothing: float = 0.0) -> jax.Array:
        """The mean squared error over the defined features of an example; 0 where none is."""
        del smoothing
        return mean_where(jnp.square(output - label["value"]), label["mask"])

    def sums(self, output: jax.Array, label: dict, weight: jax.Array) -> Sums:
        """Per feature [F], over the defined values: count, |p - y|, (p - y)^2, y, and y^2."""
        p, y = output, label["value"]
        terms = {"n": jnp.ones_like(y), "abs": jnp.abs(p - y), "square": jnp.square(p - y)}
        terms |= {"y": y, "yy": y * y}
        return {name: weight @ jnp.where(label["mask"], x, 0) for name, x in terms.items()}

    def kept_output(self, output: jax.Array, label: dict) -> dict[str, jax.Array]:
        del label
        return {"prediction": output}

    def scores(self, sums: Mapping[str, np.ndarray]) -> dict:
        """R2 per feature and its mean, and the mean absolute error over all defined values.

        ``R2_f = 1 - sum (y - p)^2 / sum (y - mean_f)^2`` over the defined values of the split, with
        their own mean; None for a feature that is constant or undefined there, which the mean
        leaves out.
        """
        s = {name: np.asarray(sums[name], np.float64) for name in ("n", "abs", "square", "y", "yy")}
        n = np.maximum(s["n"], 1)
        spread = s["yy"] - s["y"] ** 2 / n
        each = [
            1 - wrong / all_ if all_ > CONSTANT * count else None
            for wrong, all_, count in zip(s["square"], spread, n, strict=True)
        ]
        known, total = [value for value in each if value is not None], s["n"].sum()
        return {
            "r2": float(np.mean(known)) if known else None,
            "mae": float(s["abs"].sum() / total) if total else None,
            "r2_by_feature": [None if value is None else float(value) for value in each],
        }
