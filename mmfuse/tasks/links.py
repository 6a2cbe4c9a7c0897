"""Links of a knowledge graph: (one end, relation) -> the other end."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from mmfuse.decoders import ComplEx, DistMult, TransE
from mmfuse.errors import InputError
from mmfuse.tasks.base import Columns, whole_numbers
from mmfuse.tasks.ranking import Ranking, bits


@dataclasses.dataclass(frozen=True)
class Links(Ranking):
    """A ranking whose ``groups`` are the relations, which the head is given.

    A training example is a question (one end, relation), asked once for all its triples: the column
    ``label_answers``, one bit an entity, holds all their answers, ``label`` any of them. Outside
    training it is empty, and ``label`` is the answer: an example is a triple there.
    """

    heads: ClassVar = {"complex": ComplEx, "distmult": DistMult, "transe": TransE}
    by_group: ClassVar = tuple(Ranking.metrics)

    def __post_init__(self):
        if self.groups < 1:
            raise InputError("the task 'links' needs the number of relations, 'groups'")

    def sizes(self) -> dict:
        return {"entities": self.entities, "relations": self.groups}

    def labels(self, columns: Columns) -> dict[str, np.ndarray]:
        return super().labels(columns) | {"answers": bits(columns, self.entities, "label_answers")}

    def given(self, columns: Columns) -> dict[str, np.ndarray]:
        """The relation, and the known answers of the question: none outside training."""
        return {
            "relation": whole_numbers(columns, self.groups, "label_group"),
            "answers": bits(columns, self.entities, "label_answers"),
        }

    def loss(self, output: jax.Array, label: dict, *, smoothing: float = 0.0) -> jax.Array:
        """The cross-entropies of all answers of a question, summed.

        ``n log sum_e exp(z_e) - sum_e y_e z_e`` for ``n`` answers y: what 1-vs-all training adds up
        over the n triples, from one row of scores.
        """
        known = jnp.unpackbits(label["answers"], axis=1)[:, : self.entities]
        y = jnp.maximum(known, jax.nn.one_hot(label["entity"], self.entities, dtype=known.dtype))
        y = y.astype(output.dtype)
        n = jnp.sum(y, axis=1)
        wanted = (1 - smoothing) * jnp.sum(y * output, axis=1) + smoothing * n * output.mean(axis=1)
        return n * jax.nn.logsumexp(output, axis=1) - wanted

    def kept_label(self, label: dict) -> dict[str, np.ndarray]:
        return {name: label[name] for name in ("entity", "group")}
