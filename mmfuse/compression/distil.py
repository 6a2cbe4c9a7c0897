"""Distillation: a model learns from the labels and from a finished row's answers."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmfuse.compression.base import Compression
from mmfuse.errors import InputError
from mmfuse.transforms.base import number


@dataclasses.dataclass(frozen=True)
class Teacher:
    """A finished row that another learns from: its model, and its parameters, leaves [R, ...]."""

    model: nn.Module
    params: Any
    sha256: tuple[str, ...]  # of the files of the parameters


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distil(Compression):
    """Adds ``weight T^2 KL(p_teacher || p)`` to the loss, ``p = softmax(logits / T)``.

    (Hinton, Vinyals & Dean 2015, arXiv:1503.02531.) T^2 keeps its gradient in the size of the
    loss's own. The teacher is the row of this name, finished with the same seed; it sees every
    batch as the student does. The row itself says what is small about the student.
    """

    teacher: str
    temperature: float = 2.0
    weight: float = 1.0
    taught: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not isinstance(self.teacher, str) or not self.teacher:
            raise InputError(f"teacher must be the name of a row, got {self.teacher!r}")
        for name in ("temperature", "weight"):
            number(name, getattr(self, name), 0.0)
        if not self.temperature:
            raise InputError("temperature must be > 0, got 0")

    def loss(self, logits: jax.Array, teacher: jax.Array) -> jax.Array:
        """The added loss of each example [B], of logits [B, C] and the teacher's."""
        log_p = jax.nn.log_softmax(logits / self.temperature)
        log_t = jax.nn.log_softmax(jax.lax.stop_gradient(teacher) / self.temperature)
        divergence = jnp.sum(jnp.exp(log_t) * (log_t - log_p), axis=-1)
        return self.weight * self.temperature**2 * divergence
