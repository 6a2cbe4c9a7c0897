"""Links of a knowledge graph: the other end of a triple, and whether a triple is true."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from mmfuse.data.roles import CALIBRATES, JUDGED
from mmfuse.decoders import ComplEx, DistMult, TransE
from mmfuse.errors import InputError
from mmfuse.tasks.base import Columns, Sums, whole_numbers
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


@dataclasses.dataclass(frozen=True)
class Triples(Links):
    """Whether a triple is true: trained as ``Links``, and decided by thresholds of its score.

    Outside training ``label`` is the triple's other end and its score that entity's. The column
    ``label_true`` says whether the triple is true, ``label_role`` what it is for: ``CALIBRATES``,
    thresholds are chosen by it, ``JUDGED``, it counts, or both; 0 in training. ``label_place`` is
    its place among the ``triples`` that a split has at most. So that the test split can be judged
    by thresholds of validation, it holds the validation triples too, which do not count there.
    """

    triples: int = 0
    metrics: ClassVar = {
        "accuracy": True,
        "f1_true": True,
        "accuracy_shared": True,
        "f1_true_shared": True,
    }

    def labels(self, columns: Columns) -> dict[str, np.ndarray]:
        return super().labels(columns) | {
            "true": whole_numbers(columns, 2, "label_true"),
            "role": whole_numbers(columns, JUDGED + CALIBRATES + 1, "label_role"),
            "place": whole_numbers(columns, self.triples, "label_place"),
        }

    def sums(self, output: jax.Array, label: dict, weight: jax.Array) -> Sums:
        """What is known of each triple, at its place, [triples]; training adds nothing."""
        weight = jnp.where(label["role"] > 0, weight, 0)
        known = self.kept_output(output, label) | {
            name: label[name].astype(output.dtype) for name in ("true", "role", "group")
        }
        place = jax.nn.one_hot(label["place"], self.triples) * weight[:, None]
        return {name: value @ place for name, value in known.items()}

    def scores(self, sums: Mapping[str, np.ndarray]) -> dict:
        """Accuracy, and F1 of what is true, over the judged triples.

        With a threshold for each relation, and with one ``shared`` by all; a relation without a
        triple to calibrate by has the shared one. None where nothing is judged or calibrates.
        """
        score, true = np.asarray(sums["score"], np.float64), np.asarray(sums["true"]) > 0.5
        role, group = np.rint(sums["role"]).astype(int), np.rint(sums["group"]).astype(int)
        judged, by = (role & JUDGED) > 0, (role & CALIBRATES) > 0
        if not judged.any() or not by.any():
            return dict.fromkeys(self.metrics)
        shared = threshold(score[by], true[by])
        own = np.full(self.groups, shared)
        for relation in np.unique(group[by]):
            mine = by & (group == relation)
            own[relation] = threshold(score[mine], true[mine], near=shared)
        said = (score >= own[group])[judged], (score >= shared)[judged]
        pairs = [accuracy_and_f1(answer, true[judged]) for answer in said]
        return dict(zip(self.metrics, (*pairs[0], *pairs[1]), strict=True))

    def kept_output(self, output: jax.Array, label: dict) -> dict[str, jax.Array]:
        """The score of the triple."""
        return {"score": jnp.take_along_axis(output, label["entity"][:, None], axis=1)[:, 0]}

    def kept_label(self, label: dict) -> dict[str, np.ndarray]:
        return {name: label[name] for name in ("group", "true", "role")}


def threshold(score: np.ndarray, true: np.ndarray, near: float = 0.0) -> float:
    """The threshold [N] -> float with the most right answers ``(score >= threshold) == true``.

    Half way between two neighbouring scores, or 1 beyond all; of several as good, that nearest to
    ``near``.
    """
    order = np.sort(np.unique(score))
    ways = np.array([order[0] - 1, *(order[:-1] + order[1:]) / 2, order[-1] + 1])
    right = np.array([np.sum((score >= way) == true) for way in ways])
    best = ways[right == right.max()]
    return float(best[np.argmin(np.abs(best - near))])


def accuracy_and_f1(said: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    """The share of right answers, and ``2 hits / (said true + true)``, 0 if there are none."""
    hits, claims = np.sum(said & true), said.sum() + true.sum()
    return float(np.mean(said == true)), float(2 * hits / claims) if claims else 0.0
