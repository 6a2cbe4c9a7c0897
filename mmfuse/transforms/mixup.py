"""Mixing two examples into one, labels too."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from mmfuse.errors import InputError
from mmfuse.transforms.base import Example, Transform, kind, number


@dataclasses.dataclass(frozen=True)
class Mixup(Transform):
    """x = s x_1 + (1 - s) x_2 for every modality, s ~ Beta(alpha, alpha) (Zhang et al. 2018).

    The loss is s L(y_1) + (1 - s) L(y_2), which is the loss of the mixed label distribution, and
    for the squared error that of the mixed target up to a constant. So the example keeps its label
    and gets ``mixed``: the other's label and its own share s. Steps that either has are real.
    """

    alpha: float
    paired: ClassVar[bool] = True
    training_only: ClassVar[bool] = True

    def __post_init__(self):
        number("alpha", self.alpha, 1e-3)

    def __call__(self, key: jax.Array, example: Example, other: Example) -> Example:
        share = jax.random.beta(key, self.alpha, self.alpha)
        return example | {
            "inputs": jax.tree.map(
                lambda x, y: (share * x + (1 - share) * y).astype(x.dtype),
                example["inputs"],
                other["inputs"],
            ),
            "masks": jax.tree.map(jnp.logical_or, example["masks"], other["masks"]),
            "mixed": {"label": other["label"], "share": share},
        }

    def check(self, example: Example) -> None:
        if "given" in example:
            raise InputError("what this task gives its head belongs to one example: do not mix two")
        for name, x in example["inputs"].items():
            if kind(x, example["masks"][name]) == "tokens":
                raise InputError(
                    f"modality '{name}' is of kind 'tokens': numbers of words cannot be mixed"
                )
