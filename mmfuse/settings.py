"""The budget of a row and its optimiser, and the learning rate that follows from both."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping

import jax
import numpy as np
import optax

from mmfuse import optim

LAST = "last"


@dataclasses.dataclass(frozen=True)
class TrainSettings:
    """The budget and the optimiser of a row; the same for all rows of a fair table.

    ``select`` is the validation metric that chooses the epoch, or "last": the epochs are fixed in
    advance, for data whose validation split says nothing.
    """

    epochs: int = 10
    batch: int = 64
    optimizer: str = "adamw"
    lr: float = 1e-3
    schedule: str = "cosine"
    warmup: int = 0
    momentum: float = 0.9
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    label_smoothing: float = 0.0
    select: str = "accuracy"
    patience: int = 0
    eval_batch: int = 512
    steps_per_dispatch: int = 200
    checkpoint_seconds: float = 30.0


def make_schedule(settings: TrainSettings, steps_per_epoch: int) -> optax.Schedule:
    """The learning rate by step, over all the epochs."""
    steps = settings.epochs * steps_per_epoch
    return optim.make_schedule(settings.schedule, settings.lr, steps, settings.warmup)


@functools.cache
def learning_rates(settings: TrainSettings, steps_per_epoch: int) -> tuple[float, ...]:
    """The learning rate of the last step of every epoch."""
    last = np.arange(1, settings.epochs + 1) * steps_per_epoch - 1
    rates = jax.jit(jax.vmap(make_schedule(settings, steps_per_epoch)))(last)
    return tuple(np.asarray(rates).tolist())


def make_optimizer(
    settings: TrainSettings,
    steps_per_epoch: int,
    own: Mapping[str, tuple[float, ...]] | None = None,
) -> optax.GradientTransformation:
    """The optimiser; ``own`` are settings of ``optim.PER_REPLICA``, one value per replica."""

    def make(lr, weight_decay, momentum):
        schedule = make_schedule(dataclasses.replace(settings, lr=lr), steps_per_epoch)
        rest = {"clip_norm": settings.clip_norm, "momentum": momentum}
        return optim.make_optimizer(settings.optimizer, schedule, weight_decay=weight_decay, **rest)

    shared = {name: getattr(settings, name) for name in optim.PER_REPLICA}
    return optim.per_replica(make, shared) if own else make(**shared)
