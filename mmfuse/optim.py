"""Optimiser and losses, from plain fields."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

OPTIMISERS = ("adamw", "sgd")
SCHEDULES = ("cosine", "constant")


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
    """Clipping by global norm (0 = off), then ``adamw`` or ``sgd`` with decoupled weight decay.

    Decay acts on kernels (two axes or more) only, never on biases, scales or single scalars.
    """

    def kernels(params):
        return jax.tree.map(lambda p: p.ndim > 1, params)

    scale = optax.scale_by_adam() if name == "adamw" else optax.trace(decay=momentum)
    steps = [optax.clip_by_global_norm(clip_norm)] if clip_norm > 0 else []
    steps += [scale, optax.add_decayed_weights(weight_decay, mask=kernels)]
    return optax.chain(*steps, optax.scale_by_learning_rate(schedule))


def cross_entropy(logits: jax.Array, label: jax.Array, *, smoothing: float = 0.0) -> jax.Array:
    """Per-example cross-entropy [B] of logits [B, C] with labels int [B].

    The target is (1 - smoothing) * onehot + smoothing / C (Szegedy et al. 2016).
    """
    classes = logits.shape[-1]
    target = jax.nn.one_hot(label, classes) * (1 - smoothing) + smoothing / classes
    return -jnp.sum(target * jax.nn.log_softmax(logits), axis=-1)


def squared_error(prediction: jax.Array, label: jax.Array, *, smoothing: float = 0.0) -> jax.Array:
    """Per-example squared error [B] of predictions [B, 1]; smoothing has no meaning here."""
    del smoothing
    return jnp.square(prediction[:, 0] - label)


LOSSES = {"classification": cross_entropy, "regression": squared_error}
