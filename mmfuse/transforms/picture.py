"""Augmentation of standardised pictures [H, W, C]; an absent picture stays absent.

Colours are own code: dm-pix reads them in [0, 1] (its saturation goes through HSV and clips), ours
are standardised per channel.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from mmfuse.data import image
from mmfuse.errors import InputError
from mmfuse.transforms.base import OfModality, at_most, number, whole
from mmfuse.transforms.noise import square


@dataclasses.dataclass(frozen=True)
class _OfPicture(OfModality):
    """One that only pictures can have."""

    kinds: ClassVar[tuple[str, ...]] = ("picture",)


@dataclasses.dataclass(frozen=True)
class Flip(_OfPicture):
    """Left and right change places with probability p."""

    p: float = 0.5

    def __post_init__(self):
        number("p", self.p, 0, 1)

    def change(self, key: jax.Array, x: jax.Array, mask: jax.Array) -> tuple:
        return image.flip(key, x, float(self.p)), mask


@dataclasses.dataclass(frozen=True)
class Crop(_OfPicture):
    """The picture moves by up to ``pad`` pixels each way; zeros (the training mean) move in."""

    pad: int

    def __post_init__(self):
        whole("pad", self.pad, 1)

    def check_shape(self, shape: tuple[int, ...], found: str) -> None:
        at_most(
            "pad", self.pad, min(shape[:2]) - 1, f"the smaller side of '{self.modality}' less 1"
        )

    def change(self, key: jax.Array, x: jax.Array, mask: jax.Array) -> tuple:
        return image.random_crop(key, x, self.pad), mask


@dataclasses.dataclass(frozen=True)
class Colour(_OfPicture):
    """Brightness, contrast and saturation, each drawn anew for every picture.

    x + b with b in +-brightness (in standard deviations); then m + c (x - m) with c in
    1 +- contrast and m the mean of each channel; then g + s (x - g) with s in 1 +- saturation and
    g the mean over the three channels of each pixel.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0

    def __post_init__(self):
        number("brightness", self.brightness, 0)
        number("contrast", self.contrast, 0, 1)
        number("saturation", self.saturation, 0, 1)

    def check_shape(self, shape: tuple[int, ...], found: str) -> None:
        if self.saturation and shape[2] != 3:
            raise InputError(
                f"saturation needs 3 channels, but '{self.modality}' has {shape[2]}; set it to 0"
            )

    def change(self, key: jax.Array, x: jax.Array, mask: jax.Array) -> tuple:
        b, c, s = jax.random.uniform(key, (3,), x.dtype, -1, 1)
        x = x + self.brightness * b
        mean = jnp.mean(x, axis=(0, 1), keepdims=True)
        x = mean + (1 + self.contrast * c) * (x - mean)
        grey = jnp.mean(x, axis=2, keepdims=True)
        return (grey + (1 + self.saturation * s) * (x - grey) if self.saturation else x), mask


@dataclasses.dataclass(frozen=True)
class Cutout(_OfPicture):
    """A square of ``size`` pixels becomes 0, the training mean (DeVries & Taylor 2017).

    Its centre is any pixel, so near the border less is lost; ``occlude`` always hides all of it.
    """

    size: int

    def __post_init__(self):
        whole("size", self.size, 1)

    def check_shape(self, shape: tuple[int, ...], found: str) -> None:
        at_most("size", self.size, min(shape[:2]), f"the smaller side of '{self.modality}'")

    def change(self, key: jax.Array, x: jax.Array, mask: jax.Array) -> tuple:
        down, across = jax.random.split(key)
        top = jax.random.randint(down, (), 0, x.shape[0]) - self.size // 2
        left = jax.random.randint(across, (), 0, x.shape[1]) - self.size // 2
        return jnp.where(square(x.shape, top, left, self.size), jnp.zeros((), x.dtype), x), mask
