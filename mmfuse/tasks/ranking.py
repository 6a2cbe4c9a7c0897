"""Ranking all entities: link prediction in a knowledge graph, and recommendation."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from mmfuse.decoders import PooledHead
from mmfuse.errors import InputError, RowError
from mmfuse.tasks.base import Columns, Sums, Task, whole_numbers
from mmfuse.tasks.classification import cross_entropy

HITS = (1, 3, 10)
TOP = 20  # places of a recommended list


@dataclasses.dataclass(frozen=True)
class Ranking(Task):
    """The right one of ``entities`` entities: scores [B, E], trained with 1-vs-all cross-entropy.

    label: ``entity`` int [B], the answer; ``filter`` uint8 [B, ceil(E / 8)], which entities the
    rank leaves out: other answers that are known to be true, or what cannot be one (column
    ``label_filter``, one bit an entity, as ``numpy.packbits`` lays them); and, with ``groups``,
    ``group`` int [B], say the relation (column ``label_group``).
    """

    entities: int
    groups: int = 0
    metrics: ClassVar = {"mrr": True, "hits1": True, "hits3": True, "hits10": True}
    heads: ClassVar = {"pooled": PooledHead}
    by_group: ClassVar = ("mrr",)  # terms that are summed by group as well

    def sizes(self) -> dict:
        return {"outputs": self.entities}

    def labels(self, columns: Columns) -> dict[str, np.ndarray]:
        label = {
            "entity": whole_numbers(columns, self.entities),
            "filter": bits(columns, self.entities, "label_filter"),
        }
        if self.groups:
            label["group"] = whole_numbers(columns, self.groups, "label_group")
        return label

    def loss(self, output: jax.Array, label: dict, *, smoothing: float = 0.0) -> jax.Array:
        return cross_entropy(output, label["entity"], smoothing=smoothing)

    def sums(self, output: jax.Array, label: dict, weight: jax.Array) -> Sums:
        """Sums of 1 / rank and of rank <= 1, 3, 10, over all examples; some by group [G]."""
        terms = self.kept_output(output, label)
        sums = {name: jnp.sum(terms[name] * weight) for name in Ranking.metrics}
        if self.groups:
            where = jax.nn.one_hot(label["group"], self.groups) * weight[:, None]
            sums["group_n"] = jnp.sum(where, axis=0)
            sums |= {f"group_{name}": terms[name] @ where for name in self.by_group}
        return sums

    def scores(self, sums: Mapping[str, np.ndarray]) -> dict:
        """Filtered mean reciprocal rank and hits@k; ``mrr_by_group``, None for an empty one."""
        count = float(sums["count"])
        scores = {name: float(sums[name]) / count for name in Ranking.metrics}
        for name in (name for name in self.by_group if self.groups and name in scores):
            pairs = zip(sums[f"group_{name}"], sums["group_n"], strict=True)
            scores[f"{name}_by_group"] = [float(top / n) if n else None for top, n in pairs]
        return scores

    def kept_output(self, output: jax.Array, label: dict) -> dict[str, jax.Array]:
        """The filtered rank of the answer and what it counts, not the scores of all entities."""
        rank = realistic_rank(output, label["entity"], allowed(label["filter"], self.entities))
        return {"mrr": 1 / rank, "rank": rank} | {
            f"hits{n}": (rank <= n).astype(output.dtype) for n in HITS
        }

    def kept_label(self, label: dict) -> dict[str, np.ndarray]:
        return {name: value for name, value in label.items() if name != "filter"}


@dataclasses.dataclass(frozen=True)
class Recommendation(Ranking):
    """Items for users: an example is one item that a user liked; ``groups`` are the users.

    The filter should leave out what the user had before, and not the other items that the user
    liked: ranks are then places in the list that the user would be shown.
    """

    metrics: ClassVar = Ranking.metrics | {f"recall{TOP}": True, f"ndcg{TOP}": True}
    by_group: ClassVar = ("hit", "gain")

    def __post_init__(self):
        if self.groups < 1:
            raise InputError("the task 'recommendation' needs the number of users, 'groups'")

    def kept_output(self, output: jax.Array, label: dict) -> dict[str, jax.Array]:
        """Also whether the item is in the list's first 20, and its gain ``1 / log2(1 + rank)``."""
        kept = super().kept_output(output, label)
        hit, gain = kept["rank"] <= TOP, 1 / jnp.log2(1 + kept["rank"])
        return kept | {"hit": hit.astype(output.dtype), "gain": jnp.where(hit, gain, 0)}

    def scores(self, sums: Mapping[str, np.ndarray]) -> dict:
        """Also Recall@20 and NDCG@20, means over the users who have an example.

        Of a user with n items: recall is the share of them that are among the first 20; NDCG is the
        sum of their gains, over that of the best list, which has them at 1..min(n, 20).
        """
        n = np.asarray(sums["group_n"], np.float64)
        users, size = n > 0, n[n > 0].astype(int)
        best = np.cumsum(1 / np.log2(1 + np.arange(1, TOP + 1)))[np.minimum(size, TOP) - 1]
        hit, gain = (np.asarray(sums[f"group_{name}"], np.float64)[users] for name in self.by_group)
        return super().scores(sums) | {
            f"recall{TOP}": float(np.mean(hit / size)),
            f"ndcg{TOP}": float(np.mean(gain / best)),
        }


def bits(columns: Columns, entities: int, name: str) -> np.ndarray:
    """A column of sets of entities, one bit an entity, uint8 [B, ceil(E / 8)]."""
    width = -(-entities // 8)
    for row, value in enumerate(columns[name]):
        found = np.asarray(value)
        if found.dtype != np.uint8 or found.shape != (width,):
            raise RowError(
                row,
                f"{name} is {found.dtype} {list(found.shape)}; a bit for each of {entities} "
                f"entities is uint8 [{width}]",
            )
    return np.array(columns[name])


def allowed(bits: jax.Array, entities: int) -> jax.Array:
    """False for the entities whose bit is set, bool [B, E]; bits uint8 [B, ceil(E / 8)]."""
    return jnp.unpackbits(bits, axis=1)[:, :entities] == 0


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
