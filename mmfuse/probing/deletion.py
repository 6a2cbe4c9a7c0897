"""Is an explanation faithful? Deleting what it points at must hurt more than deleting at random.

A weight explains nothing if the method does as well without the tokens that it weighs most (Samek
et al. 2017, arXiv:1509.06321). Tokens go within each modality: weights of two modalities are not of
one scale.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import numpy as np

from mmfuse import evaluation
from mmfuse.parallel import Devices
from mmfuse.probing.explain import explain, without_tokens
from mmfuse.probing.scores import finalised
from mmfuse.restored import Finished
from mmfuse.tasks import METRICS, Classification

SHARES = (0.1, 0.25, 0.5)  # of the real tokens of each modality
DRAWS = 5  # random deletions that are averaged
BY = {"attention": "attention", "integrated gradients": "gradients"}


@dataclasses.dataclass(frozen=True)
class Explained:
    """What a row looks at on some validation examples; R replicas, B examples of all batches.

    Attributes:
      seen: of :func:`explain` without the last two, leaves [R, B, ...], numpy.
      first: ``maps`` and ``shape`` of the first replica and the first few examples.
      scores: ``{(by, share, "targeted" | "random"): [score of each seed]}`` of the main metric.
      clean: the score of each seed on the same examples.
    """

    seen: dict[str, Any]
    first: dict[str, Any]
    scores: dict[tuple[str, float, str], list[float | None]]
    clean: list[float | None]

    @property
    def attends(self) -> bool:
        """Whether the fusion returns attention over tokens."""
        return bool(self.seen["attention"])


def keep_mask(weights: np.ndarray, mask: np.ndarray, share: float) -> np.ndarray:
    """Which tokens stay when the most weighed ``share`` of the real ones goes: bool [..., N].

    ``round(share * n)`` of n real tokens are deleted, at least one and at most n - 1; the only
    token of a modality stays, or its deletion would be that of the modality. Ties go by place.
    """
    n = mask.sum(axis=-1, keepdims=True)
    number = np.clip(np.round(share * n), 1, np.maximum(n - 1, 0)) * (n > 1)
    order = np.argsort(-np.where(mask, weights, -np.inf), axis=-1, kind="stable")
    rank = np.argsort(order, axis=-1, kind="stable")
    return mask & (rank >= number)


def explain_row(
    row: Finished, batches: list[dict], metric: str, few: int, devices: Devices
) -> Explained:
    """Explains a row on these batches, all of one shape, and deletes tokens; two programs."""
    built, task, lanes = row.built, row.built.program.task, len(row.seeds)

    def look(params, batch, *, axis_name):
        return jax.vmap(lambda p: explain(built.model, task, p, batch, few))(params)

    def score(params, batch, kept, *, axis_name):
        def one(p, k):
            output, losses = without_tokens(built.model, p, batch, k)
            return evaluation.score(task, output, losses, batch)[1]

        return jax.vmap(one)(params, kept)

    looking = devices.compile(look, (row.params, batches[0]), (None, None))
    found = [jax.device_get(looking(row.params, batch)) for batch in batches]
    first = {key: jax.tree.map(lambda x: x[0], found[0][key]) for key in ("maps", "shape")}
    parts = [{k: v for k, v in part.items() if k not in first} for part in found]
    scoring = devices.compile(score, (row.params, batches[0], parts[0]["masks"]), (None,) * 3)

    signed = isinstance(task, Classification)  # what speaks against a class is no reason for it

    def scored(kept_of) -> list[float | None]:
        total = None
        for number, (batch, part) in enumerate(zip(batches, parts, strict=True)):
            sums = jax.device_get(scoring(row.params, batch, kept_of(number, part)))
            total = sums if total is None else jax.tree.map(np.add, total, sums)
        return [lane[metric] for lane in finalised(task, total, lanes)]

    def at_random(share: float, of: tuple[str, ...]) -> list[float | None]:
        drawn = [
            scored(lambda n, part, d=d: _random(part["masks"], of, share, (d, n)))
            for d in range(DRAWS)
        ]
        return [_mean(lane) for lane in zip(*drawn, strict=True)]

    scores, chance = {}, functools.cache(at_random)
    for by, key in BY.items():
        explained = tuple(sorted(parts[0][key]))
        for share in SHARES if explained else ():
            scores[by, share, "targeted"] = scored(
                lambda _, part, key=key, share=share: _targeted(part, key, share, signed)
            )
            scores[by, share, "random"] = chance(share, explained)
    clean = scored(lambda _, part: part["masks"])
    return Explained(_joined(parts, batches), first, scores, clean)


def _targeted(part: dict, key: str, share: float, signed: bool) -> dict[str, np.ndarray]:
    """Masks [R, B, N]; modalities that the explanation says nothing of stay whole.

    A number moves as far by a token that pulls it down as by one that lifts it: unless ``signed``,
    it is the size of a weight that counts.
    """
    masks = part["masks"]
    weights = {m: w if signed else np.abs(w) for m, w in part[key].items()}
    return masks | {m: keep_mask(w, masks[m], share) for m, w in weights.items()}


def _random(
    masks: dict[str, np.ndarray], of: tuple[str, ...], share: float, draw: tuple[int, int]
) -> dict[str, np.ndarray]:
    """As many tokens ``of`` these modalities, keyed by the draw and the batch, not by the row."""
    kept = dict(masks)
    for place, m in enumerate(sorted(masks)):
        if m in of:
            weights = np.random.default_rng([*draw, place]).random(masks[m].shape[1:])
            kept[m] = keep_mask(np.broadcast_to(weights, masks[m].shape), masks[m], share)
    return kept


def _mean(values: tuple[float | None, ...]) -> float | None:
    return None if None in values else sum(values) / len(values)


def _joined(parts: list[dict], batches: list[dict]) -> dict[str, Any]:
    """The parts one after the other along B, without padding."""
    real = np.concatenate([np.asarray(batch["weight"]) > 0 for batch in batches])
    return jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=1)[:, real], *parts)


def hurts(metric: str, before: float, after: float) -> float:
    """By how much the score got worse, in the metric's unit."""
    return (before - after) if METRICS[metric] else (after - before)
