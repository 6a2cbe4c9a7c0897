"""The optimiser, from plain fields, and how a fusion's auxiliary losses are read."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

OPTIMISERS = ("adamw", "adam", "sgd")
SCHEDULES = ("cosine", "constant")
PER_REPLICA = ("lr", "weight_decay", "momentum")  # settings that replicas can have of their own


def make_schedule(name: str, lr: float, steps: int, warmup: int) -> optax.Schedule:
    """Learning rate per step: linear warm-up from 0 over ``warmup`` steps, then the named schedule.

    ``cosine`` falls to 0 at ``steps``; ``constant`` stays at ``lr``.
    """
    warmup = min(warmup, max(steps - 1, 0))
    after = (
        optax.cosine_decay_schedule(lr, max(steps - warmup, 1))
        if name == "cosine"
        else optax.constant_schedule(lr)
    )
    if not warmup:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, lr, warmup), after], [warmup])


def make_optimizer(
    name: str, schedule: optax.Schedule, *, weight_decay: float, clip_norm: float, momentum: float
) -> optax.GradientTransformation:
    """Clipping by global norm (0 = off), then ``adamw`` or ``sgd`` with decoupled weight decay, or
    ``adam``, whose decay is that of the loss ``weight_decay / 2 * |kernels|^2``.

    The penalty of ``adam`` is the prior of a matrix factorisation: one row of an embedding is held
    back the more, the fewer examples it has (Loshchilov and Hutter 2019, arXiv:1711.05101, say how
    the two differ). Decay acts on kernels (two axes or more) only, never on biases, scales or
    single scalars.
    """
    decay = _decay_kernels(weight_decay)
    scale = optax.trace(decay=momentum) if name == "sgd" else optax.scale_by_adam()
    steps = [optax.clip_by_global_norm(clip_norm)] if clip_norm > 0 else []
    steps += [decay, scale] if name == "adam" else [scale, decay]
    return _packed(optax.chain(*steps, optax.scale_by_learning_rate(schedule)))


def per_replica(
    make: Callable[..., optax.GradientTransformation], settings: Mapping[str, float]
) -> optax.GradientTransformation:
    """``make(**settings)`` with the settings in its state, where ``begin`` sets them.

    So one program serves replicas with different settings, which are numbers of ``PER_REPLICA``.
    """
    return optax.inject_hyperparams(make)(**settings)


def begin(
    optimizer: optax.GradientTransformation, params: Any, own: Mapping[str, jax.Array]
) -> Any:
    """The first state of an optimiser; ``own`` are the scalars that ``per_replica`` leaves open."""
    state = optimizer.init(params)
    return state._replace(hyperparams=state.hyperparams | dict(own)) if own else state


Packed = dict[str, jax.Array]


def _pack(tree: Any) -> Packed:
    """All kernels as one vector, everything else as another; only what there is."""
    groups = {"kernels": [], "others": []}
    for leaf in jax.tree.leaves(tree):
        groups["kernels" if jnp.ndim(leaf) > 1 else "others"].append(jnp.ravel(leaf))
    return {name: jnp.concatenate(parts) for name, parts in groups.items() if parts}


def _unpack(packed: Packed, like: Any) -> Any:
    """The vectors of ``_pack`` as a tree with the shapes and dtypes of ``like``."""
    leaves, treedef = jax.tree.flatten(like)
    out = [None] * len(leaves)
    for name, vector in packed.items():
        chosen = [i for i, leaf in enumerate(leaves) if (jnp.ndim(leaf) > 1) == (name == "kernels")]
        ends = list(itertools.accumulate(jnp.size(leaves[i]) for i in chosen))
        for i, part in zip(chosen, jnp.split(vector, ends[:-1]), strict=True):
            out[i] = part.reshape(jnp.shape(leaves[i])).astype(leaves[i].dtype)
    return jax.tree.unflatten(treedef, out)


def _packed(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """``inner`` on two long vectors instead of on every leaf of the parameters.

    Leaf by leaf an optimiser is most of a training program: a hundred small arrays take longer to
    trace, compile, load and run than one. Only for transformations that treat all numbers alike.
    """

    def update(grads, state, params):
        updates, state = inner.update(_pack(grads), state, _pack(params))
        return _unpack(updates, params), state

    return optax.GradientTransformation(lambda params: inner.init(_pack(params)), update)


def _decay_kernels(rate: float) -> optax.GradientTransformation:
    return optax.add_decayed_weights(rate, mask=lambda packed: {k: k == "kernels" for k in packed})


def auxiliary(loss: jax.Array, label: jax.Array) -> jax.Array:
    """An auxiliary loss per example [B]: ``loss`` [B] itself, or entry ``label`` of [B, C]."""
    if loss.ndim == 1:
        return loss
    return jnp.sum(loss * jax.nn.one_hot(label, loss.shape[-1], dtype=loss.dtype), axis=-1)
