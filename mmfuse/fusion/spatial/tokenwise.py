"""Gates and shifts on tokens: those of one modality are changed by what the others say."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmfuse.attention import attend
from mmfuse.errors import InputError
from mmfuse.fusion.base import Fused, dense, flatten, names
from mmfuse.fusion.spatial.gated import chosen
from mmfuse.fusion.spatial.simple import norm
from mmfuse.fusion.temporal.alignment import Steps, align, own_steps
from mmfuse.fusion.temporal.resampling import pool_steps

Array = jax.Array


class NLGate(nn.Module):
    """Non-local gate (Wang et al. 2020, arXiv:1905.12681, appendix; the block of arXiv:1711.07971).

    ``y_i = x_i + W_o sum_j softmax_j(W_q x_i . K_j / sqrt(width)) V_j``, ``x_i = W h_i + b`` for
    the tokens of one modality, the field ``query`` (empty: the alphabetically first), with keys
    ``K_j = W_k^n h_nj`` and values ``V_j = W_v^n h_nj`` of ``width`` from the tokens of all other
    modalities n, under one softmax. No map but W has a bias, so that without any other modality
    ``y = x``. The fused tokens are the query's, with its mask; an example without it has none.

    Differs from the papers: scaled logits; ``W_o`` does not start at zero, which is for inserting
    the block into a trained network; the first has two modalities, a picture's tokens asking.

    Limits: pairs tokens by content, not by time; modalities meet only in the choice among tokens,
    so that with a single token on the other side it is a sum.

    Cost: O(Q N width + (Q + N) width (D + features)) time, O(Q N) memory per example, for Q tokens
    of the query and N of the others.

    Shapes: ``{m: [B, T_m, S_m, D_m]} -> [B, T, S, features]`` with T, S of the query; weights
    ``query<-n``, ``[B, T S, T_n S_n]``.

    Raises:
      InputError: the batch has no modality ``query``.
    """

    features: int
    width: int
    query: str = ""

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        del train
        order = names(tokens)
        m = chosen("query", self.query, order)
        x, weights = dense(self.features, tokens[m], "project")(_kept(tokens[m], masks[m])), {}
        others = [n for n in order if n != m]
        if others:
            sources = {n: flatten(_kept(tokens[n], masks[n])) for n in others}
            keys = [_linear(self.width, s, f"key_{n}") for n, s in sources.items()]
            values = [_linear(self.width, s, f"value_{n}") for n, s in sources.items()]
            s, a = attend(
                _linear(self.width, flatten(x), "query"),
                jnp.concatenate(keys, axis=1),
                jnp.concatenate(values, axis=1),
                jnp.concatenate([flatten(masks[n]) for n in others], axis=1),
                scale=self.width**-0.5,
            )
            x = x + _linear(self.features, s, "out").reshape(x.shape)
            ends = np.cumsum([key.shape[1] for key in keys])
            parts = jnp.split(a, ends[:-1], axis=-1)
            weights = {f"{m}<-{n}": part for n, part in zip(others, parts, strict=True)}
        return Fused(x, masks[m], weights)


class MAG(nn.Module):
    """Multimodal adaptation gate (Rahman et al. 2020, arXiv:1908.05787).

    ``y_i = LN(z_i + a_i H_i), H_i = sum_n g_in * (W_n v_in) + b``,
    ``g_in = relu(G_n [z_i; v_in] + c_n)``, ``a_i = min(beta |z_i| / |H_i|, 1)``, where
    ``z_i = W h_i + u`` are the tokens of the field ``main`` (empty: "text" if there is one, else
    the alphabetically first) and ``v_in`` is the mean of modality n at the time step of i. The
    shift is thus never longer than ``beta`` times what it shifts. A modality with fewer steps than
    the main one is held (``align``); one with more is averaged over each of the main's steps
    (``pool_steps``), as the paper averages over each word. A step without any other modality is
    not shifted.

    The fused tokens are the main modality's, with its mask; an example without it has none.

    Differs from the paper: the main tokens are projected to ``features`` instead of being a
    language model's, whose later layers then follow; any number of other modalities; ``beta`` and
    ``dropout`` default to 1 and 0.

    Limits: sees products of the main modality with each other at the same time step, so both
    products and timing; products of two others only through the common cap and the norm.

    Cost: O(M N features^2 + features sum_n T_n S_n D_n) time, O(M N features) memory per example,
    for N main tokens.

    Shapes: ``{m: [B, T_m, S_m, D_m]} -> [B, T, S, features]`` with T, S of the main modality;
    weights ``{n: [B, T, S, features]}`` are the gates, for all but the main.

    Raises:
      InputError: the batch has no modality ``main``, or ``beta`` is negative.
    """

    features: int
    main: str = ""
    beta: float = 1.0
    dropout: float = 0.0

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        if self.beta < 0:
            raise InputError(f"fusion.beta={self.beta} must not be negative")
        order = names(tokens)
        m = chosen("main", self.main, order, default="text")
        z = dense(self.features, tokens[m], "project")(_kept(tokens[m], masks[m]))
        shift, anyone, gates = 0, False, {}
        for n in (n for n in order if n != m):
            v, there = per_step(tokens[n], masks[n], z.shape[1])
            v, there = v[:, :, None], there[:, :, None, None]
            gate = dense(self.features, z, f"gate_{n}")(z) + _linear(self.features, v, f"by_{n}")
            gates[n] = jnp.where(there, nn.relu(gate), 0)
            shift = shift + gates[n] * _linear(self.features, v, f"value_{n}")
            anyone = anyone | there
        if gates:
            bias = self.param("bias", nn.initializers.zeros, (self.features,)).astype(z.dtype)
            z = z + _capped(jnp.where(anyone, shift + bias[None, None, None], 0), z, self.beta)
        y = nn.LayerNorm(dtype=z.dtype, name="norm")(z)
        y = nn.Dropout(self.dropout, deterministic=not train)(y)
        return Fused(y, masks[m], gates)


def per_step(x: Array, mask: Array, length: int) -> Steps:
    """A modality's steps on a time axis of ``length``: ``[B, length, D]`` and where it has any.

    Where it has more steps, each is the masked mean of those that fall into it (``pool_steps``);
    where it has fewer, they are held (``align``).
    """
    steps, there = own_steps(x, mask)
    if x.shape[1] > length:
        return pool_steps(steps, there, length)
    return align(steps, length), align(there, length)


def _capped(shift: Array, z: Array, beta: float) -> Array:
    """``min(beta |z| / |shift|, 1) shift``: no longer than ``beta |z|``, over the last axis."""
    length, allowed = norm(shift), beta * norm(z)
    over = length > allowed
    alpha = jnp.where(over, allowed / jnp.where(over, length, 1), 1)
    return (alpha * shift).astype(z.dtype)


def _kept(x: Array, mask: Array) -> Array:
    """Masked tokens as zeros, so that not even a NaN there reaches a gradient."""
    return jnp.where(mask[..., None], x, 0)


def _linear(features: int, x: Array, name: str) -> Array:
    """``W x``, a layer of the module that is being called; no bias."""
    return nn.Dense(features, use_bias=False, dtype=x.dtype, name=name)(x)
