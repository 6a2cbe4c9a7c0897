"""Self-attention transformers: before, after, and in the middle of the fusion."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmfuse.attention import TransformerBlock
from mmfuse.errors import InputError
from mmfuse.fusion.base import (
    Fused,
    any_present,
    dense,
    masked_mean,
    mean_over_present,
    names,
    one_token,
)
from mmfuse.fusion.temporal.attention import Streams, positioned, read, stack, with_positions
from mmfuse.fusion.temporal.recurrent import early_steps

Array = jax.Array


def joined(vectors: Streams, features: int) -> Array:
    """``W [v_1; ..; v_K] + b``, the vectors in their alphabetical order: ``[B, features]``."""
    joint = jnp.concatenate([vectors[name] for name in names(vectors)], axis=-1)
    return dense(features, joint, "out")(joint)


def gathered(xs: Streams, mask: Streams) -> tuple[Array, Array]:
    """The tokens of all modalities in one sequence: ``[B, sum_m N_m, F], [B, sum_m N_m]``."""
    order = names(xs)
    parts = [[stream[m] for m in order] for stream in (xs, mask)]
    return jnp.concatenate(parts[0], axis=1), jnp.concatenate(parts[1], axis=1)


def parted(x: Array, like: Streams, axis: int = 1) -> Streams:
    """The inverse of ``gathered``: cuts ``axis`` of ``x`` into the lengths of ``like [B, N_m]``."""
    order = names(like)
    ends = [sum(like[m].shape[1] for m in order[: i + 1]) for i in range(len(order) - 1)]
    return dict(zip(order, jnp.split(x, ends, axis=axis), strict=True))


def parted_map(weights: Array, mask: Streams) -> Streams:
    """The maps ``m<-n`` in one map over the gathered tokens, ``[B, H, sum_m N_m, sum_m N_m]``."""
    return {
        f"{m}<-{n}": a
        for m, rows in parted(weights, mask, axis=2).items()
        for n, a in parted(rows, mask, axis=3).items()
    }


def marked(module: nn.Module, xs: Streams) -> Streams:
    """Adds a learned vector ``e_m`` to the tokens of each modality, where there are several."""
    if len(xs) == 1:
        return xs
    init = nn.initializers.normal(0.02)
    marks = {m: module.param(f"mark_{m}", init, xs[m].shape[-1:]) for m in names(xs)}
    return {m: x + marks[m].astype(x.dtype)[None, None] for m, x in xs.items()}


def read_each(x: Array, mask: Streams, present: Streams) -> Array:
    """The mean over the present m of ``mean_i LN(x_mi)`` in a gathered sequence: ``[B, F]``."""
    x = nn.LayerNorm(dtype=x.dtype, name="norm")(x)
    means = {m: masked_mean(y, mask[m]) for m, y in parted(x, mask).items()}
    return mean_over_present(means, present)


class EarlyTransformer(nn.Module):
    """Early-fusion transformer (baseline in Liang et al. 2021, arXiv:2107.07502).

    ``f = mean_t LN(Block(.. Block(W x_t + b + p(t)) ..))``, ``x_t = [h_1t; p_1t; ..; h_Mt; p_Mt]``:
    the modalities aligned to the longest T by ``align``, the masked mean over S of each step and
    its presence bit. ``W x_t = sum_m W_m [h_mt; p_mt]``, so that early concatenation and early
    summation (Xu et al. 2023, arXiv:2206.06488, section 3.3.2) are the same here. The steps that
    count are those of ``early_lstm``.

    Differs from the paper: several heads and ``layers`` of any number; positions; a masked mean
    instead of the last step; presence bits; no loss of its own.

    Limits: sees time and products of what happens at the same aligned step, and sums over space.

    Cost: ``O(T F sum D_m + L T F (T + F))`` time, ``O(L H T^2)`` memory an example, ``T`` the
    longest, ``L = layers``, ``F = features``.

    Shapes: ``{m: [B, T_m, S_m, D_m]} -> [B, 1, 1, features]``; weights ``joint<-joint`` of the last
    layer, ``[B, H, T, T]``.

    Raises:
      InputError: ``features`` is not a multiple of ``heads``.
    """

    needs_time: ClassVar[bool] = True

    features: int
    heads: int = 4
    layers: int = 2
    dropout: float = 0.0
    hidden: int = 0

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        steps, valid = early_steps(tokens, masks)
        x, valid = with_positions(steps[:, :, None], valid[..., None], self.features, "project")
        block = partial(TransformerBlock, self.heads, dropout=self.dropout, hidden=self.hidden)
        x, weights = stack(block, x, valid, layers=self.layers, name="joint", train=train)
        f = read(x, valid, "norm")
        return one_token(f, jnp.any(valid, axis=1), {"joint<-joint": weights})


class LateTransformer(nn.Module):
    """Late-fusion transformer (baseline in Liang et al. 2021, arXiv:2107.07502).

    ``f = W [v_1; ..; v_M] + b, v_m = mean_i LN_m(Block_m(.. Block_m(x_m) ..)_i)``,
    ``x_m = W_m h_m + p(t)``: one transformer a modality, zeros for an absent one.

    Differs from the paper: a masked mean instead of the last step; positions; one affine layer
    after the concatenation where theirs is a perceptron, so that this, like ``late_lstm``, stays a
    control without any interaction.

    Limits: a sum of one-modality terms, as the head is affine too: any timing within a modality, no
    parity of two and nothing about when one happens relative to the other.

    Cost: ``O(L sum_m N_m F (N_m + F) + M F^2)`` time, ``O(L H sum_m N_m^2)`` memory an example,
    ``N_m = T_m S_m``, ``L = layers``, ``F = features``.

    Shapes: ``{m: [B, T_m, S_m, D_m]} -> [B, 1, 1, features]``; weights ``m<-m`` of the last layer,
    ``[B, H, N_m, N_m]``.

    Raises:
      InputError: ``features`` is not a multiple of ``heads``.
    """

    needs_time: ClassVar[bool] = True

    features: int
    heads: int = 4
    layers: int = 2
    dropout: float = 0.0
    hidden: int = 0

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        xs, mask, present = positioned(tokens, masks, self.features)
        block = partial(TransformerBlock, self.heads, dropout=self.dropout, hidden=self.hidden)
        vectors, weights = {}, {}
        for m, x in xs.items():
            y, weights[f"{m}<-{m}"] = stack(
                block, x, mask[m], layers=self.layers, name=f"own_{m}", train=train
            )
            vectors[m] = read(y, mask[m], f"norm_{m}")
        return one_token(joined(vectors, self.features), any_present(present), weights)


class MergedTransformer(nn.Module):
    """Merged transformer with mid fusion (Nagrani et al. 2021, arXiv:2107.00135, section 3.2).

    ``f = mean over the present m of mean_i LN(Block(.. Block([y_1 + e_1; ..; y_M + e_M]) ..))_mi``,
    ``y_m = Block_m(.. Block_m(x_m) ..)`` with ``fusion_layer`` layers of its own,
    ``x_m = W_m h_m + p(t)``; from ``fusion_layer`` on, all tokens are one sequence under full
    self-attention, with one learned vector ``e_m`` a modality. ``fusion_layer = 0`` is early
    self-attention over everything. ``mbt`` is this with the exchange squeezed through bottlenecks.
    Xu et al. 2023 (arXiv:2206.06488, section 3.3.2) call it early concatenation for
    ``fusion_layer = 0`` and otherwise hierarchical attention, multi-stream to one-stream.

    Differs from the paper: small and trained from scratch; the layers after the merge share their
    weights among modalities; a masked mean instead of CLS tokens (one a modality, averaged, as
    there); no positions over space. With one modality there is no ``e``.

    Limits: sees time and products, token by token, across all modalities from the first joint layer
    on; pays for it with attention over all tokens.

    Cost: ``O(L N F (N + F))`` time, ``O(L H N^2)`` memory an example, ``N = sum_m T_m S_m``,
    ``L = layers``, ``F = features``.

    Shapes: ``{m: [B, T_m, S_m, D_m]} -> [B, 1, 1, features]``; weights ``m<-n`` of the last layer,
    ``[B, H, T_m S_m, T_n S_n]``.

    Raises:
      InputError: ``features`` is not a multiple of ``heads``; ``fusion_layer`` is not below
        ``layers``, so that the modalities would never meet.
    """

    needs_time: ClassVar[bool] = True

    features: int
    heads: int = 4
    layers: int = 2
    fusion_layer: int = 0
    dropout: float = 0.0
    hidden: int = 0

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        joint = self.layers - self.fusion_layer
        if joint < 1:
            raise InputError(
                f"merged_transformer: fusion_layer={self.fusion_layer} with layers={self.layers}"
                " leaves no joint layer; fusion_layer must be less than layers"
            )
        xs, mask, present = positioned(tokens, masks, self.features)
        block = partial(TransformerBlock, self.heads, dropout=self.dropout, hidden=self.hidden)
        for m in xs:
            own = {"layers": self.fusion_layer, "name": f"own_{m}", "train": train}
            xs[m], _ = stack(block, xs[m], mask[m], **own)
        x, weights = stack(
            block, *gathered(marked(self, xs), mask), layers=joint, name="joint", train=train
        )
        f = read_each(x, mask, present)
        return one_token(f, any_present(present), parted_map(weights, mask))


class HierarchicalOneToMulti(nn.Module):
    """Hierarchical attention, one stream to several (Xu et al. 2023, arXiv:2206.06488).

    ``v_m = mean_i LN_m(Block_m(.. Block_m(y_m) ..)_i), [y_1; ..; y_M] = Block(.. Block(x) ..)``,
    ``f = W [v_1; ..; v_M] + b``, ``x = [x_1 + e_1; ..; x_M + e_M]``, ``x_m = W_m h_m + p(t)``: the
    first ``split_layer`` layers are one transformer over all tokens, the rest one a modality over
    what it has become (their section 3.3.2). It is ``merged_transformer`` the other way round, and
    the form of InterBERT (Lin et al. 2020, arXiv:2003.13198), whose two streams keep the modalities
    apart after they have met.

    Differs from the paper: no pretraining; any number of modalities; masked means, concatenated, as
    in MultiBench++, instead of CLS tokens. With one modality there is no ``e``.

    Limits: sees time and products, token by token, across all modalities in its joint layers; pays
    for it with attention over all tokens.

    Cost: ``O(L N F (N + F))`` time, ``O(L H N^2)`` memory an example, ``N = sum_m T_m S_m``,
    ``L = layers``, ``F = features``.

    Shapes: ``{m: [B, T_m, S_m, D_m]} -> [B, 1, 1, features]``; weights ``m<-n`` of the last joint
    layer, ``[B, H, T_m S_m, T_n S_n]``.

    Raises:
      InputError: ``features`` is not a multiple of ``heads``; ``split_layer`` is not at least 1 and
        below ``layers``.
    """

    needs_time: ClassVar[bool] = True

    features: int
    heads: int = 4
    layers: int = 2
    split_layer: int = 1
    dropout: float = 0.0
    hidden: int = 0

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        if not 1 <= self.split_layer < self.layers:
            raise InputError(
                f"hierarchical_one_to_multi: split_layer={self.split_layer} with"
                f" layers={self.layers}; split_layer must be at least 1 and less than layers"
            )
        xs, mask, present = positioned(tokens, masks, self.features)
        block = partial(TransformerBlock, self.heads, dropout=self.dropout, hidden=self.hidden)
        sequence = gathered(marked(self, xs), mask)
        x, weights = stack(block, *sequence, layers=self.split_layer, name="joint", train=train)
        own, vectors = self.layers - self.split_layer, {}
        for m, part in parted(x, mask).items():
            y, _ = stack(block, part, mask[m], layers=own, name=f"own_{m}", train=train)
            vectors[m] = read(y, mask[m], f"norm_{m}")
        f = joined(vectors, self.features)
        return one_token(f, any_present(present), parted_map(weights, mask))
