"""Shared and private subspaces of the modalities, and the losses that shape them."""

from __future__ import annotations

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmfuse.attention import TransformerBlock
from mmfuse.errors import InputError
from mmfuse.fusion.base import (
    Fused,
    any_present,
    dense,
    masked_mean,
    mean_over_present,
    names,
    one_token,
    pooled,
)
from mmfuse.fusion.spatial.simple import norm

Array = jax.Array


class MISA(nn.Module):
    """Modality-invariant and -specific representations (Hazarika et al. 2020, arXiv:2005.03545).

    ``f = relu(W Transformer([c_1; ..; c_M; p_1; ..; p_M]) + b)``, with
    ``u_m = LN(relu(U_m h_m + b_m))`` of the masked mean ``h_m``, the shared part
    ``c_m = sigmoid(E u_m + e)`` (one encoder for all modalities), and the private part
    ``p_m = sigmoid(P_m u_m + q_m)``. The transformer sees the 2 M vectors as tokens, and W their
    concatenation. Three losses shape the subspaces while training (0 turns one off):

    * ``losses["similarity"] = similarity * mean over pairs m < n of CMD(c_m, c_n)``, the central
      moment discrepancy ``CMD(x, y) = |E x - E y| + sum_(k=2..moments) |C_k x - C_k y|``, where
      ``C_k x = E (x - E x)^k`` per feature and ``E`` is the mean over the batch;
    * ``losses["difference"] = difference * (sum_m D(c_m, p_m) + sum_(m<n) D(p_m, p_n))`` with
      ``D(x, y) = |X^T Y|^2 / hidden^2`` (Frobenius), whose rows are the examples, centred over the
      batch and then scaled to length one;
    * ``losses["reconstruction"] = reconstruction * mean_m |u_m - R (c_m + p_m) - r|^2 / hidden``.

    The first two are one number a batch (of one device): each example that has any modality gets
    this number, so that the trainer's mean over examples is the paper's loss. Moments and products
    run over the examples that have the modality, or both of the pair.

    Differs from the paper: the difference loss is divided by ``hidden^2``, as in the authors' code,
    to which the weights (the defaults here) belong; ``difference=0.3 * hidden**2`` is the sum that
    the paper writes. Its rows are centred over the batch, as in the code: the paper says "zero
    mean" and not over what. The code stops the gradient through the rows' lengths; of that the
    paper says nothing, and here it is not stopped. ``R`` is one decoder, as in the paper; the code
    has one a modality, and offers an adversarial loss for CMD, which is left out. Pooled tokens
    stand for LSTM and BERT vectors; blocks are pre-norm and 2 times as wide inside; any number of
    modalities, of which an absent one is left out by masks; the authors' last layer is the head.

    Limits: reads masked means: counts but no timing; the attention and the relu over all
    modalities let it learn products.

    Cost: O(H sum_m D_m + M H^2 + L (M^2 H + M H^2) + M H F) time, O(L (M^2 + M H)) memory per
    example, and while training O(M^2 H^2) for the difference loss of a batch, for H hidden units.

    Shapes: ``{m: [B, T, S, D_m]} -> [B, 1, 1, features]``; weights of the last layer
    ``subspaces<-subspaces``, ``[B, heads, 2 M, 2 M]``, shared parts first.

    Raises:
      InputError: ``hidden`` is not a multiple of ``heads``; ``moments`` is less than one.
    """

    HEADED: ClassVar[str] = "hidden"

    features: int
    hidden: int
    heads: int = 2
    layers: int = 1
    dropout: float = 0.0
    similarity: float = 1.0
    difference: float = 0.3
    reconstruction: float = 1.0
    moments: int = 5

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        if self.moments < 1:
            raise InputError(f"misa: moments={self.moments} must be at least 1")
        order = names(tokens)
        vectors, there = pooled(tokens, masks)
        u = {m: nn.relu(dense(self.hidden, x, f"project_{m}")(x)) for m, x in vectors.items()}
        u = {m: nn.LayerNorm(dtype=x.dtype, name=f"norm_{m}")(x) for m, x in u.items()}
        encode = dense(self.hidden, u[order[0]], "shared")
        shared = {m: nn.sigmoid(encode(u[m])) for m in order}
        private = {m: nn.sigmoid(dense(self.hidden, u[m], f"private_{m}")(u[m])) for m in order}
        f, weights = self._joint(shared, private, there, train=train)
        fused = one_token(f, any_present(there), {"subspaces<-subspaces": weights})
        return fused.replace(losses=self._losses(u, shared, private, there, train=train))

    def _joint(
        self,
        shared: dict[str, Array],
        private: dict[str, Array],
        there: dict[str, Array],
        *,
        train: bool,
    ) -> tuple[Array, Array]:
        """The transformer over all parts and the dense layer: ``[B, features]`` and the map."""
        order = names(shared)
        x = jnp.stack([part[m] for part in (shared, private) for m in order], axis=1)
        mask = jnp.stack([there[m] for m in (*order, *order)], axis=1)
        for layer in range(self.layers):
            block = TransformerBlock(self.heads, dropout=self.dropout, name=f"block_{layer}")
            x, weights = block(x, mask, train=train)
        flat = jnp.where(mask[..., None], x, 0).reshape(x.shape[0], -1)
        f = nn.relu(dense(self.features, flat, "fuse")(flat))
        return nn.Dropout(self.dropout, deterministic=not train)(f), weights

    def _losses(
        self,
        u: dict[str, Array],
        shared: dict[str, Array],
        private: dict[str, Array],
        there: dict[str, Array],
        *,
        train: bool,
    ) -> dict[str, Array]:
        """The three losses, each ``[B]``; the decoder is made in any case, as it has parameters."""
        order, losses = names(u), {}
        if not train and not self.is_initializing():
            return losses
        c, p = (
            jnp.stack([part[m] for m in order]).astype(jnp.float32) for part in (shared, private)
        )
        present = jnp.stack([there[m] for m in order])
        if self.similarity and len(order) > 1:
            losses["similarity"] = self.similarity * similarity_loss(c, present, self.moments)
        if self.difference:
            losses["difference"] = self.difference * difference_loss(c, p, present)
        if self.reconstruction:
            decode = dense(self.hidden, u[order[0]], "decode")
            gaps = {m: u[m] - decode(shared[m] + private[m]) for m in order}
            errors = {m: jnp.mean(jnp.square(x), axis=-1, keepdims=True) for m, x in gaps.items()}
            losses["reconstruction"] = self.reconstruction * mean_over_present(errors, there)[:, 0]
        some = any_present(there)
        return {k: jnp.where(some, x, 0) for k, x in losses.items()} if train else {}


def similarity_loss(x: Array, there: Array, moments: int) -> Array:
    """The mean CMD of all pairs of modalities: ``[M, B, F], [M, B] -> []``."""
    first, second = np.triu_indices(x.shape[0], 1)
    values = jax.vmap(central_moments, in_axes=(0, 0, None))(x, there, moments)
    distances = jnp.sum(norm(values[first] - values[second]), axis=1)
    some = jnp.any(there, axis=1)
    return masked_mean(distances, some[first] & some[second], axis=0)[0]


def central_moments(x: Array, there: Array, moments: int) -> Array:
    """``E x`` and ``E (x - E x)^k`` for k = 2 .. ``moments``: ``[B, F], [B] -> [moments, F]``."""
    mean = masked_mean(x, there, axis=0)
    centred = x - mean[None]
    higher = [masked_mean(centred**k, there, axis=0) for k in range(2, moments + 1)]
    return jnp.stack([mean, *higher])


def difference_loss(c: Array, p: Array, there: Array) -> Array:
    """``sum_m D(c_m, p_m) + sum_(m<n) D(p_m, p_n)``: ``[M, B, F], [M, B, F], [M, B] -> []``."""
    first, second = np.triu_indices(c.shape[0], 1)
    own = jnp.sum(jax.vmap(overlap)(c, p, there))
    if not len(first):
        return own
    both = there[first] & there[second]
    return own + jnp.sum(jax.vmap(overlap)(p[first], p[second], both))


def overlap(x: Array, y: Array, there: Array) -> Array:
    """``D(x, y)``: the mean square of ``X^T Y`` for centred rows of length one, ``[B, F]`` each."""
    x, y = _unit_rows(x, there), _unit_rows(y, there)
    return jnp.mean(jnp.square(x.T @ y))


def _unit_rows(x: Array, there: Array) -> Array:
    """``[B, F]`` minus its mean over the batch, rows scaled to length one; absent rows are zero."""
    centred = jnp.where(there[:, None], x - masked_mean(x, there, axis=0)[None], 0)
    # A row that is the mean itself has no direction; the constant keeps its gradient finite.
    square = jnp.sum(jnp.square(centred), axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(square + 1e-12)
