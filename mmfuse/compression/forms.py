"""How compressed kernels are stored, and how they become arrays again inside a program."""

from __future__ import annotations

import math
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array


@flax.struct.dataclass
class Sparse:
    """A bit for each number of an array, and the numbers that are not zero, in order."""

    bits: Array  # uint8 [ceil(n / 8)], the highest bit first
    values: Array  # [number of set bits]
    shape: tuple[int, ...] = flax.struct.field(pytree_node=False)

    def ready(self) -> Array:
        """The array."""
        size = math.prod(self.shape)
        if not self.values.shape[0]:
            return jnp.zeros(self.shape, self.values.dtype)
        set_bits = self.bits[:, None] >> jnp.arange(7, -1, -1, dtype=jnp.uint8)[None] & 1
        set_bits = set_bits.astype(jnp.int32)
        within = jnp.cumsum(set_bits, axis=1)
        before = jnp.cumsum(within[:, -1]) - within[:, -1]
        place = (before[:, None] + within - 1).reshape(-1)[:size]
        found = jnp.take(self.values, jnp.maximum(place, 0), axis=0)
        return jnp.where(set_bits.reshape(-1)[:size] == 1, found, 0).reshape(self.shape)


@flax.struct.dataclass
class Int8:
    """``values * scale``: int8 [..., O] (or such a `Sparse`), and float32 [O]."""

    values: Any
    scale: Array

    def ready(self) -> Array:
        """The float32 array."""
        values = ready(self.values).astype(jnp.float32)
        return values * self.scale.reshape((1,) * (values.ndim - 1) + self.scale.shape)


@flax.struct.dataclass
class Factors:
    """``left @ right``, [..., r] and [r, O]; a layer uses them one after the other."""

    left: Array
    right: Array

    def ready(self) -> Factors:
        """Itself."""
        return self


@flax.struct.dataclass
class Columns:
    """The kept channels of a kernel [..., k], and for each of all O its place there.

    A place of k means that the channel is out: its output is zero.
    """

    kept: Array
    places: Array  # uint16 [O]

    def ready(self) -> Columns:
        """Itself."""
        return self


FORMS = (Sparse, Int8, Factors, Columns)


def ready(tree: Any) -> Any:
    """A tree of stored parameters as a model can use it: arrays, `Factors` and `Columns`."""
    return jax.tree.map(
        lambda x: x.ready() if isinstance(x, FORMS) else x,
        tree,
        is_leaf=lambda x: isinstance(x, FORMS),
    )


def sparse(x: np.ndarray) -> Sparse:
    """The sparse form of an array."""
    x = np.asarray(x)
    return Sparse(np.packbits(x.reshape(-1) != 0), x[x != 0], x.shape)


def columns(layer: dict, count: int) -> dict:
    """The parameters of a layer with ``count`` channels whose others are zero, without these."""
    kernel = np.asarray(layer["kernel"])
    width = kernel.shape[-1]
    if count == width:
        return layer
    strength = np.abs(kernel).reshape(-1, width).sum(0)
    kept = np.sort(np.argsort(-strength, kind="stable")[:count])
    places = np.full(width, count, np.uint16)
    places[kept] = np.arange(count)
    layer = layer | {"kernel": Columns(kernel[..., kept], places)}
    return layer | ({"bias": np.asarray(layer["bias"])[kept]} if "bias" in layer else {})


def stored(tree: Any) -> dict[str, np.ndarray]:
    """The arrays of a tree of stored parameters by name, ``a/b/kernel.values``."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {_name(path): np.asarray(x) for path, x in leaves}


def stored_bytes(tree: Any) -> int:
    """Bytes of the arrays of a tree of stored parameters."""
    return sum(x.nbytes for x in stored(tree).values())


def _name(path: tuple) -> str:
    """The name of a leaf: keys of dicts by slashes, fields of forms by points."""
    parts = [f"/{k.key}" if hasattr(k, "key") else f".{k.name}" for k in path]
    return "".join(parts).lstrip("/")
