"""Several labels at once, each there or not: the notes of the next chord, for one."""

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
class Multilabel(Task):
    """Which of ``width`` labels are there: logits [B, K], label [B, K] of 0 and 1.

    To predict a sequence, an example is a window of past steps with the labels of the next step:
    then every fusion method can be used, and none can see what it is to predict.
    """

    width: int
    metrics: ClassVar = {"nll": False, "frame_accuracy": True, "f1_micro": True}
    heads: ClassVar = {"pooled": PooledHead}

    def sizes(self) -> dict:
        return {"outputs": self.width}

    def labels(self, columns: Columns) -> np.ndarray:
        return whole_numbers(columns, 2).astype(np.float32)

    def loss(self, output: jax.Array, label: jax.Array, *, smoothing: float = 0.0) -> jax.Array:
        """``-sum_k y_k log p_k + (1 - y_k) log(1 - p_k)``, y moved towards 1/2 by the smoothing."""
        return bernoulli_nll(output, label * (1 - smoothing) + smoothing / 2)

    def sums(self, output: jax.Array, label: jax.Array, weight: jax.Array) -> Sums:
        """The loss without smoothing, and true positives, false positives and false negatives."""
        found = (output > 0).astype(label.dtype)
        parts = {"hits": found * label, "extra": found * (1 - label), "missed": (1 - found) * label}
        sums = {name: weight @ jnp.sum(part, axis=-1) for name, part in parts.items()}
        return sums | {"nll": weight @ bernoulli_nll(output, label)}

    def kept_output(self, output: jax.Array, label: jax.Array) -> dict[str, jax.Array]:
        """The logits, and the loss of every example without smoothing."""
        return {"logits": output, "nll": bernoulli_nll(output, label)}

    def scores(self, sums: Mapping[str, np.ndarray]) -> dict:
        """Negative log-likelihood of an example, in nats, and how many labels are right.

        ``frame_accuracy`` is TP / (TP + FP + FN), over all examples at once (Bay et al. 2009), and
        ``f1_micro`` 2 TP / (2 TP + FP + FN), both at p > 1/2 and None where nothing is or was said.
        """
        hits, wrong = float(sums["hits"]), float(sums["extra"]) + float(sums["missed"])
        there = hits + wrong > 0
        return {
            "nll": float(sums["nll"]) / float(sums["count"]),
            "frame_accuracy": hits / (hits + wrong) if there else None,
            "f1_micro": 2 * hits / (2 * hits + wrong) if there else None,
        }


def bernoulli_nll(logits: jax.Array, target: jax.Array) -> jax.Array:
    """Cross-entropy of Bernoulli variables [B, ...] with targets in [0, 1], summed: [B]."""
    each = jnp.maximum(logits, 0) - logits * target + jnp.log1p(jnp.exp(-jnp.abs(logits)))
    return jnp.sum(each.reshape(len(each), -1), axis=-1)
