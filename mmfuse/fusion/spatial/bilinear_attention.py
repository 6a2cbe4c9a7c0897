"""Bilinear attention: one map over all pairs of tokens of two modalities, and what it pools."""

from __future__ import annotations

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmfuse.fusion.base import (
    Fused,
    any_present,
    dense,
    masked_mean,
    mean_over_present,
    names,
    one_token,
)
from mmfuse.fusion.temporal.attention import with_positions

Array = jax.Array


class BAN(nn.Module):
    """Bilinear attention networks (Kim et al. 2018, arXiv:1805.07932).

    ``A^g_ij = softmax_ij(p_g . (relu(U x_i) * relu(V y_j)))`` is one distribution over all pairs of
    a token of x and a token of y, for each glimpse g up to ``glimpses``. What it pools is
    ``j^g_k = sum_ij A^g_ij relu(U'_g x_i)_k relu(V'_g y_j)_k``, of ``width`` entries, and is added
    to every token, ``x_i := x_i + P_g j^g``, before the next glimpse pools. The maps come from the
    tokens as they were at the start, ``x_i = W h_i + b + p(t)``, with the sinusoidal position of
    their step. ``f = mean over the present m of the masked mean of x^m``.

    For M modalities there is a map for each pair, with ``p_g`` of its own; each modality has one
    set of ``U``, ``U'_g`` and ``P_g`` for all its pairs, and ``P_g`` acts on the sum of their
    ``j^g``. A pair with an absent modality has a map of zeros and adds nothing.

    Differs from the paper: both streams are updated, as none is the question; masked means instead
    of sums over tokens; positions, where the paper's words carry the state of a GRU; ``U`` and
    ``U'_g`` have biases, and the rank of the maps is ``width`` (three times it in the authors'
    code); no counting module; no bias of the logits, which cancels in the softmax.

    Limits: sees time and products of two modalities, step by step, so both; three meet only
    through the residuals of later glimpses.
    Cost: O(glimpses M^2 N^2 width + N M features width) time, O(glimpses M^2 N (N + width)) memory
    per example, for N tokens a modality.

    Shapes: ``{m: [B, T_m, S_m, D_m]} -> [B, 1, 1, features]``; weights ``m<-n`` for m before n in
    the alphabet, ``[B, glimpses, T_m S_m, T_n S_n]``, which sum to 1 over their last two axes.
    """

    features: int
    width: int
    glimpses: int = 2

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        del train
        xs, mask = {}, {}
        for m in names(tokens):
            xs[m], mask[m] = with_positions(tokens[m], masks[m], self.features, f"project_{m}")
        maps = self._maps(xs, mask)
        for g in range(self.glimpses if maps else 0):
            joint = self._joint(xs, {pair: a[:, g] for pair, a in maps.items()}, g)
            for m, x in xs.items():
                update = nn.Dense(self.features, use_bias=False, dtype=x.dtype, name=f"add_{m}_{g}")
                xs[m] = x + update(joint[m])[:, None]
        present = {m: jnp.any(mask[m], axis=1) for m in xs}
        vectors = {m: masked_mean(x, mask[m]) for m, x in xs.items()}
        weights = {f"{m}<-{n}": a for (m, n), a in maps.items()}
        return one_token(mean_over_present(vectors, present), any_present(present), weights)

    def _maps(self, xs: dict[str, Array], mask: dict[str, Array]) -> dict[tuple, Array]:
        """``{(m, n): [B, G, N_m, N_n]}``, one for each pair of modalities."""
        pairs = list(itertools.combinations(xs, 2))
        u = self._factors(xs, "map") if pairs else {}
        start = nn.initializers.normal(self.width**-0.5)
        maps = {}
        for m, n in pairs:
            p = self.param(f"map_{m}_{n}", start, (self.glimpses, self.width)).astype(u[m].dtype)
            maps[m, n] = bilinear_attention(u[m], u[n], p, mask[m], mask[n])
        return maps

    def _joint(self, xs: dict[str, Array], maps: dict[tuple, Array], g: int) -> dict[str, Array]:
        """``{m: [B, width]}``: what glimpse g pools from all pairs that m is in."""
        u = self._factors(xs, f"pool_{g}")
        joint = {m: jnp.zeros_like(x[:, 0]) for m, x in u.items()}
        for (m, n), a in maps.items():
            pooled = bilinear_pooling(u[m], u[n], a)
            joint[m], joint[n] = joint[m] + pooled, joint[n] + pooled
        return joint

    def _factors(self, xs: dict[str, Array], name: str) -> dict[str, Array]:
        """``{m: [B, N_m, width]}``, ``relu(U x + c)``."""
        return {m: nn.relu(dense(self.width, x, f"{name}_{m}")(x)) for m, x in xs.items()}


def bilinear_attention(x: Array, y: Array, p: Array, mask_x: Array, mask_y: Array) -> Array:
    """``A^g_ij = softmax over all pairs ij of p_g . (x_i * y_j)``, in float32 inside.

    Args:
      x: ``[B, Q, K]``.
      y: ``[B, N, K]``.
      p: ``[G, K]``.
      mask_x: bool ``[B, Q]``.
      mask_y: bool ``[B, N]``.

    Returns:
      ``[B, G, Q, N]`` in the dtype of ``x``. A pair with a masked token weighs exactly zero, and
      over no pairs all of it is zero.
    """
    scaled = x[:, None] * p[None, :, None]
    logits = jnp.einsum("bgqk,bnk->bgqn", scaled, y, preferred_element_type=jnp.float32)
    pairs = jnp.broadcast_to((mask_x[:, :, None] & mask_y[:, None])[:, None], logits.shape)
    flat = jax.nn.softmax(logits.reshape(*logits.shape[:2], -1),
                          where=pairs.reshape(*logits.shape[:2], -1), axis=-1)  # fmt: skip
    return flat.reshape(logits.shape).astype(x.dtype)


def bilinear_pooling(x: Array, y: Array, weights: Array) -> Array:
    """``j_k = sum_ij a_ij x_ik y_jk``: ``[B, Q, K], [B, N, K], [B, Q, N] -> [B, K]``."""
    return jnp.sum(x * jnp.einsum("bqn,bnk->bqk", weights, y), axis=1)
