"""Objectives that change the gradient."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmfuse.errors import InputError
from mmfuse.fusion.base import Array
from mmfuse.objectives.base import ENCODERS, Objective, Seen, Told, several
from mmfuse.transforms.base import Transform, number


class OGMGE(Objective):
    """On-the-fly gradient modulation with generalisation enhancement (Peng et al. 2022, CVPR).

    ``grad_m <- k_m grad_m + e``, ``k_m = 1 - tanh(alpha r_m) if r_m > 1 else 1`` for the encoder of
    m, with ``r_m = s_m / mean_(n != m) s_n`` and ``s_m`` the mean of ``exp(-L_task)`` over the
    examples that have m, when the model is given m alone: for a classifier the probability of the
    true class. So the modality that already answers best learns slower. ``e`` is Gaussian noise
    with the standard deviation of the entries of the same array's gradient, before the modulation,
    if ``noise`` is on: the enhancement of generalisation.

    Differs from the paper (arXiv:2203.15332): what m answers alone comes from the model with all
    other modalities masked, which any fusion and any task can do, where the paper splits the last
    layer of a concatenation; more than two modalities, of which the others are averaged; noise is
    for every array of more than one entry, as the paper's formula says (its code: convolutions); no
    first and last epoch of the modulation, which runs throughout.
    """

    alpha: float = 0.3
    noise: bool = True

    def check(self) -> None:
        """Ranges of the fields."""
        number("alpha", self.alpha, 0)
        if not isinstance(self.noise, bool):
            raise InputError(f"noise must be True or False, got {self.noise!r}")

    def fits(self, modalities: tuple[str, ...], transforms: tuple[Transform, ...]) -> None:
        """At least two modalities."""
        several(modalities)

    @nn.compact
    def __call__(self, seen: Seen) -> Told:
        """No loss; of every modality alone, the summed scores and the number of examples."""
        now, scores, counts = seen.measured(), {}, {}
        for m in sorted(now.tokens):
            only = {n: mask if n == m else jnp.zeros_like(mask) for n, mask in now.masks.items()}
            score = jnp.exp(-now.loss(now.fuse(now.tokens, only)))
            # Weights of the training batch: a held-out example has no say.
            count = seen.batch["weight"] * jnp.any(now.masks[m], axis=(1, 2))
            scores[m] = jnp.sum(jnp.where(count > 0, score, 0) * count)
            counts[m] = jnp.sum(count)
        return Told(sums={"score": scores, "count": counts})

    def modulate(self, grads: dict[str, Any], sums: dict[str, Any], key: Array) -> dict[str, Any]:
        """See the class."""
        factors = coefficients(sums["score"], sums["count"], self.alpha)
        changed = {}
        for place, (m, factor) in enumerate(sorted(factors.items())):
            leaves, treedef = jax.tree.flatten(grads[ENCODERS + m])
            keys = jax.random.split(jax.random.fold_in(key, place), len(leaves))
            leaves = [self._changed(g, factor, k) for g, k in zip(leaves, keys, strict=True)]
            changed[ENCODERS + m] = jax.tree.unflatten(treedef, leaves)
        return grads | changed

    def _changed(self, grad: Array, factor: Array, key: Array) -> Array:
        if not self.noise:
            return factor * grad
        return factor * grad + jnp.std(grad) * jax.random.normal(key, grad.shape, grad.dtype)


def coefficients(
    scores: dict[str, Array], counts: dict[str, Array], alpha: float
) -> dict[str, Array]:
    """``k_m`` of every modality, from summed scores and numbers of examples; 1 without any."""
    mean = {m: scores[m] / jnp.maximum(counts[m], 1) for m in scores}
    found = {}
    for m, own in mean.items():
        others = sum(mean[n] for n in mean if n != m) / (len(mean) - 1)
        known = (others > 0) & (counts[m] > 0)
        ratio = jnp.where(known, own / jnp.where(known, others, 1), 0)
        found[m] = jnp.where(ratio > 1, 1 - jnp.tanh(alpha * ratio), 1.0)
    return found
