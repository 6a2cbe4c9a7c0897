"""Attention, explicit: pure functions first, then thin modules that return their weights.

Axes: B batch, H heads, Q query tokens, N key tokens, K features per head, D value features.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmfuse.errors import InputError

Array = jax.Array


def attention_weights(q: Array, k: Array, mask: Array, *, scale: float | Array) -> Array:
    """``a_qn = softmax_n(scale * q_q . k_n)`` over the keys that the mask lets through.

    Args:
      q: ``[..., Q, K]``.
      k: ``[..., N, K]``.
      mask: bool, ``[..., N]`` (the same keys for every query) or ``[..., Q, N]``.
      scale: the factor in front of the dot product; a scalar.

    Returns:
      ``[..., Q, N]`` in the dtype of ``q``, computed in float32. A masked key weighs exactly zero,
      and a row without any key is exactly zero, as are its gradients.
    """
    logits = jnp.einsum("...qk,...nk->...qn", q, k, preferred_element_type=jnp.float32) * scale
    if mask.ndim == logits.ndim - 1:
        mask = mask[..., None, :]
    return jax.nn.softmax(logits, where=mask, axis=-1).astype(q.dtype)


def weighted_sum(weights: Array, v: Array) -> Array:
    """``s_q = sum_n a_qn v_n``: ``[..., Q, N], [..., N, D] -> [..., Q, D]``, summed in float32."""
    s = jnp.einsum("...qn,...nd->...qd", weights, v, preferred_element_type=jnp.float32)
    return s.astype(v.dtype)


def attend(
    q: Array, k: Array, v: Array, mask: Array, *, scale: float | Array
) -> tuple[Array, Array]:
    """Attention without parameters: ``s_q = sum_n softmax_n(scale * q_q . k_n) v_n``.

    Args:
      q: ``[B, Q, K]``; more leading axes (heads) are fine, the same in all arrays.
      k: ``[B, N, K]``.
      v: ``[B, N, D]``.
      mask: bool ``[B, N]`` or ``[B, Q, N]``.
      scale: the factor in front of the dot product.

    Returns:
      ``s [B, Q, D]`` and the weights ``[B, Q, N]``. Over no keys at all both are exactly zero.
    """
    weights = attention_weights(q, k, mask, scale=scale)
    return weighted_sum(weights, v), weights


def self_attention(h: Array, mask: Array, theta: float | Array) -> tuple[Array, Array]:
    """The article's self-attention, section 4.2.3, with one scalar ``theta`` and no projections.

    ``a_ij = exp(theta h_i . h_j) / sum_k exp(theta h_i . h_k)``, ``s_i = sum_j a_ij h_j``.
    At ``theta = 0`` every ``s_i`` is the masked mean of ``h``.

    Args:
      h: ``[B, N, D]``.
      mask: bool ``[B, N]``.
      theta: inverse temperature; a number or a traced scalar.

    Returns:
      ``s [B, N, D]`` and the weights ``a [B, N, N]``.
    """
    return attend(h, h, h, mask, scale=theta)


def cross_attention(q: Array, k: Array, mask: Array, theta: float | Array) -> tuple[Array, Array]:
    """The article's cross-attention, section 4.2.3: keys and values from elsewhere.

    ``a_ij = exp(theta q_i . k_j) / sum_n exp(theta q_i . k_n)``, ``s_i = sum_j a_ij k_j``, where
    ``k`` is another layer (in the article ``h^(l-1)``) or another modality.

    Args:
      q: ``[B, Q, D]``.
      k: ``[B, N, D]``, keys and values at once.
      mask: bool ``[B, N]``, of the keys.
      theta: inverse temperature; a number or a traced scalar.

    Returns:
      ``s [B, Q, D]`` and the weights ``a [B, Q, N]``.
    """
    return attend(q, k, k, mask, scale=theta)


def sinusoidal_positions(length: int, features: int, base: float = 10_000.0) -> np.ndarray:
    """``[length, features]`` float32: sine in even columns, cosine in odd ones.

    ``p[t, 2i] = sin(t / base^(2i / features))``, ``p[t, 2i+1] = cos(...)`` (Vaswani et al. 2017,
    arXiv:1706.03762, section 3.5). A constant: nothing here is trained.
    """
    rate = base ** (-2.0 * (np.arange(features) // 2) / features)
    angle = np.arange(length)[:, None] * rate[None, :]
    even = np.arange(features)[None, :] % 2 == 0
    return np.where(even, np.sin(angle), np.cos(angle)).astype(np.float32)


def split_heads(x: Array, heads: int) -> Array:
    """``[B, N, H * K] -> [B, H, N, K]``."""
    return x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads).swapaxes(-2, -3)


def merge_heads(x: Array) -> Array:
    """``[B, H, N, K] -> [B, N, H * K]``."""
    x = x.swapaxes(-2, -3)
    return x.reshape(*x.shape[:-2], x.shape[-2] * x.shape[-1])


class MultiHeadAttention(nn.Module):
    """Projected attention in ``heads`` subspaces (Vaswani et al. 2017, section 3.2.2).

    ``out = W_o [s^1; ..; s^H] + b_o``, ``s^h = attend(W_q^h q, W_k^h kv, W_v^h kv)`` at
    ``scale = 1 / sqrt(K)`` with ``K = features / heads``. Queries, keys and values carry no bias: a
    bias on the keys cancels in the softmax and would never be trained, and one on the values is the
    output's. ``dropout`` drops weights, as in the paper's code; the weights returned are undropped.

    Raises:
      InputError: ``features`` is not a multiple of ``heads``.
    """

    features: int
    heads: int
    dropout: float = 0.0

    @nn.compact
    def __call__(self, q: Array, kv: Array, mask: Array, *, train: bool) -> tuple[Array, Array]:
        """``q [B,Q,C], kv [B,N,C'], mask [B,N] or [B,Q,N] -> out [B,Q,features], [B,H,Q,N]``."""
        if self.heads < 1 or self.features % self.heads:
            raise InputError(
                f"attention: features={self.features} is not divisible by heads={self.heads}"
            )

        def split(x: Array, name: str) -> Array:
            y = nn.Dense(self.features, use_bias=False, dtype=q.dtype, name=name)(x)
            return split_heads(y, self.heads)

        query, key, value = split(q, "query"), split(kv, "key"), split(kv, "value")
        scale = (self.features // self.heads) ** -0.5
        weights = attention_weights(query, key, mask[:, None], scale=scale)
        dropped = nn.Dropout(self.dropout, deterministic=not train)(weights)
        s = merge_heads(weighted_sum(dropped, value))
        return nn.Dense(self.features, dtype=q.dtype, name="out")(s), weights


def mlp_branch(x: Array, hidden: int, drop: nn.Dropout) -> Array:
    """The second half of a block, ``x + W_2 gelu(W_1 LN(x))``, with the calling module's layers."""
    h = nn.LayerNorm(dtype=x.dtype, name="norm_mlp")(x)
    h = nn.gelu(nn.Dense(hidden, dtype=x.dtype, name="up")(h))
    return x + drop(nn.Dense(x.shape[-1], dtype=x.dtype, name="down")(h))


class TransformerBlock(nn.Module):
    """A pre-norm transformer block, self-attention or (with ``source``) cross-attention.

    ``y = x + MHA(LN(x), LN(source or x))``, ``out = y + W_2 gelu(W_1 LN(y))`` with ``hidden`` units
    between ``W_1`` and ``W_2``, or, where that is 0, ``widening`` times as many as features (Xiong
    et al. 2020, arXiv:2002.04745). The width is that of ``x``. ``dropout`` acts on the attention
    weights and on both residual branches.
    """

    heads: int
    widening: int = 2
    dropout: float = 0.0
    hidden: int = 0

    @nn.compact
    def __call__(
        self, x: Array, mask: Array, source: Array | None = None, *, train: bool
    ) -> tuple[Array, Array]:
        """``x [B,Q,D], mask [B,N] of the keys, source [B,N,D'] -> [B,Q,D], weights [B,H,Q,N]``."""
        features, dtype = x.shape[-1], x.dtype
        drop = nn.Dropout(self.dropout, deterministic=not train)
        q = nn.LayerNorm(dtype=dtype, name="norm_query")(x)
        kv = q if source is None else nn.LayerNorm(dtype=dtype, name="norm_source")(source)
        attention = MultiHeadAttention(features, self.heads, self.dropout, name="attention")
        s, weights = attention(q, kv, mask, train=train)
        return mlp_branch(x + drop(s), self.hidden or self.widening * features, drop), weights
