"""What every transform of an example shares: its form, the kinds of input, checks of its fields.

A transform is a frozen dataclass with plain fields and ``__call__(key, example) -> example``. It is
written for one preprocessed example, ``{"inputs": {modality: x}, "masks": {modality: bool [T]},
"label": y}``, runs on the device inside the compiled step, and draws from ``key`` alone.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from mmfuse.errors import InputError

Example = dict[str, Any]
KINDS = ("tokens", "picture", "frames", "vector")


def kind(x: Any, mask: Any) -> str:
    """What one input is, from its shape: x, and the mask [T] of its steps.

    ``tokens`` int [T], ``picture`` [H, W, C] of one step, ``frames`` [T, F] or [T, F, 1],
    ``vector`` [F] of one step.
    """
    if jnp.issubdtype(x.dtype, jnp.integer):
        return "tokens"
    if len(x.shape) == 1:
        return "vector"
    return "frames" if x.shape[0] == mask.shape[0] else "picture"


def real(x: jax.Array, mask: jax.Array) -> jax.Array:
    """The mask [T] in the rank of x: True at the positions of x that hold data."""
    return mask.reshape(-1, *[1] * (x.ndim - 1))


def put(example: Example, modality: str, x: jax.Array, mask: jax.Array) -> Example:
    """The example with another input of a modality; what is masked becomes zero."""
    x = jnp.where(real(x, mask), x, jnp.zeros((), x.dtype))
    return example | {
        "inputs": example["inputs"] | {modality: x},
        "masks": example["masks"] | {modality: mask},
    }


@dataclasses.dataclass(frozen=True)
class Transform:
    """The base of all. ``paired`` ones get a second example of the batch as a third argument."""

    paired: ClassVar[bool] = False
    training_only: ClassVar[bool] = False

    def __call__(self, key: jax.Array, example: Example) -> Example:
        raise NotImplementedError

    def check(self, example: Example) -> None:
        """Raises InputError where an example of these shapes and dtypes cannot be transformed."""


@dataclasses.dataclass(frozen=True)
class OfModality(Transform):
    """The base of those that change one modality, by ``change(key, x, mask) -> (x, mask)``."""

    modality: str
    kinds: ClassVar[tuple[str, ...]] = KINDS

    def __call__(self, key: jax.Array, example: Example) -> Example:
        name = self.modality
        return put(
            example, name, *self.change(key, example["inputs"][name], example["masks"][name])
        )

    def change(self, key: jax.Array, x: jax.Array, mask: jax.Array) -> tuple:
        """The changed input and its mask [T]."""
        raise NotImplementedError

    def check(self, example: Example) -> None:
        x, mask = example["inputs"][self.modality], example["masks"][self.modality]
        found = kind(x, mask)
        if found not in self.kinds:
            raise InputError(
                f"modality '{self.modality}' is of kind '{found}'; allowed: {', '.join(self.kinds)}"
            )
        self.check_shape(tuple(x.shape), found)

    def check_shape(self, shape: tuple[int, ...], found: str) -> None:
        """Raises InputError where an input of this shape is too small."""


def number(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> None:
    """Refuses a field that is not a finite number in low..high.

    The argument of a compiled program has no value yet: who passes it has made sure of it.
    """
    if isinstance(value, jax.core.Tracer):
        return
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not good or not low <= value <= high:
        bounds = {(True, True): f"in {low:g}..{high:g}", (True, False): f">= {low:g}"}
        said = bounds.get((math.isfinite(low), math.isfinite(high)), "that is finite")
        raise InputError(f"{name} must be a number {said}, got {value!r}")


def whole(name: str, value: Any, low: int) -> None:
    """Refuses a field that is not an integer >= low."""
    if type(value) is not int or value < low:
        raise InputError(f"{name} must be an integer >= {low}, got {value!r}")


def at_most(name: str, value: int, limit: int, of: str) -> None:
    """Refuses a size that is larger than what the data has."""
    if value > limit:
        raise InputError(f"{name} is {value}, but {of} is {limit}")
