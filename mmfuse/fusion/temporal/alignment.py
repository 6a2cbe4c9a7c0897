"""One time axis for modalities that run at different rates."""

from __future__ import annotations

import jax
import numpy as np

Array = jax.Array


def align(x: Array, length: int) -> Array:
    """``[B, T, ...] -> [B, length, ...]``: step t reads the source's step ``floor(t T / length)``.

    The time axes are taken to cover the same span: a single step (T = 1) is broadcast, a slower
    modality is held, and ``length = T`` is the identity.
    """
    return x[:, np.arange(length) * x.shape[1] // length]
