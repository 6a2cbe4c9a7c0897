"""Noise at a stated level, and parts that are hidden."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from mmfuse.transforms.base import OfModality, at_most, number, real, whole


@dataclasses.dataclass(frozen=True)
class Noise(OfModality):
    """White Gaussian noise: x + n, with E[n^2] = mean(x^2) / 10^(snr_db / 10).

    The mean runs over the real positions of this example, and only these get noise. The power is
    that of the preprocessed input, so 0 dB is one standard deviation of what the model sees; for
    log-mel frames this is not the ratio of the waveforms.
    """

    snr_db: float
    kinds: ClassVar[tuple[str, ...]] = ("picture", "frames", "vector")

    def __post_init__(self):
        number("snr_db", self.snr_db)

    def change(self, key: jax.Array, x: jax.Array, mask: jax.Array) -> tuple:
        there = jnp.broadcast_to(real(x, mask), x.shape)
        power = jnp.sum(jnp.where(there, x * x, 0)) / jnp.maximum(jnp.sum(there), 1)
        scale = jnp.sqrt(power * 10 ** (-self.snr_db / 10))
        return x + scale * jax.random.normal(key, x.shape, x.dtype), mask


@dataclasses.dataclass(frozen=True)
class Occlude(OfModality):
    """A part is hidden behind the training mean (0); the model is not told, the mask stays.

    Pictures lose a square of ``size`` pixels that lies wholly inside, frames a span of ``size``
    real steps; every place is equally likely.
    """

    size: int
    kinds: ClassVar[tuple[str, ...]] = ("picture", "frames")

    def __post_init__(self):
        whole("size", self.size, 1)

    def check_shape(self, shape: tuple[int, ...], found: str) -> None:
        limit = min(shape[:2]) if found == "picture" else shape[0]
        at_most("size", self.size, limit, f"'{self.modality}'")

    def change(self, key: jax.Array, x: jax.Array, mask: jax.Array) -> tuple:
        if mask.shape[0] == x.shape[0]:
            hidden = real(x, span(key, mask, self.size))
        else:
            top, left = (
                jax.random.randint(k, (), 0, side - self.size + 1)
                for k, side in zip(jax.random.split(key), x.shape, strict=False)
            )
            hidden = square(x.shape, top, left, self.size)
        return jnp.where(hidden, jnp.zeros((), x.dtype), x), mask


def span(key: jax.Array, mask: jax.Array, width: jax.Array | int) -> jax.Array:
    """``width`` neighbours among the True entries of a mask [T], wherever the padding lies.

    Every start is equally likely; where fewer than ``width`` are True, it is all of them.
    """
    rank = jnp.cumsum(mask) - 1
    start = jax.random.randint(key, (), 0, jnp.maximum(jnp.sum(mask) - width, 0) + 1)
    return mask & (rank >= start) & (rank < start + width)


def square(shape: tuple[int, ...], top: jax.Array, left: jax.Array, size: int) -> jax.Array:
    """True inside a square of a picture [H, W, C], as [H, W, 1]; it may stick out."""
    row, column = jnp.arange(shape[0])[:, None, None], jnp.arange(shape[1])[None, :, None]
    inside = (row >= top) & (row < top + size)
    return inside & (column >= left) & (column < left + size)
