"""Cross-attention: queries from one modality, keys and values from others."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmfuse.attention import TransformerBlock
from mmfuse.errors import InputError
from mmfuse.fusion.base import Fused, any_present, dense, flatten, names, one_token
from mmfuse.fusion.temporal.attention import (
    Streams,
    exchange,
    positioned,
    read,
    stack,
    with_positions,
)
from mmfuse.fusion.temporal.transformers import gathered, joined, parted, read_each

Array = jax.Array


def others(xs: Streams, m: str) -> tuple[str, ...]:
    """The modalities that ``m`` attends to: all but itself, or itself where it is the only one."""
    return tuple(n for n in names(xs) if n != m) or (m,)


class CrossPairwise(nn.Module):
    """Cross-attention in pairs, co-attention (Xu et al. 2023, arXiv:2206.06488, section 3.3.2).

    ``f = relu(W [mean LN(u_12); mean LN(u_21); ..] + b), u_mn = Block_mn(.. Block_mn(x_m, x_n))``
    over the tokens of every ordered pair, ``x_m = W_m h_m + p(t)``: queries from m, keys and values
    the same ``x_n`` in all of the ``layers`` blocks; the norm is the pair's too. Where n is absent,
    ``u_mn`` is what m says alone; where m is, the pair's vector is zero. A single modality is
    paired with itself.

    Differs from the paper, where two streams exchange and go on as two: here each pair is pooled
    and all are concatenated, as in MultiBench++'s CrossAttentionFusion, with all ordered pairs of
    any number of modalities; the keys stay the first layer's, as in MulT.

    Limits: sees time and products of two modalities token by token; three meet only in the
    perceptron that W and the head form.

    Cost: ``O(L F sum_mn (N_m N_n + (N_m + N_n) F) + M^2 F^2)`` time and
    ``O(L H sum_mn N_m N_n)`` memory an example over the M (M - 1) pairs, ``N_m = T_m S_m``,
    ``L = layers``, ``F = features``.

    Shapes: ``{m: [B, T_m, S_m, D_m]} -> [B, 1, 1, features]``; weights ``m<-n`` of the last layer,
    ``[B, H, N_m, N_n]``.

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
        vectors, weights = {}, {}
        for m in xs:
            for n in others(xs, m):
                pair = f"{m}_from_{n}"
                u, weights[f"{m}<-{n}"] = stack(
                    block, xs[m], mask[n], xs[n], layers=self.layers, name=pair, train=train
                )
                vectors[pair] = read(u, mask[m], f"norm_{pair}")
        return one_token(nn.relu(joined(vectors, self.features)), any_present(present), weights)


class CrossConcat(nn.Module):
    """Cross-attention to all others at once (MultiBench++, arXiv:2511.06452, multi-modal form).

    ``f = relu(W [v_1; ..; v_M] + b), v_m = mean_i LN_m(Block_m(.. Block_m(x_m, c_m) .., c_m)_i)``
    with queries from m and keys and values from the concatenation of all other modalities,
    ``c_m = [x_n]_(n != m)``, ``x_m = W_m h_m + p(t)``; below, ``u_m`` is what the blocks return.
    One softmax runs over all of them, so that modalities compete for m's attention, where
    ``cross_pairwise`` gives each its own; with two modalities the two are the same. A single
    modality attends to itself.

    Differs from the paper: tokens instead of one vector a modality; whole transformer blocks, so
    that m's own tokens stay in ``u_m``.

    Limits: sees time and products, three modalities at a time from the second layer on (the first
    mixes what m attends to linearly, then multiplies it in its MLP).

    Cost: ``O(L F sum_m (N_m (N - N_m) + N F))`` time and ``O(L H sum_m N_m (N - N_m))`` memory an
    example, ``N_m = T_m S_m``, ``N = sum_m N_m``, ``L = layers``, ``F = features``.

    Shapes: ``{m: [B, T_m, S_m, D_m]} -> [B, 1, 1, features]``; weights ``m<-n`` of the last layer,
    ``[B, H, N_m, N_n]``.

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
        vectors, weights = {}, {}
        for m, x in xs.items():
            keys = {n: mask[n] for n in others(xs, m)}
            source, there = gathered({n: xs[n] for n in keys}, keys)
            u, a = stack(
                block, x, there, source, layers=self.layers, name=f"{m}_from_others", train=train
            )
            weights |= {f"{m}<-{n}": part for n, part in parted(a, keys, axis=3).items()}
            vectors[m] = read(u, mask[m], f"norm_{m}")
        return one_token(nn.relu(joined(vectors, self.features)), any_present(present), weights)


class CrossHierarchical(nn.Module):
    """Cross-attention to concatenation (Xu et al. 2023, arXiv:2206.06488, section 3.3.2).

    ``f = mean over the present m of mean_i LN(Block(.. Block([y_1; ..; y_M]) ..))_mi``,
    ``y_m = x_m + sum over the present n != m of (u_mn - x_m)``,
    ``u_mn = Block_mn(.. Block_mn(x_m, x_n) .., x_n)``, ``x_m = W_m h_m + p(t)``: first the pairs,
    by ``layers`` layers of cross-attention in each direction, then all tokens together, by as many
    layers of self-attention.

    Differs from the paper, which writes it for two modalities (ViLBERT's or LXMERT's streams, then
    one joint transformer): with more, what the pairs tell a modality is added up, as in
    ``crossmodal``, so that the joint sequence does not grow with the number of pairs.

    Limits: sees time and products, of two modalities in the first stage and of all in the second;
    pays for it with attention over all tokens.

    Cost: ``O(L F (N^2 + M N F))`` time, ``O(L H N^2)`` memory an example, ``N = sum_m T_m S_m``,
    ``L = layers``, ``F = features``.

    Shapes: ``{m: [B, T_m, S_m, D_m]} -> [B, 1, 1, features]``; weights ``m<-n`` of the last layer
    of the pairs ``[B, H, N_m, N_n]``, and ``joint<-n`` of the last joint layer ``[B, H, N, N_n]``.

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
        x, a = stack(block, *gathered(ys, mask), layers=self.layers, name="joint", train=train)
        weights |= {f"joint<-{n}": part for n, part in parted(a, mask, axis=3).items()}
        return one_token(read_each(x, mask, present), any_present(present), weights)


def convolved(x: Array, mask: Array, taps: int, features: int, name: str) -> tuple[Array, Array]:
    """A convolution over time as ``with_positions`` of shifted copies: ``[B, T*S, features]``.

    ``y_t = sum_j W_j x_(t+j) + b + p(t)`` with ``taps`` offsets j around 0 and zeros for masked
    steps; those further than the sequence is long are left out, as they would only see zeros.
    """
    x = jnp.where(mask[..., None], x, 0)
    length = x.shape[1]
    offsets = [j for j in range(-((taps - 1) // 2), taps // 2 + 1) if abs(j) < length]
    low, high = -offsets[0], offsets[-1]
    x = jnp.pad(x, ((0, 0), (low, high), (0, 0), (0, 0)))
    shifted = [x[:, low + j : low + j + length] for j in offsets]
    return with_positions(jnp.concatenate(shifted, axis=-1), mask, features, name)


def last_step(mask: Array) -> Array:
    """``[B, T, S] -> [B, T*S]``: True for the tokens of the last step that has any."""
    steps = jnp.any(mask, axis=2)
    count = jnp.cumsum(steps[:, ::-1], axis=1)[:, ::-1]
    return flatten(mask & (steps & (count == 1))[..., None])


def residual_head(h: Array, features: int, drop: nn.Dropout) -> Array:
    """``W_3 (h + W_2 relu(W_1 h + b_1) + b_2) + b_3``: MulT's last layers, ``[B, features]``."""
    inner = drop(nn.relu(dense(h.shape[-1], h, "head_1")(h)))
    return dense(features, h, "out")(h + dense(h.shape[-1], h, "head_2")(inner))


POOLS = ("last", "mean")


class MulT(nn.Module):
    """Multimodal transformer (MulT, Tsai et al. 2019, arXiv:1906.00295).

    ``v_m = LN_m(Block_m(.. Block_m([u_mn]_(n != m)))), u_mn = Block_mn(.. Block_mn(x_m, x_n))``
    with queries from m, keys and values the same ``x_n`` in all of the ``layers`` crossmodal
    blocks, ``x_m = Conv1D_m(h_m) + p(t)``; ``v_m`` is read at the last step, and
    ``f = W_3 (h + W_2 relu(W_1 h + b_1) + b_2) + b_3``, ``h = [v_1; ..; v_M]``. The crossmodal
    streams of a target are concatenated, so that its self-attention is ``(M - 1) features`` wide,
    and ``h`` has ``M (M - 1) features``. ``pool`` is "last" (as in the paper) or "mean", the masked
    mean over the tokens, which other code uses.

    Differs from the paper: the blocks are pre-norm as in the authors' code, where the paper's
    equation 5 also normalises what the residual carries; no causal mask, which is in their code and
    not in the paper; as many self-attention as crossmodal layers (theirs has at least 3); hidden
    layers 2 times as wide as the block (4), or ``hidden``; tokens of the last step are averaged
    over space, and an absent target is a block of zeros; the last layer is the head's. A single
    modality attends to itself.

    Limits: sees time and products, of two modalities in the crossmodal layers and of all in the
    self-attention; pays for it with M (M - 1) stacks of blocks.

    Cost: ``O(L F sum_mn (N_m N_n + N_m F) + L M^2 F^2 N + M^4 F^2)`` time and
    ``O(L H sum_mn N_m N_n)`` memory an example over all pairs, ``N_m = T_m S_m``,
    ``N = sum_m N_m``, ``L = layers``, ``F = features``.

    Shapes: ``{m: [B, T_m, S_m, D_m]} -> [B, 1, 1, features]``; weights ``m<-n`` of the last
    crossmodal layer and ``m<-m`` of the self-attention, ``[B, H, N_m, N_n]``.

    Raises:
      InputError: ``features`` is not a multiple of ``heads``; ``pool`` is neither of the two;
        ``kernel`` is less than 1.
    """

    needs_time: ClassVar[bool] = True

    features: int
    heads: int = 4
    layers: int = 1
    kernel: int = 3
    pool: str = "last"
    dropout: float = 0.0
    hidden: int = 0

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        self._check()
        xs, mask = {}, {}
        for m in names(tokens):
            taps = (self.kernel, self.features, f"project_{m}")
            xs[m], mask[m] = convolved(tokens[m], masks[m], *taps)
        block = partial(TransformerBlock, self.heads, dropout=self.dropout, hidden=self.hidden)
        run = partial(stack, block, layers=self.layers, train=train)
        vectors, weights = [], {}
        for m, x in xs.items():
            streams = []
            for n in others(xs, m):
                u, weights[f"{m}<-{n}"] = run(x, mask[n], xs[n], name=f"{m}_from_{n}")
                streams.append(u)
            y, weights[f"{m}<-{m}"] = run(
                jnp.concatenate(streams, axis=-1), mask[m], name=f"self_{m}"
            )
            kept = last_step(masks[m]) if self.pool == "last" else mask[m]
            vectors.append(read(y, kept, f"norm_{m}"))
        drop = nn.Dropout(self.dropout, deterministic=not train)
        f = residual_head(jnp.concatenate(vectors, axis=-1), self.features, drop)
        present = {m: jnp.any(mask[m], axis=1) for m in mask}
        return one_token(f, any_present(present), weights)

    def _check(self) -> None:
        if self.pool not in POOLS:
            raise InputError(f"mult: pool='{self.pool}'; allowed: {', '.join(POOLS)}")
        if self.kernel < 1:
            raise InputError(f"mult: kernel={self.kernel} must be at least 1")
