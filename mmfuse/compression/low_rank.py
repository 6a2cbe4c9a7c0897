"""Low rank: the kernels of layers as products of two thin ones."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from mmfuse.compression import forms
from mmfuse.compression.base import Compression, Path, on_layers
from mmfuse.errors import InputError
from mmfuse.transforms.base import number


@dataclasses.dataclass(frozen=True, kw_only=True)
class LowRank(Compression):
    """After training: the kernel W [I, O] of a layer becomes ``U_r S_r V_r^T`` of its SVD.

    That is the nearest matrix of rank r (Eckart & Young 1936). A kernel of more axes counts as
    [all the others, O]. r is the largest rank at which both parts hold at most the share ``keep``
    of the numbers in W: ``r = floor(keep I O / (I + O))``; a kernel too thin for r >= 1 stays. The
    two products are executed one after the other (`layers`), so FLOPs fall as the size does.
    """

    keep: float = 0.5
    active: ClassVar[bool] = True
    of_layers: ClassVar[bool] = True

    def __post_init__(self) -> None:
        number("keep", self.keep, 0.0, 1.0)
        if not self.keep:
            raise InputError("keep must be > 0, got 0")

    def rank(self, shape: tuple[int, ...]) -> int:
        """The rank at which a kernel of this shape is kept; 0 where it stays whole."""
        *rest, width = shape
        size = int(np.prod(rest))
        rank = int(self.keep * size * width / (size + width))
        return rank if rank < min(size, width) else 0

    def after(self, params: Any) -> Any:
        def change(path: Path, layer: dict) -> dict:
            kernel = layer["kernel"]
            if not self.rank(kernel.shape):
                return layer
            left, right = factors(kernel, self.rank(kernel.shape))
            return layer | {"kernel": left @ right}

        return on_layers(change, params, self.facts.layers)

    def packed(self, params: Any) -> Any:
        def change(path: Path, layer: dict) -> dict:
            kernel = jnp.asarray(layer["kernel"])
            if not self.rank(kernel.shape):
                return layer
            parts = (np.asarray(part) for part in factors(kernel, self.rank(kernel.shape)))
            return layer | {"kernel": forms.Factors(*parts)}

        return on_layers(change, params, self.facts.layers)


def factors(kernel: jax.Array, rank: int) -> tuple[jax.Array, jax.Array]:
    """``U_r sqrt(S_r)`` [..., r] and ``sqrt(S_r) V_r^T`` [r, O] of a kernel [..., O]."""
    left, values, right = jnp.linalg.svd(kernel.reshape(-1, kernel.shape[-1]), full_matrices=False)
    root = jnp.sqrt(values[:rank])
    left = (left[:, :rank] * root[None]).reshape(*kernel.shape[:-1], rank)
    return left, root[:, None] * right[:rank]
