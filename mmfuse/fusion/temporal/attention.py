"""Attention over the steps of all modalities, with positions."""

from __future__ import annotations

import math
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


class CrossModal(nn.Module):
    """Directed cross-modal attention over time (MulT, Tsai et al. 2019, arXiv:1906.00295).

    With ``x_m = W_m h_m + p(t)`` (projected tokens plus the sinusoidal position of their step), for
    every target m and every other modality n that is present,
    ``u_mn = Block_mn(.. Block_mn(x_m, x_n) .., x_n)`` (``layers`` pre-norm blocks, queries from m,
    keys and values from n), ``y_m = Block_m(x_m + sum_n (u_mn - x_m))`` (self-attention), and
    ``f = mean over the present m of LN_m(masked mean of y_m)``. ``Block`` is ``TransformerBlock``.

    Differs from the paper: the updates from the other modalities are added, where MulT concatenates
    (its self-attention is then M - 1 times as wide); one self-attention layer; no causal mask and a
    masked mean instead of the last step; no convolution before; targets are averaged instead of
    concatenated and passed through an MLP; hidden layers are 2 times as wide as the features (4).

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

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        order = names(tokens)
        project = partial(with_positions, features=self.features)
        xs = {m: project(tokens[m], masks[m], name=f"project_{m}") for m in order}
        present = {m: jnp.any(mask, axis=1) for m, (_, mask) in xs.items()}
        vectors, weights = {}, {}
        for m in order:
            x, mask = xs[m]
            y = x
            for n in order:
                if n == m:
                    continue
                u, weights[f"{m}<-{n}"] = self._directed(
                    x, *xs[n], name=f"{m}_from_{n}", train=train
                )
                y = y + jnp.where(present[n][:, None, None], u - x, 0)
            block = TransformerBlock(self.heads, dropout=self.dropout, name=f"self_{m}")
            y, weights[f"{m}<-{m}"] = block(y, mask, train=train)
            vectors[m] = nn.LayerNorm(dtype=y.dtype, name=f"norm_{m}")(masked_mean(y, mask))
        return one_token(mean_over_present(vectors, present), any_present(present), weights)

    def _directed(
        self, x: Array, source: Array, mask: Array, *, name: str, train: bool
    ) -> tuple[Array, Array]:
        """``layers`` cross-attention blocks from ``source`` into ``x``, and the last one's map."""
        for layer in range(self.layers):
            block = TransformerBlock(self.heads, dropout=self.dropout, name=f"{name}_{layer}")
            x, weights = block(x, mask, source, train=train)
        return x, weights
