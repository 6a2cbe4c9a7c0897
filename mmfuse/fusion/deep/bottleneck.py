"""Streams that exchange what they know through a few shared tokens."""

from __future__ import annotations

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmfuse.attention import TransformerBlock
from mmfuse.errors import InputError
from mmfuse.fusion.base import (
    Fused,
    any_present,
    masked_mean,
    mean_over_present,
    names,
    one_token,
)
from mmfuse.fusion.temporal.attention import with_positions

Array = jax.Array


class MBT(nn.Module):
    """Attention bottlenecks (Nagrani et al. 2021, arXiv:2107.00135).

    ``[x_m'; z_m'] = Block_m([x_m; z]), z' = mean over the present m of z_m'``: each modality has
    its own transformer over ``x_m = W_m h_m + p(t)``. Layers before ``fusion_layer`` see their own
    tokens only. From there on a layer sees its own tokens and B shared bottleneck tokens z, and the
    new bottlenecks are averaged: all that modalities learn of each other goes through z. At the end
    ``f = mean over the present m of masked mean of LN_m(x_m)``.

    With no bottlenecks this is a late average of unimodal transformers.

    Differs from the paper: small and trained from scratch; a masked mean instead of a CLS token; no
    positions over space; features are averaged before the head, which is averaging logits, as the
    head is affine.

    Limits: sees time and products, but through B tokens that must carry a whole sequence, so that
    what falls on the same step of two modalities is learnt slowly, if at all.

    Cost: O(layers sum_m N_m (features^2 + N_m features)) time, O(layers sum_m N_m (features + N_m))
    memory per example, for ``N_m = T_m S_m + B`` tokens.

    Shapes: ``{m: [B, T_m, S_m, D_m]} -> [B, 1, 1, features]``; weights of the last layer ``m<-m``,
    and with bottlenecks ``m<-bottleneck``, ``bottleneck<-m``, each ``[B, H, Q, N]``.

    Raises:
      InputError: ``features`` is not a multiple of ``heads``; fewer than two layers from
        ``fusion_layer`` on (the first writes the bottlenecks, the second reads them).
    """

    needs_time: ClassVar[bool] = True

    features: int
    heads: int = 4
    layers: int = 2
    fusion_layer: int = 0
    bottlenecks: int = 4
    dropout: float = 0.0
    hidden: int = 0

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        self._check()
        order = names(tokens)
        xs, mask = {}, {}
        for m in order:
            xs[m], mask[m] = with_positions(tokens[m], masks[m], self.features, f"project_{m}")
        present = {m: jnp.any(mask[m], axis=1) for m in order}
        z, weights = self._bottlenecks(xs[order[0]]), {}
        for layer in range(self.layers):
            fuse = self.bottlenecks > 0 and layer >= self.fusion_layer
            shared = z if fuse else z[:, :0]
            written = {}
            for m in order:
                block = TransformerBlock(
                    self.heads, dropout=self.dropout, hidden=self.hidden, name=f"{m}_{layer}"
                )
                xs[m], written[m], maps = _through(block, m, xs[m], shared, mask[m], train=train)
                weights.update(maps)
            if fuse:
                z = _average(written, present)
        vectors = {
            m: masked_mean(nn.LayerNorm(dtype=xs[m].dtype, name=f"norm_{m}")(xs[m]), mask[m])
            for m in order
        }
        return one_token(mean_over_present(vectors, present), any_present(present), weights)

    def _check(self) -> None:
        if self.bottlenecks > 0 and self.layers - self.fusion_layer < 2:
            raise InputError(
                f"mbt: fusion_layer={self.fusion_layer} with layers={self.layers} leaves fewer than"
                " 2 layers with bottlenecks, so nothing would be exchanged"
            )

    def _bottlenecks(self, like: Array) -> Array:
        """``[B, bottlenecks, features]``, the same learned start for every example."""
        shape = (self.bottlenecks, self.features)
        if self.bottlenecks == 0:
            return jnp.zeros((like.shape[0], *shape), like.dtype)
        z = self.param("bottlenecks", nn.initializers.normal(0.02), shape).astype(like.dtype)
        return jnp.broadcast_to(z[None], (like.shape[0], *shape))


def _through(
    block: TransformerBlock, m: str, x: Array, z: Array, mask: Array, *, train: bool
) -> tuple[Array, Array, dict[str, Array]]:
    """One layer of stream ``m`` with its bottlenecks: the new tokens, bottlenecks and maps."""
    n = x.shape[1]
    keys = jnp.concatenate([mask, jnp.ones(z.shape[:2], bool)], axis=1)
    y, a = block(jnp.concatenate([x, z], axis=1), keys, train=train)
    maps = {f"{m}<-{m}": a[:, :, :n, :n]}
    if z.shape[1]:
        maps |= {f"{m}<-bottleneck": a[:, :, :n, n:], f"bottleneck<-{m}": a[:, :, n:, :n]}
    return y[:, :n], y[:, n:], maps


def _average(written: dict[str, Array], present: dict[str, Array]) -> Array:
    """``{m: [B, N, D]} -> [B, N, D]``, over the modalities that are present."""
    order = names(written)
    stacked = jnp.stack([written[m] for m in order], axis=2)
    there = jnp.stack([present[m] for m in order], axis=1)[:, None]
    return masked_mean(stacked, jnp.broadcast_to(there, stacked.shape[:-1]), axis=2)
