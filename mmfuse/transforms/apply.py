"""A list of transforms on a batch, with a key for each example and each place in the list."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from mmfuse.transforms.base import Example, Transform

# Numbers of the transforms' own keys: apart from the devices' numbers, which key dropout, and from
# the initial parameters' 2**31.
STREAM = 2**30
EVALUATION = 0  # the seed of every evaluation, whatever the row and its seed


def apply(
    transforms: tuple[Transform, ...],
    key: jax.Array,
    batch: Example,
    who: jax.Array,
    *,
    axis_name: str | None = None,
) -> Example:
    """The batch (leaves [B, ...], with ``weight`` [B]) after every transform, in order.

    ``who`` int32 [B] is what an example's draws depend on besides ``key``: its place in the whole
    batch in training, its index in the split in evaluation. With an ``axis_name`` the batch is one
    device's part; draws and partners are the same on any number of devices.

    A paired transform sees the real examples (weight > 0, in front) of the whole batch in a circle
    turned by 1..n-1 places, so that no example meets itself, unless it is alone.
    """
    for position, transform in enumerate(transforms):
        own = jax.random.fold_in(key, STREAM + position)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(own, who)
        others = (_turned(own, batch, who, axis_name),) if transform.paired else ()
        batch = jax.vmap(transform)(keys, batch, *others)
    return batch


def _turned(key: jax.Array, batch: Example, who: jax.Array, axis_name: str | None) -> Example:
    """The partner of every example of the batch."""
    place, everyone = places(len(who), axis_name), (batch, who)
    if axis_name is not None:
        everyone = jax.lax.all_gather(everyone, axis_name, tiled=True)
    whole, numbers = everyone
    count = jnp.sum(whole["weight"] > 0)
    turn = jax.random.fold_in(jax.random.fold_in(key, numbers[0]), STREAM)
    shift = jax.random.randint(turn, (), 1, jnp.maximum(count, 2))
    partner = jnp.where(place < count, (place + shift) % jnp.maximum(count, 1), place)
    return jax.tree.map(lambda x: jnp.take(x, partner, axis=0), whole)


def places(size: int, axis_name: str | None) -> jax.Array:
    """The places of this device's ``size`` examples in the whole batch, int32 [size]."""
    first = 0 if axis_name is None else jax.lax.axis_index(axis_name) * size
    return jnp.arange(size, dtype=jnp.int32) + first
