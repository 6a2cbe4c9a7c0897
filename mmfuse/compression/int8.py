"""Eight-bit kernels, one scale a channel: after training, or with training aware of it.

Weights only: what the layers compute stays float32, and biases do too. XLA has no fast int8
product on CPUs, and the layers of these models are small; what is saved is size.

Our own, not qwix: it quantises what the products of layers see, and a convolution here is a product
with a rearranged kernel (`mmfuse.convolution`), whose last axis is no channel any more. And its
0.1.8 warns with flax 0.12.8 (VariableState) as soon as it wraps a model; warnings are errors here.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from mmfuse.compression import forms
from mmfuse.compression.base import Compression, on_kernels
from mmfuse.transforms.base import number

LIMIT = 127  # symmetric: -127..127
SPARE_BITS = 8  # of the 24 of a float32: what a product with an int8 needs


@dataclasses.dataclass(frozen=True, kw_only=True)
class Int8(Compression):
    """After training: ``q = round(w / s)`` in -127..127 and ``w' = s q``, s by channel.

    ``s = max |w| / 127`` over the channel, rounded up to 16 significant bits. So every ``s q`` is
    exact in float32, ``|w - w'| <= s / 2``, and doing it twice changes no bit.
    """

    active: ClassVar[bool] = True

    def after(self, params: Any) -> Any:
        return on_kernels(rounded, params)

    def packed(self, params: Any) -> Any:
        return on_kernels(packed, params)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Int8Aware(Int8):
    """From ``begin`` on (a share of training) the forward pass uses ``w'``.

    The gradient passes straight through the rounding to w (Bengio et al. 2013, arXiv:1308.3432;
    Jacob et al. 2018, arXiv:1712.05877).
    """

    begin: float = 0.5

    def __post_init__(self) -> None:
        number("begin", self.begin, 0.0, 1.0)

    @property
    def trains(self) -> bool:
        return True

    def during(self, params: Any, step: jax.Array) -> Any:
        on = step >= round(self.begin * self.facts.steps)
        return on_kernels(lambda w: jnp.where(on, straight_through(w), w), params)


def scales(w: jax.Array) -> jax.Array:
    """The scale of each channel of w [..., O], float32 [O]; 1 where all its weights are zero."""
    found = jnp.max(jnp.abs(w), axis=tuple(range(w.ndim - 1))) / LIMIT
    bits = jax.lax.bitcast_convert_type(found.astype(jnp.float32), jnp.int32)
    spare = jnp.int32((1 << SPARE_BITS) - 1)
    up = jax.lax.bitcast_convert_type((bits + spare) & ~spare, jnp.float32)
    return jnp.where(found > jnp.finfo(jnp.float32).tiny, up, 1.0)


def quantised(w: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(q, s): whole numbers in -127..127 as float32, in the shape of w, and the scales [O]."""
    s = scales(w)
    return jnp.clip(jnp.round(w / _over(s, w)), -LIMIT, LIMIT), s


def rounded(w: jax.Array) -> jax.Array:
    """``w' = s q``."""
    q, s = quantised(w)
    return q * _over(s, w)


def straight_through(w: jax.Array) -> jax.Array:
    """``w'``, to the bit, with the gradient of w."""
    return jax.lax.stop_gradient(rounded(w)) + (w - jax.lax.stop_gradient(w))


def packed(w: np.ndarray) -> forms.Int8:
    """The stored form of a kernel."""
    q, s = quantised(jnp.asarray(w))
    return forms.Int8(np.asarray(q).astype(np.int8), np.asarray(s))


def _over(s: jax.Array, w: jax.Array) -> jax.Array:
    return s.reshape((1,) * (w.ndim - 1) + s.shape)
