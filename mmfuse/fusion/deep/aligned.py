"""Align, then fuse: a contrastive loss before one stream attends to the others (ALBEF)."""

from __future__ import annotations

import math
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmfuse.attention import TransformerBlock
from mmfuse.fusion.base import Fused, any_present, dense, masked_mean, names, one_token
from mmfuse.fusion.deep.coattention import (
    AttentionSublayer,
    others,
    split_maps,
    with_cls,
    without_cls,
)
from mmfuse.fusion.spatial.gated import chosen

Array = jax.Array


class ALBEF(nn.Module):
    """Align before fuse: contrast, then a fusion encoder (Li et al. 2021, arXiv:2107.07651).

    ``y = x + SA(x), x' = CoTRM(y, [x_n, n != main])``: one layer of the main stream ``x``. It
    attends to itself, then to the other streams, which stay as they came; then comes the
    feed-forward. All streams start as ``x_m = [cls_m; W_m h_m + p(t)]``, and ``f = LN(cls)`` of the
    main one after the last layer. ``main`` names the main modality, the text in the paper; if it is
    empty, the first by name. An absent main modality leaves its CLS token to read the others.

    Before that the streams are aligned: ``losses["align"] = -align/2 (log p_ab,ii + log p_ba,ii)``
    for example i, averaged over the others b of the main modality a. ``p_ab,ij`` is the softmax
    over the examples j of the batch of ``u_ai . u_bj / tau``, with ``u_m`` the normalised
    projection of the masked mean of ``W_m h_m + p(t)``, and ``tau`` is trained from 0.07. Examples
    without a or b take no part. At ``align = 0`` there is none of this.

    Differs from the paper: no momentum encoder, so negatives are those of the batch (of one device)
    and the targets are hard; no matching and no masked-language loss; pre-norm; masked means for
    the loss in place of CLS tokens. More than two modalities: the main stream attends to the tokens
    of all the others together. With one modality it is a transformer with a CLS token.

    Limits: sees time and products with the main modality, so both; two other modalities meet only
    through the main stream's tokens.

    Cost: with Q main tokens of N in all, O(layers (Q N features + Q features (features + hidden)))
    time and O(layers Q (N heads + features + hidden)) memory per example.

    Shapes: ``{m: [B, T_m, S_m, D_m]} -> [B, 1, 1, features]``; weights of the last layer, of the
    main CLS token: ``main<-n``, ``[B, H, 1, T_n S_n]``; losses ``{"align": [B]}``.

    Raises:
      InputError: ``features`` is not a multiple of ``heads``; no modality is called ``main``.
    """

    needs_time: ClassVar[bool] = True

    features: int
    main: str = ""
    heads: int = 4
    layers: int = 1
    hidden: int = 0
    dropout: float = 0.0
    align: float = 0.1

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        main = chosen("main", self.main, names(tokens))
        xs, mask, present = with_cls(self, tokens, masks, self.features)
        losses = {}
        if len(xs) > 1 and self.align and (train or self.is_initializing()):
            vectors = {m: masked_mean(xs[m][:, 1:], mask[m][:, 1:]) for m in xs}
            losses["align"] = self.align * Contrast(self.features, name="align")(
                vectors, present, main
            )
        x, weights = self._encoded(xs, mask, main, train=train)
        f = nn.LayerNorm(dtype=x.dtype, name=f"norm_{main}")(x[:, 0])
        fused = one_token(f, any_present(present), without_cls(weights))
        return fused.replace(losses=losses if train else {})

    def _encoded(
        self, xs: dict[str, Array], mask: dict[str, Array], main: str, *, train: bool
    ) -> tuple[Array, dict[str, Array]]:
        """The main stream after all layers, and what its CLS token attended to in the last."""
        x, own = xs[main], mask[main]
        maps: dict[str, Array] = {}
        for layer in range(self.layers):
            block = TransformerBlock(
                self.heads, hidden=self.hidden, dropout=self.dropout, name=f"{main}_{layer}"
            )
            if len(xs) == 1:
                x, a = block(x, own, train=train)
            else:
                attention = AttentionSublayer(self.heads, self.dropout, name=f"self_{layer}")
                x, a = attention(x, own, x, train=train)
                rest, keys, sizes = others(xs, mask, main)
                x, crossed = block(x, keys, rest, train=train)
                maps = split_maps(crossed[:, :, :1], main, sizes)
            maps[f"{main}<-{main}"] = a[:, :, :1]
        return x, maps


class Contrast(nn.Module):
    """The contrastive loss between one modality and the others, within the batch; see ``ALBEF``."""

    features: int

    @nn.compact
    def __call__(self, vectors: dict[str, Array], present: dict[str, Array], main: str) -> Array:
        """``{m: [B, D]}, {m: [B]} -> [B]``, zero where there is no pair."""
        start = nn.initializers.constant(-math.log(0.07))
        # In float32 throughout: at a small temperature the logits are large.
        inverse = jnp.exp(self.param("log_inverse_temperature", start, ()).astype(jnp.float32))
        u = {m: unit(dense(self.features, x, m)(x)) for m, x in vectors.items()}
        losses = [
            paired_contrast(inverse * u[main] @ u[m].T, present[main] & present[m])
            for m in u
            if m != main
        ]
        return sum(losses) / len(losses)


def unit(x: Array) -> Array:
    """Rows of length one, in float32; the small number keeps the gradient of a zero row finite."""
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.sum(x**2, axis=-1, keepdims=True) + 1e-12)


def paired_contrast(logits: Array, pair: Array) -> Array:
    """``[B, B], [B] -> [B]``: cross-entropy of the diagonal in rows and columns, over the pairs."""
    both = pair[:, None] & pair[None]
    logits = jnp.where(both, logits, -jnp.inf)
    # An example without a pair has no finite logit: give it one, and drop its loss.
    logits = jnp.where(jnp.eye(len(pair), dtype=bool) & ~both, 0, logits)
    losses = [-jnp.diagonal(jax.nn.log_softmax(logits, axis=axis)) for axis in (0, 1)]
    return jnp.where(pair, sum(losses) / 2, 0)
