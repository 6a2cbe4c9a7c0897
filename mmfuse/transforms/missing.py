"""Input that is missing, or that belongs to another example."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from mmfuse.errors import InputError
from mmfuse.transforms.base import Example, OfModality, number, put


@dataclasses.dataclass(frozen=True)
class DropModality(OfModality):
    """The modality is absent with probability p: its mask is False and its input zero.

    With ``keep_one`` an example never loses its last modality; in a list of several drops this
    holds for all of them together, so later ones then act a little less often than p says.
    """

    p: float
    keep_one: bool = False

    def __post_init__(self):
        number("p", self.p, 0, 1)
        if not isinstance(self.keep_one, bool):
            raise InputError(f"keep_one must be True or False, got {self.keep_one!r}")

    def __call__(self, key: jax.Array, example: Example) -> Example:
        masks = example["masks"]
        dropped = jax.random.bernoulli(key, jnp.asarray(self.p, float))
        if self.keep_one:
            others = [jnp.any(mask) for name, mask in masks.items() if name != self.modality]
            dropped &= jnp.any(jnp.array(others, bool))
        x, mask = example["inputs"][self.modality], masks[self.modality]
        return put(example, self.modality, x, mask & ~dropped)


@dataclasses.dataclass(frozen=True)
class DropFrames(OfModality):
    """Each real step (frame, word) is missing with probability p; maybe all of them.

    Its place stays, with a mask of False and zeros: time does not move.
    """

    p: float
    kinds: ClassVar[tuple[str, ...]] = ("tokens", "frames")

    def __post_init__(self):
        number("p", self.p, 0, 1)

    def change(self, key: jax.Array, x: jax.Array, mask: jax.Array) -> tuple:
        return x, mask & ~jax.random.bernoulli(key, jnp.asarray(self.p, float), mask.shape)


@dataclasses.dataclass(frozen=True)
class Swap(OfModality):
    """With probability p the modality is another example's of the same batch; the label stays.

    The other one is never the example itself: see ``apply``. Where it has no such modality, this
    one has none either.
    """

    p: float
    paired: ClassVar[bool] = True

    def __post_init__(self):
        number("p", self.p, 0, 1)

    def __call__(self, key: jax.Array, example: Example, other: Example) -> Example:
        swapped = jax.random.bernoulli(key, jnp.asarray(self.p, float))
        x, mask = (
            jnp.where(swapped, other[part][self.modality], example[part][self.modality])
            for part in ("inputs", "masks")
        )
        return put(example, self.modality, x, mask)
