"""Latent arrays that read all tokens at once: Perceiver and Perceiver IO."""

from __future__ import annotations

import math
from functools import partial
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmfuse.attention import TransformerBlock
from mmfuse.fusion.base import Fused, dense, flatten, names, one_token
from mmfuse.fusion.deep.coattention import split_maps

Array = jax.Array

ENCODING = 4  # Least number of channels that tell one modality from another.


class Perceiver(nn.Module):
    """Perceiver (Jaegle et al. 2021, arXiv:2103.03206).

    ``z <- Latent_r(Cross_r(z, a)), r = 1..repeats; f = mean of z``: a learned array of ``latents``
    rows reads the byte array ``a`` of all tokens of all modalities again and again. ``Cross`` is a
    ``TransformerBlock`` with queries from z and keys and values from a, with ``cross_heads`` heads;
    ``Latent`` is ``layers`` blocks of self-attention within z. As in the paper's model for images,
    all repetitions after the first share their weights, and the first has its own.

    ``a`` holds a row for every token, ``[p(t, s); h_m(t, s); e_m]``: Fourier features of its
    position (``fourier_positions``, ``bands`` frequencies), the token, and a learned encoding of
    its modality that fills all rows up to the same width C, at least 4 channels of it.

    Differs from the paper: hidden layers are 2 times as wide as the features (1), or ``hidden``;
    attention has as many channels as z (as ``a``). The order of channels in a row is ours: in it
    positions stand in the same channels for all modalities.

    Limits: sees time and products across modalities, so both, but has to put all it reads into
    ``latents`` vectors; which modality a token is of, it learns from the encoding alone.

    Cost: with N tokens in all and L latents, O(repeats (N C features + L N features + layers
    (L^2 features + L features (features + hidden)))) time, O(N C + repeats (N (features + L) +
    layers L (L heads + features + hidden))) memory per example.

    Shapes: ``{m: [B, T_m, S_m, D_m]} -> [B, 1, 1, features]``; weights ``latent<-m`` of the last
    cross-attention, ``[B, cross_heads, L, T_m S_m]``.

    Raises:
      InputError: ``features`` is not a multiple of ``heads`` and of ``cross_heads``.
    """

    needs_time: ClassVar[bool] = True

    features: int
    heads: int = 4
    cross_heads: int = 1
    layers: int = 1
    repeats: int = 2
    latents: int = 8
    bands: int = 6
    hidden: int = 0
    dropout: float = 0.0

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        array, mask, sizes = ByteArray(self.bands, name="array")(tokens, masks)
        reader = Reader(
            self.heads,
            self.cross_heads,
            self.layers,
            self.repeats,
            self.hidden,
            self.dropout,
            name="reader",
        )
        z = learned(self, "latents", self.latents, self.features, like=array)
        z, weights = reader(z, array, mask, train=train)
        return one_token(
            z.mean(axis=1), jnp.any(mask, axis=1), split_maps(weights, "latent", sizes)
        )


class PerceiverIO(nn.Module):
    """Perceiver IO (Jaegle et al. 2021, arXiv:2107.14795): read once, think, answer a query.

    ``z = Latent(Cross(z_0, a)), f = W Decode(o, z) + b``: a learned array of ``latents`` rows reads
    the byte array ``a`` of all tokens once, ``layers`` blocks of self-attention work on it, and one
    learned output query ``o`` attends to it. ``Cross`` and ``Decode`` are ``TransformerBlock`` with
    queries from their first argument, with ``cross_heads`` heads, and with the query's residual, as
    for classification in the authors' code. ``a`` is that of ``Perceiver``.

    Differs from the paper: one output query, of which the head makes the scores; hidden layers are
    2 times as wide as the features (1), or ``hidden``; attention has as many channels as z.

    Limits: sees time and products across modalities, so both, but reads the tokens only once, with
    queries that do not depend on the example.

    Cost: with N tokens in all, L latents and rows of width C in ``a``, O(N C features + L N
    features + layers (L^2 features + L features (features + hidden))) time, O(N (C + features + L)
    + layers L (L heads + features + hidden)) memory per example.

    Shapes: ``{m: [B, T_m, S_m, D_m]} -> [B, 1, 1, features]``; weights ``latent<-m``,
    ``[B, cross_heads, L, T_m S_m]``, and ``output<-latent``, ``[B, cross_heads, 1, L]``.

    Raises:
      InputError: ``features`` is not a multiple of ``heads`` and of ``cross_heads``.
    """

    needs_time: ClassVar[bool] = True

    features: int
    heads: int = 4
    cross_heads: int = 1
    layers: int = 2
    latents: int = 8
    bands: int = 6
    hidden: int = 0
    dropout: float = 0.0

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        array, mask, sizes = ByteArray(self.bands, name="array")(tokens, masks)
        reader = Reader(
            self.heads, self.cross_heads, self.layers, 1, self.hidden, self.dropout, name="reader"
        )
        z = learned(self, "latents", self.latents, self.features, like=array)
        z, weights = reader(z, array, mask, train=train)
        maps = split_maps(weights, "latent", sizes)
        query = learned(self, "query", 1, self.features, like=array)
        decode = TransformerBlock(
            self.cross_heads, hidden=self.hidden, dropout=self.dropout, name="decode"
        )
        y, maps["output<-latent"] = decode(query, everything(z), z, train=train)
        f = dense(self.features, y, "out")(y[:, 0])
        return one_token(f, jnp.any(mask, axis=1), maps)


class Reader(nn.Module):
    """Latents read an array and think about it, ``repeats`` times; see ``Perceiver``.

    The first repetition has its own weights, all others share theirs.
    """

    heads: int
    cross_heads: int
    layers: int
    repeats: int
    hidden: int = 0
    dropout: float = 0.0

    @nn.compact
    def __call__(self, z: Array, array: Array, mask: Array, *, train: bool) -> tuple[Array, Array]:
        """``z [B,L,D], array [B,N,C], mask [B,N] -> z [B,L,D]``, the last map ``[B,H,L,N]``."""
        block = partial(TransformerBlock, hidden=self.hidden, dropout=self.dropout)
        stages = [
            (
                block(self.cross_heads, name=f"cross_{stage}"),
                [block(self.heads, name=f"latent_{stage}_{i}") for i in range(self.layers)],
            )
            for stage in range(min(self.repeats, 2))
        ]
        for repeat in range(self.repeats):
            cross, thinking = stages[min(repeat, 1)]
            z, weights = cross(z, mask, array, train=train)
            for think in thinking:
                z, _ = think(z, everything(z), train=train)
        return z, weights


class ByteArray(nn.Module):
    """All tokens of all modalities as the rows of one array; see ``Perceiver``."""

    bands: int

    @nn.compact
    def __call__(
        self, tokens: dict[str, Array], masks: dict[str, Array]
    ) -> tuple[Array, Array, dict[str, int]]:
        """The array ``[B, N, C]``, its mask ``[B, N]``, and how many tokens each modality has."""
        widest = max(x.shape[-1] for x in tokens.values())
        start = nn.initializers.truncated_normal(0.02)
        tails = {
            m: self.param(f"encoding_{m}", start, (widest - tokens[m].shape[-1] + ENCODING,))
            for m in names(tokens)
        }
        arrays = rows(tokens, tails, self.bands)
        array = jnp.concatenate(list(arrays.values()), axis=1)
        mask = jnp.concatenate([flatten(masks[m]) for m in arrays], axis=1)
        return array, mask, {m: x.shape[1] for m, x in arrays.items()}


def rows(tokens: dict[str, Array], tails: dict[str, Array], bands: int) -> dict[str, Array]:
    """``{m: [B, T, S, D_m]} -> {m: [B, T*S, C]}``: position, token, and the modality's tail."""
    longest = tuple(max(x.shape[axis] for x in tokens.values()) for axis in (1, 2))
    out = {}
    for m in names(tokens):
        x = tokens[m]
        position = jnp.asarray(fourier_positions(x.shape[1:3], longest, bands), x.dtype)
        ends = [
            jnp.broadcast_to(e, (*x.shape[:3], e.shape[-1]))
            for e in (position[None], tails[m].astype(x.dtype)[None, None, None])
        ]
        out[m] = flatten(jnp.concatenate([ends[0], x, ends[1]], axis=-1))
    return out


def fourier_positions(shape: tuple[int, int], longest: tuple[int, int], bands: int) -> np.ndarray:
    """``[T, S, P]`` float32: where a token stands in time and in space.

    For each axis ``x`` in [-1, 1] along it, ``[x, sin(pi f_k x), cos(pi f_k x)]`` with ``bands``
    frequencies ``f_k`` evenly from 1 to half of ``longest``, the greatest size that any modality
    has along the axis (Jaegle et al. 2021, section 3.2). An axis that no modality has is left out.
    """
    parts = [np.zeros((*shape, 0))]
    for axis, (size, most) in enumerate(zip(shape, longest, strict=True)):
        if most > 1:
            x = np.expand_dims(np.linspace(-1, 1, size), (1 - axis, 2))
            angle = math.pi * np.linspace(1, most / 2, bands) * x
            one = np.concatenate([x, np.sin(angle), np.cos(angle)], axis=-1)
            parts.append(np.broadcast_to(one, (*shape, one.shape[-1])))
    return np.concatenate(parts, axis=-1).astype(np.float32)


def learned(module: nn.Module, name: str, count: int, features: int, *, like: Array) -> Array:
    """``[B, count, features]``: a learned array, the same start for every example."""
    start = nn.initializers.truncated_normal(0.02)
    z = module.param(name, start, (count, features)).astype(like.dtype)
    return jnp.broadcast_to(z[None], (like.shape[0], *z.shape))


def everything(x: Array) -> Array:
    """The mask ``[B, N]`` under which all of ``x [B, N, D]`` is seen."""
    return jnp.ones(x.shape[:2], bool)
