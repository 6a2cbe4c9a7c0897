"""Objectives that pull together what the modalities of an example are encoded to."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmfuse.fusion.base import Array, dense, masked_mean, pooled
from mmfuse.fusion.deep.aligned import paired_contrast, unit
from mmfuse.objectives.base import Objective, Seen, Told, several
from mmfuse.transforms.base import Transform, number, whole


class _Aligning(Objective):
    """The base of both: a linear map of every pooled modality, compared pair by pair.

    A subclass has ``features``, the width of the maps.
    """

    def fits(self, modalities: tuple[str, ...], transforms: tuple[Transform, ...]) -> None:
        """At least two modalities."""
        several(modalities)

    def _pairs(
        self, seen: Seen, after: Callable[[Array], Array]
    ) -> list[tuple[Array, Array, Array]]:
        """``(u_m, u_n, who has both)`` for all ``m < n``: [N, features] twice and bool [N].

        ``u_m = after(W_m h_m + b_m)`` over the N examples of all devices. To be called in a
        ``__call__``.
        """
        vectors, present = pooled(seen.tokens, seen.masks)
        u = {m: after(dense(self.features, x, m)(x)) for m, x in vectors.items()}
        u, there = seen.everyone((u, present))
        pairs = itertools.combinations(sorted(u), 2)
        return [(u[m], u[n], there[m] & there[n]) for m, n in pairs]


class Contrastive(_Aligning):
    """Contrastive alignment, symmetric InfoNCE (Oord et al. 2018, Radford et al. 2021).

    ``L_i = mean_(m<n) -(log softmax_j(u_mi . u_nj / t)_i + log softmax_j(u_ni . u_mj / t)_i) / 2``
    with ``u_m = W_m h_m + b_m`` scaled to length one, h_m the masked mean of the encoded tokens of
    m, and t the temperature: among all examples of the batch, each modality is to find the other
    of its own example. The mean runs over all pairs of modalities; a pair that an example lacks is
    0 there, and the example is no candidate for others.

    The batch is the whole one, of all devices. Papers: arXiv:1807.03748, arXiv:2103.00020; there
    two modalities, and a temperature that is learned.
    """

    weight: float = 0.1
    temperature: float = 0.1
    features: int = 32

    def check(self) -> None:
        """Ranges of the fields."""
        number("weight", self.weight, 0)
        number("temperature", self.temperature, 1e-3)
        whole("features", self.features, 1)

    @nn.compact
    def __call__(self, seen: Seen) -> Told:
        """See the class."""
        losses = [
            paired_contrast(x @ y.T / self.temperature, both)
            for x, y, both in self._pairs(seen, unit)
        ]
        return Told(self.weight * seen.mine(sum(losses) / len(losses)))


class DeepCCA(_Aligning):
    """Deep canonical correlation analysis (Andrew et al. 2013, ICML 28(3)).

    ``L = -mean_(m<n) sum_k corr_k(m, n)``, the sum of the singular values of
    ``S_mm^(-1/2) S_mn S_nn^(-1/2)``, where ``S_mn = X_m^T X_n / (N - 1)`` are covariances over the
    N examples of the batch that have both, ``S_mm`` with ``ridge`` added to its diagonal, and X_m
    the rows ``W_m h_m + b_m`` of ``features`` numbers, centred: the total correlation of m and n.

    It is one number a batch, which every example of it gets, so that their mean is this number. The
    batch is the whole one, of all devices; it should have many more examples than ``features``, as
    in fewer everything is correlated. Fewer than two examples with both: 0. Differs from the
    paper: a term beside the task's loss, from the first step on, and not training by itself with
    full batches; several pairs are averaged; h_m is a masked mean of encoded tokens.
    """

    weight: float = 0.05
    features: int = 8
    ridge: float = 1e-3

    def check(self) -> None:
        """Ranges of the fields."""
        number("weight", self.weight, 0)
        number("ridge", self.ridge, 1e-8)
        whole("features", self.features, 1)

    @nn.compact
    def __call__(self, seen: Seen) -> Told:
        """See the class."""
        found = [
            total_correlation(x, y, both, self.ridge)
            for x, y, both in self._pairs(seen, lambda v: v.astype(jnp.float32))
        ]
        loss = -self.weight * sum(found) / len(found)
        return Told(jnp.broadcast_to(loss, seen.batch["weight"].shape))


def total_correlation(x: Array, y: Array, both: Array, ridge: float) -> Array:
    """Sum of the canonical correlations of the rows that ``both`` [N] marks: ``[N, F] -> []``."""
    count = jnp.sum(both)
    x, y = (jnp.where(both[:, None], v - masked_mean(v, both, axis=0)[None], 0) for v in (x, y))
    scale = 1 / jnp.maximum(count - 1, 1)
    ridges = ridge * jnp.eye(x.shape[1])
    value = canonical(scale * x.T @ x + ridges, scale * x.T @ y, scale * y.T @ y + ridges)
    return jnp.where(count > 1, value, 0)


@jax.custom_vjp
def canonical(xx: Array, xy: Array, yy: Array) -> Array:
    """Sum of the singular values of ``xx^(-1/2) xy yy^(-1/2)``, matrices [F, F].

    Its gradient is that of the paper (section 3.2), ``xx^(-1/2) U V^T yy^(-1/2)`` for ``xy`` and
    ``-1/2 xx^(-1/2) U D U^T xx^(-1/2)`` for ``xx``: finite where singular values are equal, which
    that of the decomposition itself is not.
    """
    return _canonical(xx, xy, yy)[0]


def _canonical(xx: Array, xy: Array, yy: Array) -> tuple[Array, tuple]:
    left, right = _inverse_root(xx), _inverse_root(yy)
    u, d, vt = jnp.linalg.svd(left @ xy @ right, full_matrices=False)
    return jnp.sum(d), (left, right, u, d, vt)


def _inverse_root(s: Array) -> Array:
    values, vectors = jnp.linalg.eigh(s)
    return (vectors * jax.lax.rsqrt(jnp.maximum(values, 1e-12))[None]) @ vectors.T


def _canonical_gradient(kept: tuple, by: Array) -> tuple[Array, Array, Array]:
    left, right, u, d, vt = kept
    xx = -0.5 * left @ (u * d[None]) @ u.T @ left
    yy = -0.5 * right @ (vt.T * d[None]) @ vt @ right
    return by * xx, by * (left @ u @ vt @ right), by * yy


canonical.defvjp(_canonical, _canonical_gradient)
