"""Generating a picture."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from mmfuse.decoders import PictureCNN
from mmfuse.errors import InputError, RowError, listed, nearest
from mmfuse.tasks.base import Columns, Sums, Task, finite
from mmfuse.tasks.multilabel import bernoulli_nll

LIKELIHOODS = ("bernoulli", "gaussian")


@dataclasses.dataclass(frozen=True)
class PictureOf(Task):
    """A picture: output [B, H, W, C], label [B, H, W, C] in [0, 1] (whole numbers are of 255).

    The output holds, with the likelihood ``bernoulli``, the logits of the pixels' means, and with
    ``gaussian`` their means, around which the standard deviation is ``sigma``.
    """

    shape: Sequence[int]
    likelihood: str = "bernoulli"
    sigma: float = 0.1
    metrics: ClassVar = {"nll": False, "rmse": False}
    heads: ClassVar = {"cnn": PictureCNN}

    def __post_init__(self):
        if self.likelihood not in LIKELIHOODS:
            raise InputError(
                f"a dataset's likelihood is '{self.likelihood}'"
                f"{nearest(self.likelihood, LIKELIHOODS)}{listed(LIKELIHOODS)}"
            )

    def sizes(self) -> dict:
        return {"shape": tuple(self.shape)}

    def labels(self, columns: Columns) -> np.ndarray:
        whole = np.issubdtype(np.asarray(columns["label"][0]).dtype, np.integer)
        value = finite(columns) / np.float32(255 if whole else 1)
        outside = ((value < 0) | (value > 1)).reshape(len(value), -1).any(axis=1)
        if outside.any():
            raise RowError(int(np.argmax(outside)), "a pixel is outside 0..1")
        return value

    def loss(self, output: jax.Array, label: jax.Array, *, smoothing: float = 0.0) -> jax.Array:
        """``-log p(picture)``, the sum over pixels and channels, in nats.

        A grey value y has the Bernoulli cross-entropy ``-y log p - (1 - y) log(1 - p)``.
        """
        del smoothing
        if self.likelihood == "bernoulli":
            return bernoulli_nll(output, label)
        each = jnp.square((output - label) / self.sigma) + math.log(2 * math.pi * self.sigma**2)
        return jnp.sum(each.reshape(len(each), -1), axis=-1) / 2

    def sums(self, output: jax.Array, label: jax.Array, weight: jax.Array) -> Sums:
        """Sums of ``-log p`` and of the mean squared error of a picture."""
        return {name: weight @ x for name, x in self.kept_output(output, label).items()}

    def scores(self, sums: Mapping[str, np.ndarray]) -> dict:
        """``-log p`` of a picture, and the root mean squared error of a pixel's mean."""
        count = float(sums["count"])
        return {"nll": float(sums["nll"]) / count, "rmse": (float(sums["square"]) / count) ** 0.5}

    def rendered(self, output: jax.Array) -> jax.Array:
        """The means of the pixels, in [0, 1] where they are of a Bernoulli likelihood."""
        return jax.nn.sigmoid(output) if self.likelihood == "bernoulli" else output

    def kept_output(self, output: jax.Array, label: jax.Array) -> dict[str, jax.Array]:
        """The terms of both metrics, not the pixels."""
        square = jnp.square(self.rendered(output) - label).reshape(len(output), -1)
        return {"nll": self.loss(output, label), "square": jnp.mean(square, axis=-1)}

    def kept_label(self, label: jax.Array) -> dict:
        """Nothing: the pictures are in the dataset."""
        return {}
