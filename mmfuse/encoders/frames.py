"""Encoders of feature vectors and of frames."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmfuse.encoders.base import Encoded, finish, zero_masked
from mmfuse.recurrent import LSTM


class AudioLSTM(nn.Module):
    """Log-mel frames [B, T, F], mask [B, T] -> LSTM outputs [B, T, 1, D], D = features."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, *, train: bool) -> Encoded:
        """Encodes a batch: the tokens and their mask."""
        outputs, _ = LSTM(self.features)(zero_masked(x, mask[:, :, None]), mask)
        return finish(outputs[:, :, None], mask)


class FrameMLP(nn.Module):
    """Feature vectors [B, F] (mask [B, 1]) or frames [B, T, F] (mask [B, T]) -> [B, T', 1, D].

    A two-layer MLP per step, local in time. A step is ``group`` consecutive frames side by side,
    T' = ceil(T / group), zeros in place of masked and missing frames; it is valid if any of its
    frames is.
    """

    features: int
    hidden: int = 64
    group: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, *, train: bool) -> Encoded:
        """Encodes a batch: the tokens and their mask."""
        x = x[:, None] if x.ndim == 2 else x
        x = zero_masked(x, mask[:, :, None])
        missing = -x.shape[1] % self.group
        x = jnp.pad(x, ((0, 0), (0, missing), (0, 0)))
        mask = jnp.pad(mask, ((0, 0), (0, missing)))
        x = x.reshape(x.shape[0], -1, self.group * x.shape[-1])
        mask = mask.reshape(*x.shape[:2], self.group).any(-1)
        hidden = nn.relu(nn.Dense(self.hidden)(x))
        return finish(nn.Dense(self.features)(hidden)[:, :, None], mask)
