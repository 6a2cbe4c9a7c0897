"""Streams that attend to one another, layer by layer: ViLBERT and LXMERT."""

from __future__ import annotations

import itertools
from functools import partial
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmfuse.attention import MultiHeadAttention, TransformerBlock
from mmfuse.fusion.base import Fused, any_present, mean_over_present, one_token
from mmfuse.fusion.temporal.attention import positioned

Array = jax.Array


class ViLBERT(nn.Module):
    """Co-attentional transformer layers (ViLBERT, Lu et al. 2019, arXiv:1908.02265).

    ``y_m = CoTRM_m(x_m, [x_n, n != m]), x_m' = TRM_m(y_m)``: one layer of stream m. It starts from
    ``x_m = [cls_m; W_m h_m + p(t)]`` (a learned token, then the projected tokens plus the position
    of their step), the co-attention block has queries from m and keys and values from the other
    streams as they were before the layer, all streams at once, and the transformer block attends
    within the stream. Both are a whole ``TransformerBlock``. ``f = mean over the present m of
    LN_m(cls_m)`` after the last layer.

    With more than two modalities, which the paper has not, a stream attends to the tokens of all
    the others together, so that they compete in one softmax; with one there is no co-attention and
    it is a plain transformer.

    Differs from the paper: blocks are pre-norm; one width for all streams; no transformer layers in
    one stream before the other joins (the encoders stand there); the streams are averaged, where
    the paper multiplies its two, a product that vanishes or grows with more of them.

    Limits: sees time and products across modalities, so both; the order of two steps only as far as
    positions tell them apart.

    Cost: with N tokens in all, O(layers (N^2 features + N features (features + hidden))) time and
    O(layers N (N heads + features + hidden)) memory per example.

    Shapes: ``{m: [B, T_m, S_m, D_m]} -> [B, 1, 1, features]``; weights of the last layer, ``m<-n``
    from its co-attention and ``m<-m`` from its transformer block, ``[B, H, 1 + T_m S_m, T_n S_n]``
    with the queries of ``cls_m`` first and what goes to ``cls_n`` left out.

    Raises:
      InputError: ``features`` is not a multiple of ``heads``.
    """

    needs_time: ClassVar[bool] = True

    features: int
    heads: int = 4
    layers: int = 1
    hidden: int = 0
    dropout: float = 0.0

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        xs, mask, present = with_cls(self, tokens, masks, self.features)
        block = partial(TransformerBlock, self.heads, hidden=self.hidden, dropout=self.dropout)
        weights: dict[str, Array] = {}
        for layer in range(self.layers):
            if len(xs) > 1:
                crossed = {}
                for m, x in xs.items():
                    rest, keys, sizes = others(xs, mask, m)
                    co = block(name=f"{m}_co_{layer}")
                    crossed[m], a = co(x, keys, rest, train=train)
                    weights |= split_maps(a, m, sizes)
                xs = crossed
            for m, x in xs.items():
                trm = block(name=f"{m}_{layer}")
                xs[m], weights[f"{m}<-{m}"] = trm(x, mask[m], train=train)
        return averaged(xs, present, weights)


class LXMERT(nn.Module):
    """Cross-modality layers (LXMERT, Tan and Bansal 2019, arXiv:1908.07490).

    ``c_m = x_m + Cross(x_m, [x_n, n != m]), x_m' = FF_m(SA_m(c_m))``: one layer of stream m, with
    ``x_m = [cls_m; W_m h_m + p(t)]`` before the first. ``Cross`` is multi-head attention only, from
    queries of m to the other streams as they were before the layer; ``SA`` (attention within the
    stream) and ``FF`` (two layers, gelu) are the two halves of a ``TransformerBlock``, so the order
    is cross, self, feed-forward. ``f = mean over the present m of LN_m(cls_m)`` after the last.

    ``shared=True`` is the authors' code: one ``Cross`` a layer for all directions. The paper writes
    one symbol per direction; ``shared=False`` gives every stream its own. The authors found
    sharing slightly better (issue 69 of their repository). With more than two modalities a stream
    attends to the tokens of all the others together; with one it is a plain transformer.

    Differs from the paper: pre-norm, and ``Cross`` normalises all streams with one LayerNorm; no
    single-modality layers before (the encoders stand there); a CLS token in every stream and their
    mean, where the paper has one, in the language stream.

    Limits: sees time and products across modalities, so both; with shared weights all directions
    ask in the same way, and differ only in what the streams hold.

    Cost: with N tokens in all, O(layers (N^2 features + N features (features + hidden))) time and
    O(layers N (N heads + features + hidden)) memory per example.

    Shapes: ``{m: [B, T_m, S_m, D_m]} -> [B, 1, 1, features]``; weights of the last layer, ``m<-n``
    from its cross-attention and ``m<-m`` within the stream, ``[B, H, 1 + T_m S_m, T_n S_n]`` with
    the queries of ``cls_m`` first and what goes to ``cls_n`` left out.

    Raises:
      InputError: ``features`` is not a multiple of ``heads``.
    """

    needs_time: ClassVar[bool] = True

    features: int
    heads: int = 4
    layers: int = 1
    hidden: int = 0
    dropout: float = 0.0
    shared: bool = True

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        xs, mask, present = with_cls(self, tokens, masks, self.features)
        block = partial(TransformerBlock, self.heads, hidden=self.hidden, dropout=self.dropout)
        weights: dict[str, Array] = {}
        for layer in range(self.layers):
            if len(xs) > 1:
                xs, maps = self._crossed(xs, mask, layer, train=train)
                weights |= maps
            for m, x in xs.items():
                own = block(name=f"{m}_{layer}")
                xs[m], weights[f"{m}<-{m}"] = own(x, mask[m], train=train)
        return averaged(xs, present, weights)

    def _crossed(
        self, xs: dict[str, Array], mask: dict[str, Array], layer: int, *, train: bool
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """All streams after the cross-attention of a layer, and its maps."""
        label = {m: f"cross_{layer}" if self.shared else f"{m}_cross_{layer}" for m in xs}
        cross = {
            name: AttentionSublayer(self.heads, self.dropout, name=name)
            for name in sorted({*label.values()})
        }
        crossed, maps = {}, {}
        for m, x in xs.items():
            rest, keys, sizes = others(xs, mask, m)
            crossed[m], a = cross[label[m]](x, keys, rest, train=train)
            maps |= split_maps(a, m, sizes)
        return crossed, maps


class AttentionSublayer(nn.Module):
    """Pre-norm attention with a residual and no feed-forward: ``x + MHA(LN(x), LN(source))``.

    One LayerNorm serves both, so that with ``source = x`` it is self-attention.
    """

    heads: int
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: Array, mask: Array, source: Array, *, train: bool) -> tuple[Array, Array]:
        """``x [B,Q,D], mask [B,N] of the keys, source [B,N,D] -> [B,Q,D], weights [B,H,Q,N]``."""
        norm = nn.LayerNorm(dtype=x.dtype, name="norm")
        attention = MultiHeadAttention(x.shape[-1], self.heads, self.dropout, name="attention")
        s, weights = attention(norm(x), norm(source), mask, train=train)
        return x + nn.Dropout(self.dropout, deterministic=not train)(s), weights


def with_cls(
    module: nn.Module, tokens: dict[str, Array], masks: dict[str, Array], features: int
) -> tuple[dict[str, Array], dict[str, Array], dict[str, Array]]:
    """``positioned`` streams ``[cls_m; x_m]``, their masks, and who is present.

    A learned first token gives every stream one vector to be read, and a second key to a stream of
    a single token: a softmax over one key would leave its queries and keys untrained. Where the
    modality is absent, so is its first token.
    """
    xs, mask, present = positioned(tokens, masks, features)
    for m, x in xs.items():
        cls = module.param(f"cls_{m}", nn.initializers.normal(0.02), (features,)).astype(x.dtype)
        first = jnp.broadcast_to(cls[None, None], (len(x), 1, features))
        xs[m] = jnp.concatenate([first, x], axis=1)
        mask[m] = jnp.concatenate([present[m][:, None], mask[m]], axis=1)
    return xs, mask, present


def others(
    xs: dict[str, Array], mask: dict[str, Array], m: str
) -> tuple[Array, Array, dict[str, int]]:
    """The tokens of all streams but ``m`` in one array, their mask, and how many each has."""
    rest = [n for n in xs if n != m]
    source = jnp.concatenate([xs[n] for n in rest], axis=1)
    keys = jnp.concatenate([mask[n] for n in rest], axis=1)
    return source, keys, {n: xs[n].shape[1] for n in rest}


def split_maps(weights: Array, query: str, sizes: dict[str, int]) -> dict[str, Array]:
    """Weights ``[.., N]`` over several modalities' tokens in a row, as one map a modality."""
    ends = list(itertools.accumulate(sizes.values()))
    parts = jnp.split(weights, ends[:-1], axis=-1)
    return {f"{query}<-{n}": part for n, part in zip(sizes, parts, strict=True)}


def averaged(xs: dict[str, Array], present: dict[str, Array], weights: dict[str, Array]) -> Fused:
    """The mean over the present streams of their normalised first tokens."""
    vectors = {m: nn.LayerNorm(dtype=x.dtype, name=f"norm_{m}")(x[:, 0]) for m, x in xs.items()}
    f = mean_over_present(vectors, present)
    return one_token(f, any_present(present), without_cls(weights))


def without_cls(weights: dict[str, Array]) -> dict[str, Array]:
    """The maps without what goes to the first tokens, over the modalities' own tokens only."""
    return {name: a[..., 1:] for name, a in weights.items()}
