"""Attention over the steps of all modalities, with positions."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmfuse.attention import TransformerBlock, sinusoidal_positions
from mmfuse.fusion.base import (
    Fused,
    any_present,
    dense,
    flatten,
    masked_mean,
    mean_over_present,
    names,
    one_token,
)

Array = jax.Array
Streams = dict[str, Array]


def with_positions(x: Array, mask: Array, features: int, name: str) -> tuple[Array, Array]:
    """Projects tokens to ``features`` and adds the position of their time step, ``p(t)``.

    ``[B, T, S, D], [B, T, S] -> [B, T*S, features], [B, T*S]``. The positions belong to the fusion
    because encoders may be local in time and carry none. They are sinusoids with two changes from
    the usual ones: wavelengths up to ``2 pi 30`` steps instead of ``2 pi 10000``, for sequences of
    tens of steps, whose neighbours would otherwise look alike in most features; and a factor
    ``sqrt(2)``, which gives them unit variance, as projected tokens have. Without the first, a
    small model learns examples by heart before it learns to attend to the same time step.
    """
    y = dense(features, x, name)(x)
    positions = math.sqrt(2) * sinusoidal_positions(x.shape[1], features, base=30.0)
    y = y + jnp.asarray(positions, y.dtype)[None, :, None]
    return flatten(y), flatten(mask)


def positioned(
    tokens: Streams, masks: Streams, features: int
) -> tuple[Streams, Streams, dict[str, Array]]:
    """``with_positions`` of every modality: tokens ``[B, N_m, F]``, masks, and who is present."""
    both = {m: with_positions(tokens[m], masks[m], features, f"project_{m}") for m in names(tokens)}
    mask = {m: both[m][1] for m in both}
    return {m: both[m][0] for m in both}, mask, {m: jnp.any(mask[m], axis=1) for m in both}


def stack(
    block: Callable[..., TransformerBlock],
    x: Array,
    mask: Array,
    source: Array | None = None,
    *,
    layers: int,
    name: str,
    train: bool,
) -> tuple[Array, Array | None]:
    """``layers`` blocks named ``{name}_{layer}`` over ``x``, or from ``source`` into ``x``.

    Returns the tokens and the attention map of the last layer (None if there is no layer).
    """
    weights = None
    for layer in range(layers):
        x, weights = block(name=f"{name}_{layer}")(x, mask, source, train=train)
    return x, weights


def exchange(
    block: Callable[..., TransformerBlock],
    xs: Streams,
    mask: Streams,
    present: Streams,
    *,
    layers: int,
    train: bool,
) -> tuple[Streams, Streams]:
    """Every modality takes up what the others tell it, each by its own cross-attention.

    ``y_m = x_m + sum over the present n != m of (u_mn - x_m)``, where ``u_mn`` is ``stack`` from
    n's tokens into m's. Returns ``{m: y_m}`` and the maps ``m<-n``.
    """
    ys, weights = dict(xs), {}
    for m in names(xs):
        for n in (n for n in names(xs) if n != m):
            u, weights[f"{m}<-{n}"] = stack(
                block, xs[m], mask[n], xs[n], layers=layers, name=f"{m}_from_{n}", train=train
            )
            ys[m] = ys[m] + jnp.where(present[n][:, None, None], u - xs[m], 0)
    return ys, weights


def read(x: Array, mask: Array, name: str) -> Array:
    """``mean_i LN(x_i)`` over the tokens that count: ``[B, N, F] -> [B, F]``, zero over none."""
    return masked_mean(nn.LayerNorm(dtype=x.dtype, name=name)(x), mask)


class CrossModal(nn.Module):
    """Directed cross-modal attention, a light MulT (after Tsai et al. 2019, arXiv:1906.00295).

    ``f = mean over the present m of LN_m(mean_i Block_m(x_m + sum_n (u_mn - x_m))_i)``, with
    ``x_m = W_m h_m + p(t)`` (projected tokens plus the sinusoidal position of their step) and, for
    every other modality n that is present, ``u_mn = Block_mn(.. Block_mn(x_m, x_n) .., x_n)``
    (``layers`` pre-norm blocks, queries from m, keys and values from n). ``Block_m`` is
    self-attention; ``Block`` is ``TransformerBlock``.

    Differs from the paper, which is ``mult``: the updates from the other modalities are added,
    where MulT concatenates (its self-attention is then M - 1 times as wide); one self-attention
    layer; no causal mask and a masked mean instead of the last step; no convolution before; targets
    are averaged instead of concatenated and passed through an MLP; hidden layers are 2 times as
    wide as the features (4), or ``hidden``.

    Limits: sees time and products, so both what happens and when; each modality is queried token by
    token, so long sequences are costly.

    Cost: ``O(M F^2 sum N_m + F (sum N_m)^2)`` time and ``O(H (sum N_m)^2)`` memory an example and
    layer, ``N_m = T_m S_m``, ``F = features``.

    Shapes: ``{m: [B, T_m, S_m, D_m]} -> [B, 1, 1, features]``; weights ``m<-n`` of the last
    cross-attention layer and ``m<-m`` of the self-attention, ``[B, H, T_m S_m, T_n S_n]``.

    Raises:
      InputError: ``features`` is not a multiple of ``heads``.
    """

    needs_time: ClassVar[bool] = True

    features: int
    heads: int = 4
    layers: int = 1
    dropout: float = 0.0
    hidden: int = 0

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        xs, mask, present = positioned(tokens, masks, self.features)
        block = partial(TransformerBlock, self.heads, dropout=self.dropout, hidden=self.hidden)
        ys, weights = exchange(block, xs, mask, present, layers=self.layers, train=train)
        vectors = {}
        for m in ys:
            y, weights[f"{m}<-{m}"] = block(name=f"self_{m}")(ys[m], mask[m], train=train)
            vectors[m] = nn.LayerNorm(dtype=y.dtype, name=f"norm_{m}")(masked_mean(y, mask[m]))
        return one_token(mean_over_present(vectors, present), any_present(present), weights)
