"""What an objective is: something that training aims at besides the task, whatever the fusion.

An objective adds a loss, changes the gradient, or changes what training sees; evaluation knows
nothing of it. It is a Flax module, so that it can have parameters of its own (heads, decoders),
which are trained like all others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from mmfuse.errors import InputError
from mmfuse.fusion.base import Array, Fused
from mmfuse.model import FusionModel
from mmfuse.transforms.base import Transform

ENCODERS = "encoders_"  # {this}{modality}: where a model keeps the parameters of an encoder


@dataclasses.dataclass(frozen=True)
class Seen:
    """What an objective sees of one device's part of a batch, inside a training step.

    Attributes:
      model: the model, unbound; of its head or encoders an objective may clone its own.
      batch: ``{"inputs", "masks", "label", "weight" [B], "index" [B], ...}``. What has weight 0
        (padding, held-out examples) has no modality and does not count.
      tokens, masks: the encoded modalities that the fusion reads, ``{m: [B, T, S, D_m]}`` and
        ``{m: [B, T, S]}``.
      fused, output: what the fusion and the head made of them.
      loss: ``output -> [B]``, the task's own loss of every example, for the label it has.
      everyone: a tree of ``[B, ...] -> [N, ...]``, the same of the whole batch, all devices
        together; gradients go back to where they belong.
      mine: ``[N, ...] -> [B, ...]``, this device's part of it.
      fuse: ``(tokens, masks) -> output``, fusion and head as they evaluate, without gradient.
      measured: ``() -> Seen``, the whole batch, held-out examples too, as the model evaluates it:
        no dropout, no smoothing, no gradient.
      state: what the objective keeps from step to step, see ``Objective.begin``.
    """

    model: FusionModel
    batch: dict[str, Any]
    tokens: dict[str, Array]
    masks: dict[str, Array]
    fused: Fused
    output: Array
    loss: Callable[[Array], Array]
    everyone: Callable[[Any], Any]
    mine: Callable[[Array], Array]
    fuse: Callable[[dict, dict], Array]
    measured: Callable[[], Seen]
    state: Any = None


@flax.struct.dataclass
class Told:
    """What an objective says of a batch.

    Attributes:
      loss: ``[B]``, already scaled, or None. Its mean over the examples is added to the task's loss
        and told as ``auxiliary/objective/NAME``. What is masked or absent adds exactly zero.
      sums: a tree of sums over the examples; those of all devices are added up.
    """

    loss: Array | None = None
    sums: Any = flax.struct.field(default_factory=dict)


class Objective(nn.Module):
    """The base of all; plain fields, and whichever of these methods it needs."""

    @nn.compact
    def __call__(self, seen: Seen) -> Told:
        """The loss and the sums of a batch."""
        del seen
        return Told()

    def check(self) -> None:
        """Raises InputError for a field that is out of range."""

    def fits(self, modalities: tuple[str, ...], transforms: tuple[Transform, ...]) -> None:
        """Raises InputError where a row reads these modalities, or transforms what it trains on so,
        and the objective has no meaning.
        """

    def transforms(self, modalities: tuple[str, ...]) -> tuple[Transform, ...]:
        """What befalls every training example, after the transforms of the config."""
        del modalities
        return ()

    def held_out(self, index: Array) -> Array | None:
        """Which training examples, by their place in the split, are never trained on; bool [B]."""
        del index

    def begin(self, modalities: tuple[str, ...]) -> Any:
        """What it keeps from step to step: a tree of arrays, before the first one."""
        del modalities
        return {}

    def update(self, state: Any, sums: Any, *, epoch_ends: Array) -> Any:
        """What it keeps after a step with these sums; ``epoch_ends`` is a bool []."""
        del sums, epoch_ends
        return state

    def modulate(self, grads: Any, sums: Any, key: Array) -> Any:
        """The gradient of the model's parameters, that of all devices, as it is to be used.

        An encoder's is ``grads[ENCODERS + modality]``. ``key`` is the same on all devices.
        """
        del sums, key
        return grads


def several(modalities: tuple[str, ...]) -> None:
    """Refuses a row that reads one modality, for objectives that compare two."""
    if len(modalities) < 2:
        raise InputError(f"needs two modalities, but the row reads {', '.join(modalities)} alone")


def present_share(values: dict[str, Array], present: dict[str, Array]) -> Array:
    """``{m: [B]}, {m: [B]} -> [B]``: the mean over the modalities that are there, 0 without any."""
    there = jnp.stack([present[m] for m in sorted(values)])
    kept = jnp.where(there, jnp.stack([values[m] for m in sorted(values)]), 0)
    return jnp.sum(kept, axis=0) / jnp.maximum(jnp.sum(there, axis=0), 1)


def unit_uniform(index: Array, seed: int) -> Array:
    """A number in [0, 1) for every index, int [B], that depends on the index and the seed alone."""
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), index)
    return jax.vmap(jax.random.uniform)(keys)
