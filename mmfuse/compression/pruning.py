"""Magnitude pruning: single weights, and whole channels."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from mmfuse.compression import forms, int8
from mmfuse.compression.base import (
    Compression,
    Path,
    largest,
    on_kernels,
    on_layers,
    share_dropped,
)
from mmfuse.errors import InputError
from mmfuse.transforms.base import number, whole


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scheduled(Compression):
    """What drops a share of the weights, from ``begin`` to ``end`` (shares of training).

    Both 1: at once after training (one-shot). Both 0.5: at once in the middle, then fine-tuning.
    Else gradually, see `base.share_dropped`. A mask is made anew from the weights of every step;
    weights that are out get no gradient, so they come back only if others become smaller.
    """

    begin: float = 1.0
    end: float = 1.0
    every: int = 1
    active: ClassVar[bool] = True

    def __post_init__(self) -> None:
        number("begin", self.begin, 0.0, 1.0)
        number("end", self.end, 0.0, 1.0)
        whole("every", self.every, 1)
        if self.end < self.begin:
            raise InputError(f"end is {self.end}, before begin, {self.begin}")

    @property
    def trains(self) -> bool:
        return self.begin < 1

    def dropped(self, step: jax.Array, share: float) -> jax.Array:
        """The share that is out at a step."""
        return share_dropped(step, self.facts.steps, self.begin, self.end, share, self.every)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prune(Scheduled):
    """Keeps the largest weights of every kernel, ``1 - sparsity`` of them.

    Of every kernel alone, as Zhu & Gupta do: kernels with many inputs have small weights, and of
    all kernels together the largest fifth would leave them empty. Stored as a bit a weight and the
    kept weights (`forms.Sparse`). The model is as fast as before: zeros are multiplied like any
    number.
    """

    sparsity: float = 0.8

    def __post_init__(self) -> None:
        super().__post_init__()
        number("sparsity", self.sparsity, 0.0, 0.999)

    def during(self, params: Any, step: jax.Array) -> Any:
        if not self.trains:
            return params
        share = self.dropped(step, self.sparsity)

        def change(w: jax.Array) -> jax.Array:
            rising = jnp.round(share * w.size).astype(jnp.int32)
            return _kept(w, w.size - jnp.where(share == self.sparsity, self._out(w), rising))

        return on_kernels(change, params)

    def after(self, params: Any) -> Any:
        return on_kernels(lambda w: _kept(w, w.size - self._out(w)), params)

    def _out(self, kernel: jax.Array) -> int:
        return round(self.sparsity * kernel.size)

    def packed(self, params: Any) -> Any:
        return on_kernels(forms.sparse, params)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PruneInt8(Prune):
    """``Prune``, and what is kept as int8 (`int8.Int8`)."""

    def after(self, params: Any) -> Any:
        return on_kernels(int8.rounded, super().after(params))

    def packed(self, params: Any) -> Any:
        def pack(kernel: np.ndarray) -> forms.Int8:
            found = int8.packed(kernel)
            return forms.Int8(forms.sparse(found.values), found.scale)

        return on_kernels(pack, params)


def _kept(kernel: jax.Array, count: jax.Array | int) -> jax.Array:
    """The kernel with its ``count`` largest weights; the others are zero."""
    magnitudes = jnp.abs(jax.lax.stop_gradient(kernel))
    return jnp.where(largest(magnitudes.ravel(), count).reshape(kernel.shape), kernel, 0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Channels(Scheduled):
    """Drops a share of the channels of every layer: those whose weights have the least sum |w|.

    (Li et al. 2017, arXiv:1608.08710.) A channel goes with its bias, so its output is exactly zero.
    Layers that answer stay whole. Stored without the channels, which are not computed either
    (`layers`); what reads them is as before.
    """

    share: float = 0.5
    of_layers: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        number("share", self.share, 0.0, 0.999)

    def during(self, params: Any, step: jax.Array) -> Any:
        if not self.trains:
            return params
        share = self.dropped(step, self.share)

        def count(width: int) -> jax.Array:
            out = jnp.where(share == self.share, self._out(width), jnp.floor(share * width))
            return width - out.astype(jnp.int32)

        return self._masked(params, count)

    def after(self, params: Any) -> Any:
        return self._masked(params, lambda width: width - self._out(width))

    def _out(self, width: int) -> int:
        return int(self.share * width)

    def _layers(self) -> tuple[Path, ...]:
        return tuple(path for path in self.facts.layers if path not in self.facts.whole)

    def _masked(self, params: Any, count: Callable[[int], Any]) -> Any:
        """``params`` with ``count(O)`` of the O channels of every layer."""

        def change(path: Path, layer: dict) -> dict:
            weights = jnp.abs(jax.lax.stop_gradient(layer["kernel"]))
            width = weights.shape[-1]
            keep = largest(jnp.sum(weights.reshape(-1, width), axis=0), count(width))
            return jax.tree.map(lambda x: jnp.where(_over(keep, x), x, 0), layer)

        return on_layers(change, params, self._layers())

    def packed(self, params: Any) -> Any:
        def change(path: Path, layer: dict) -> dict:
            width = layer["kernel"].shape[-1]
            return forms.columns(layer, width - self._out(width))

        return on_layers(change, params, self._layers())


def _over(keep: jax.Array, x: jax.Array) -> jax.Array:
    """``keep`` [O] in the rank of x [..., O]."""
    return keep.reshape((1,) * (x.ndim - 1) + keep.shape)
