"""What every compression is: pure functions of a model's parameters, for one replica.

A *kernel* is a parameter of two axes or more; its last axis runs over its outputs, its *channels*.
A *layer* is a Dense layer or one of the convolutions of the encoders, whose kernel can be used in
parts (`layers`); its path is that of its module.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

Path = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a compression must know of the row: its training steps and its layers.

    ``whole`` are those layers whose channels must all stay, since they are the model's answer.
    """

    steps: int = 0
    layers: tuple[Path, ...] = ()
    whole: tuple[Path, ...] = ()


NO_FACTS = Facts()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compression:
    """No compression, and the base of all. Fields other than ``facts`` are those of a config."""

    facts: Facts = NO_FACTS
    active: ClassVar[bool] = False  # whether ``after`` changes anything
    of_layers: ClassVar[bool] = False  # whether it must know the layers
    taught: ClassVar[bool] = False  # whether training needs a teacher

    @property
    def trains(self) -> bool:
        """Whether training itself is another one than without it."""
        return self.taught

    def during(self, params: Any, step: jax.Array) -> Any:
        """The parameters that the forward pass of training step ``step`` uses; differentiable."""
        del step
        return params

    def after(self, params: Any) -> Any:
        """The compressed parameters, in the shapes of ``params``: what is evaluated and kept.

        Doing it twice changes nothing (but by rounding, in a truncated decomposition).
        """
        return params

    def packed(self, params: Any) -> Any:
        """What ``after`` returned in the form in which it is stored: some leaves are `forms`."""
        return params


def is_kernel(x: Any) -> bool:
    """Whether a parameter is a kernel."""
    return x.ndim > 1


def on_kernels(change: Callable[[jax.Array], Any], params: Any) -> Any:
    """``params`` with every kernel changed."""
    return jax.tree.map(lambda x: change(x) if is_kernel(x) else x, params)


def on_layers(change: Callable[[Path, dict], dict], params: Any, layers: tuple[Path, ...]) -> Any:
    """``params`` with the parameters ``{"kernel", "bias"}`` of these layers changed."""

    def walk(tree: Any, path: Path) -> Any:
        if path in wanted:
            return change(path, tree)
        if not isinstance(tree, dict):
            return tree
        return {key: walk(value, (*path, key)) for key, value in tree.items()}

    wanted = set(layers)
    return walk(params, ())


def share_dropped(
    step: jax.Array, steps: int, begin: float, end: float, share: float, every: int
) -> jax.Array:
    """The share of weights that are out at a step (Zhu & Gupta 2017, arXiv:1710.01878, eq. 1).

    ``s_t = s (1 - (1 - (t - t_0) / (t_1 - t_0))^3)`` at every ``every``-th step t from
    ``t_0 = begin * steps`` to ``t_1 = end * steps``; 0 before, s from ``t_1`` on. With
    ``begin = end`` all of it goes at once.
    """
    first, last = round(begin * steps), round(end * steps)
    at = first + (step - first) // every * every
    progress = jnp.clip((at - first) / max(last - first, 1), 0.0, 1.0)
    rising = jnp.where(step < first, 0.0, share * (1 - (1 - progress) ** 3))
    return jnp.where(step >= last, share, rising)


def largest(values: jax.Array, count: jax.Array | int) -> jax.Array:
    """Marks exactly ``count`` of the numbers >= 0 in ``values`` [n]: the largest, bool [n].

    Of equal numbers the first ones are taken. The bits of a float >= 0 are in its order, so the
    ``count``-th largest one is found bit by bit: 31 sums, where sorting is slow on a CPU.
    """
    bits = jax.lax.bitcast_convert_type(values.astype(jnp.float32), jnp.int32)

    def lower(number: int, threshold: jax.Array) -> jax.Array:
        trial = threshold | (jnp.int32(1) << (30 - number))
        return jnp.where(jnp.sum(bits >= trial) >= count, trial, threshold)

    threshold = jax.lax.fori_loop(0, 31, lower, jnp.int32(0))
    above, equal = bits > threshold, bits == threshold
    return above | (equal & (jnp.cumsum(equal) <= count - jnp.sum(above)))


NONE = Compression()
