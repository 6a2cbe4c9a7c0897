"""Choosing one of several candidates that are in the example."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from mmfuse.decoders import MatchingHead, PointerHead
from mmfuse.decoders.pointer import ABSENT
from mmfuse.tasks.base import Columns, Sums, Task, whole_numbers
from mmfuse.tasks.ranking import realistic_rank


@dataclasses.dataclass(frozen=True)
class Choice(Task):
    """One of ``choices`` candidates: scores [B, K], label int [B], the place of the right one.

    ``subsets`` are columns that say by 1 which examples a part of the split holds that is scored by
    itself as well; with some, the label is ``{"place" [B], "in" {subset: [B]}}``.
    """

    choices: int
    subsets: Sequence[str] = dataclasses.field(default=(), kw_only=True)
    metrics: ClassVar = {"recall1": True, "mrr": True}

    def labels(self, columns: Columns) -> np.ndarray | dict:
        place = whole_numbers(columns, self.choices)
        if not self.subsets:
            return place
        return {"place": place, "in": {n: whole_numbers(columns, 2, n) for n in self.subsets}}

    def loss(self, output: jax.Array, label: Any, *, smoothing: float = 0.0) -> jax.Array:
        """Cross-entropy over the candidates that are there, among which smoothing shares."""
        label = _place(label)
        nll, there = -jax.nn.log_softmax(output), output > ABSENT / 2
        right = jnp.take_along_axis(nll, label[:, None], axis=1)[:, 0]
        others = jnp.sum(jnp.where(there, nll, 0), axis=1) / jnp.maximum(jnp.sum(there, axis=1), 1)
        return (1 - smoothing) * right + smoothing * others

    def sums(self, output: jax.Array, label: Any, weight: jax.Array) -> Sums:
        """Sums of rank = 1 and of 1 / rank; of rank = 1 and of examples in each subset as well."""
        terms = self.kept_output(output, label)
        sums = {name: jnp.sum(terms[name] * weight) for name in self.metrics}
        for name in self.subsets:
            inside = label["in"][name] * weight
            sums |= {f"{name}_n": jnp.sum(inside), f"{name}_hits": terms["recall1"] @ inside}
        return sums

    def kept_output(self, output: jax.Array, label: Any) -> dict[str, jax.Array]:
        """The scores of the candidates, and both metrics of every example."""
        rank = realistic_rank(output, _place(label), output > ABSENT / 2)
        return {"scores": output, "recall1": (rank == 1).astype(output.dtype), "mrr": 1 / rank}

    def scores(self, sums: Mapping[str, np.ndarray]) -> dict:
        """Recall@1, the share of examples whose right candidate scores best alone, and MRR.

        ``recall1_NAME`` is that of a subset, None where it is empty.
        """
        scores = {name: float(sums[name]) / float(sums["count"]) for name in self.metrics}
        for name in self.subsets:
            n = float(sums[f"{name}_n"])
            scores[f"recall1_{name}"] = float(sums[f"{name}_hits"]) / n if n else None
        return scores


def _place(label: Any) -> jax.Array:
    return label["place"] if isinstance(label, Mapping) else label


@dataclasses.dataclass(frozen=True)
class Pointing(Choice):
    """One of the tokens of ``points_at``, a modality."""

    points_at: str
    heads: ClassVar = {"pointer": PointerHead}

    def sizes(self) -> dict:
        return {"choices": self.choices, "modality": self.points_at}


@dataclasses.dataclass(frozen=True)
class Matching(Choice):
    """One of several texts, given as ids below ``words`` in the column ``candidates`` [K, L].

    The id 0 is padding.
    """

    words: int
    heads: ClassVar = {"matching": MatchingHead}

    def sizes(self) -> dict:
        return {"words": self.words}

    def given(self, columns: Columns) -> dict[str, np.ndarray]:
        return {"candidates": whole_numbers(columns, self.words, "candidates")}
