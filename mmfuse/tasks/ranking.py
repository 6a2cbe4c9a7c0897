"""Ranking all entities, as link prediction and recommendation do."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from mmfuse.decoders import PooledHead
from mmfuse.tasks.base import Columns, Sums, Task, whole_numbers
from mmfuse.tasks.classification import cross_entropy

HITS = (1, 3, 10)


@dataclasses.dataclass(frozen=True)
class Ranking(Task):
    """The right one of ``entities`` entities: scores [B, E], trained with 1-vs-all cross-entropy.

    label: ``entity`` int [B], the answer; ``filter`` int [B, J], the other answers that are known
    to be true (column ``label_filter``, filled up with -1), which the rank leaves out; and, with
    ``groups``, ``group`` int [B], say the relation (column ``label_group``).
    """

    entities: int
    groups: int = 0
    metrics: ClassVar = {"mrr": True, "hits1": True, "hits3": True, "hits10": True}
    heads: ClassVar = {"pooled": PooledHead}

    def sizes(self) -> dict:
        return {"outputs": self.entities}

    def labels(self, columns: Columns) -> dict[str, np.ndarray]:
        label = {
            "entity": whole_numbers(columns, self.entities),
            "filter": whole_numbers(columns, self.entities, "label_filter", low=-1),
        }
        if self.groups:
            label["group"] = whole_numbers(columns, self.groups, "label_group")
        return label

    def loss(self, output: jax.Array, label: dict, *, smoothing: float = 0.0) -> jax.Array:
        return cross_entropy(output, label["entity"], smoothing=smoothing)

    def sums(self, output: jax.Array, label: dict, weight: jax.Array) -> Sums:
        """Sums of 1 / rank and of rank <= 1, 3, 10, over all examples and by group [G]."""
        terms = self.kept_output(output, label)
        sums = {name: jnp.sum(terms[name] * weight) for name in self.metrics}
        if self.groups:
            where = jax.nn.one_hot(label["group"], self.groups) * weight[:, None]
            sums |= {"group_n": jnp.sum(where, axis=0), "group_mrr": terms["mrr"] @ where}
        return sums

    def scores(self, sums: Mapping[str, np.ndarray]) -> dict:
        """Filtered mean reciprocal rank and hits@k; ``mrr_by_group``, None for an empty one."""
        count = float(sums["count"])
        scores = {name: float(sums[name]) / count for name in self.metrics}
        if self.groups:
            pairs = zip(np.asarray(sums["group_mrr"]), np.asarray(sums["group_n"]), strict=True)
            scores["mrr_by_group"] = [float(top / n) if n else None for top, n in pairs]
        return scores

    def kept_output(self, output: jax.Array, label: dict) -> dict[str, jax.Array]:
        """The filtered rank of the answer and what it counts, not the scores of all entities."""
        rank = realistic_rank(output, label["entity"], not_known(label["filter"], self.entities))
        return {"mrr": 1 / rank, "rank": rank} | {
            f"hits{n}": (rank <= n).astype(output.dtype) for n in HITS
        }

    def kept_label(self, label: dict) -> dict[str, np.ndarray]:
        return {name: value for name, value in label.items() if name != "filter"}


def not_known(ids: jax.Array, entities: int) -> jax.Array:
    """False for the entities whose ids are listed, bool [B, E]; ids [B, J], -1 for none."""

    def one(row: jax.Array) -> jax.Array:
        free = jnp.ones(entities + 1, bool)
        return free.at[jnp.where(row < 0, entities, row)].set(False)[:entities]

    return jax.vmap(one)(ids)


def realistic_rank(scores: jax.Array, answer: jax.Array, allowed: jax.Array) -> jax.Array:
    """The rank [B], from 1, of the answer int [B] among the allowed entries of scores [B, E].

    ``1 + #{better} + #{equal} / 2``: the mean of the best and the worst place that ties leave open
    (Berrendorf et al. 2020), so that scoring all alike is no way to win. A score that is not a
    number counts as better, and so it does where the answer's own is not.
    """
    mine = jnp.take_along_axis(scores, answer[:, None], axis=1)
    others = allowed & (jnp.arange(scores.shape[1])[None] != answer[:, None])
    equal = jnp.sum(others & (scores == mine), axis=1)
    better = jnp.sum(others & ~(scores <= mine), axis=1)
    return 1 + better + equal / 2
