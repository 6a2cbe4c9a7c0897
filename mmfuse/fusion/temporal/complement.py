"""Streams in pairs that complement each other through gates, and are kept apart."""

from __future__ import annotations

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmfuse.attention import MultiHeadAttention, mlp_branch
from mmfuse.errors import InputError
from mmfuse.fusion.base import Fused, any_present, dense, flatten, masked_mean, names, one_token
from mmfuse.fusion.temporal.alignment import own_steps
from mmfuse.fusion.temporal.attention import positioned, read
from mmfuse.fusion.temporal.cross import others, residual_head
from mmfuse.fusion.temporal.guided import leader
from mmfuse.fusion.temporal.recurrent import both_ways

Array = jax.Array
Pair = tuple[Array, Array]


class GatedBlock(nn.Module):
    """A cross-attention block whose residual and whose update are gated.

    ``y = r * x + c * MHA(LN(x), LN(source))``, ``out = y + W_2 gelu(W_1 LN(y))``, with the retain
    gate ``r`` and the compound gate ``c``, both of the form ``sigmoid(W control + b)``. ``hidden``
    is the width between ``W_1`` and ``W_2`` (0: twice the features).
    """

    heads: int
    dropout: float = 0.0
    hidden: int = 0

    @nn.compact
    def __call__(
        self, x: Array, mask: Array, source: Array, control: Array, *, train: bool
    ) -> tuple[Array, Array]:
        """``x [B,Q,F], mask [B,N], source [B,N,F], control [B,C] -> [B,Q,F], [B,H,Q,N]``."""
        features, dtype = x.shape[-1], x.dtype
        drop = nn.Dropout(self.dropout, deterministic=not train)
        retain = nn.sigmoid(dense(features, x, "retain")(control))[:, None]
        compound = nn.sigmoid(dense(features, x, "compound")(control))[:, None]
        q = nn.LayerNorm(dtype=dtype, name="norm_query")(x)
        kv = nn.LayerNorm(dtype=dtype, name="norm_source")(source)
        attention = MultiHeadAttention(features, self.heads, self.dropout, name="attention")
        s, weights = attention(q, kv, mask, train=train)
        y = retain * x + compound * drop(s)
        return mlp_branch(y, self.hidden or 2 * features, drop), weights


class Complementation(nn.Module):
    """A layer of ``BBFN``: two streams, each read by the other through gates that see both.

    With ``separate`` it also returns how badly a discriminator tells the streams apart.
    """

    heads: int
    dropout: float = 0.0
    hidden: int = 0
    separate: bool = True

    @nn.compact
    def __call__(self, x: Pair, masks: Pair, *, train: bool) -> tuple[Pair, Pair, Array | None]:
        """``([B,N,F], [B,N',F]), ([B,T,S], [B,T',S']) -> streams, their maps, error [B]``."""
        g = tuple(map(self._over_time, x, masks, ("main", "other")))
        control = jnp.concatenate(g, axis=-1)
        flat = [flatten(mask) for mask in masks]
        both = []
        for i, name in enumerate(("block_main", "block_other")):
            block = GatedBlock(self.heads, self.dropout, self.hidden, name=name)
            both.append(block(x[i], flat[1 - i], x[1 - i], control, train=train))
        streams, maps = zip(*both, strict=True)
        return streams, maps, self._confusion(g, flat) if self.separate else None

    def _over_time(self, x: Array, mask: Array, name: str) -> Array:
        """The mean over the steps, and both directions, of a recurrence: ``[B, F]``."""
        steps, there = own_steps(x.reshape(*mask.shape, x.shape[-1]), mask)
        z = masked_mean(both_ways(x.shape[-1], steps, there, f"context_{name}"), there)
        return sum(jnp.split(z, 2, axis=-1)) / 2

    def _confusion(self, g: Pair, flat: list[Array]) -> Array:
        """The discriminator's cross-entropy, the main stream being 0 and the other 1: ``[B]``."""
        hidden = dense(self.hidden or 2 * g[0].shape[-1], g[0], "discriminate_hidden")
        out = dense(1, g[0], "discriminate_out")
        main, other = (out(nn.relu(hidden(x)))[:, 0] for x in g)
        errors = jnp.stack([jax.nn.softplus(main), jax.nn.softplus(-other)])
        there = jnp.stack([jnp.any(mask, axis=1) for mask in flat])
        return jnp.sum(jnp.where(there, errors, 0), axis=0).astype(jnp.float32) / 2


class BBFN(nn.Module):
    """Bi-bimodal fusion network (BBFN, Han et al. 2021, arXiv:2107.13669).

    ``y = r * x_mn + c * MHA(LN(x_mn), LN(x_nm)), r = sigmoid(W_r [g_mn; g_nm] + b_r)``: the main
    modality m is in a pair with every other n. A complementation layer takes both streams of a pair
    at once, ``x_mn' = y + W_5 gelu(W_4 LN(y))``, where ``r`` says how much is retained and ``c``,
    of the same form, how much of the other modality is let in; ``g_mn`` is the mean over time of a
    bidirectional recurrence over ``x_mn`` (a layer with tanh where there is no time axis). All
    streams of m start at ``x_m = W_m h_m + p(t)``. After ``layers`` of them
    ``v_mn = mean_i LN_mn(x_mn,i)`` is read, and
    ``f = W_3 (h + W_2 relu(W_1 h + b_1) + b_2) + b_3``, ``h = [v_mn; v_nm]_(n != m)``.

    The separator keeps the two streams of a pair from becoming the same: on every layer a
    discriminator ``d(g) = w . relu(V g + a) + b`` tells them apart, and its cross-entropy,
    ``log(1 + exp(d(g_mn))) / 2 + log(1 + exp(-d(g_nm))) / 2``, is lowered by discriminator and
    streams alike. ``losses["separation"]`` is ``separation`` times its mean over pairs and layers,
    in which an absent modality has no part; 0 leaves the discriminators out. ``main`` is "text" by
    default, or the first modality where there is no text. A single one is paired with itself.

    Differs from the paper: LSTMs in place of GRUs; pre-norm, and gates that see both streams, as in
    the authors' code; means over tokens are read instead of the first token, a [CLS] there; any
    number of pairs; the last layer is the head's.

    Limits: sees time and products of the main and one other modality token by token; the others
    meet each other only in the head.

    Cost: ``O(L sum_n (N_m N_n F + (N_m + N_n) F^2) + M^2 F^2)`` time and
    ``O(L H sum_n N_m N_n)`` memory an example, and ``4 L`` recurrences over time a pair;
    ``N_m = T_m S_m``, ``L = layers``, ``F = features``.

    Shapes: ``{m: [B, T_m, S_m, D_m]} -> [B, 1, 1, features]``; weights ``m<-n`` and ``n<-m`` of the
    last layer, ``[B, H, N_m, N_n]``.

    Raises:
      InputError: ``features`` is not a multiple of ``heads``; ``main`` is not a modality;
        ``separation`` is negative.
    """

    needs_time: ClassVar[bool] = True

    features: int
    heads: int = 4
    layers: int = 1
    main: str = ""
    separation: float = 0.1
    dropout: float = 0.0
    hidden: int = 0

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        if self.separation < 0:
            raise InputError(f"bbfn: separation={self.separation} must not be negative")
        m = leader("bbfn", self.main, names(tokens))
        xs, mask, present = positioned(tokens, masks, self.features)
        vectors, weights, errors = [], {}, []
        for n in others(xs, m):
            streams, maps = (xs[m], xs[n]), ()
            for layer in range(self.layers):
                complement = Complementation(
                    self.heads, self.dropout, self.hidden, self.separation > 0, name=f"{n}_{layer}"
                )
                streams, maps, error = complement(streams, (masks[m], masks[n]), train=train)
                errors.append(error)
            vectors.append(read(streams[0], mask[m], f"norm_main_{n}"))
            vectors.append(read(streams[1], mask[n], f"norm_other_{n}"))
            weights |= {f"{m}<-{n}": maps[0], f"{n}<-{m}": maps[1]}
        drop = nn.Dropout(self.dropout, deterministic=not train)
        f = residual_head(jnp.concatenate(vectors, axis=-1), self.features, drop)
        fused = one_token(f, any_present(present), weights)
        if not train or self.separation == 0:
            return fused
        return fused.replace(losses={"separation": self.separation * sum(errors) / len(errors)})
