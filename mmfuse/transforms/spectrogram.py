"""Augmentation of spectrograms [T, F] or [T, F, 1]."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from mmfuse.transforms.base import OfModality, at_most, real, whole
from mmfuse.transforms.noise import span


@dataclasses.dataclass(frozen=True)
class SpecAugment(OfModality):
    """Spans of steps and bands of frequencies become 0, the training mean (Park et al. 2019).

    Each of ``time_masks`` spans has a width drawn from 0..time and lies among the real steps; each
    of ``frequency_masks`` bands has a width drawn from 0..frequency. The mask stays: the model is
    not told. Their time warping is left out.
    """

    time: int = 0
    frequency: int = 0
    time_masks: int = 1
    frequency_masks: int = 1
    kinds: ClassVar[tuple[str, ...]] = ("frames",)

    def __post_init__(self):
        for name in ("time", "frequency", "time_masks", "frequency_masks"):
            whole(name, getattr(self, name), 0)

    def check_shape(self, shape: tuple[int, ...], found: str) -> None:
        at_most("time", self.time, shape[0], f"the number of steps of '{self.modality}'")
        at_most("frequency", self.frequency, shape[1], f"the number of bands of '{self.modality}'")

    def change(self, key: jax.Array, x: jax.Array, mask: jax.Array) -> tuple:
        keys = jax.random.split(key, 2)
        bands = jnp.ones(x.shape[1], bool)
        steps = _spans(keys[0], mask, self.time, self.time_masks)
        bands = _spans(keys[1], bands, self.frequency, self.frequency_masks)
        hidden = real(x, steps) | bands.reshape(1, -1, *[1] * (x.ndim - 2))
        return jnp.where(hidden, jnp.zeros((), x.dtype), x), mask


def _spans(key: jax.Array, mask: jax.Array, widest: int, number: int) -> jax.Array:
    """``number`` spans of the True entries of a mask, each up to ``widest`` wide, together."""
    hidden = jnp.zeros_like(mask)
    for each in range(number):
        wide, where = jax.random.split(jax.random.fold_in(key, each))
        hidden |= span(where, mask, jax.random.randint(wide, (), 0, widest + 1))
    return hidden
