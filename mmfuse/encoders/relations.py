"""Steps that mean something only beside each other: the dots of one view, for one."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmfuse.encoders.base import Encoded, finish, zero_masked

Array = jax.Array


class RelationNetwork(nn.Module):
    """Vectors [B, T, F] or [B, F], mask [B, T] -> [B, T, 1, D]: each, and how it stands out.

    ``r_tu = relu(V relu(A x_t + B x_u + C |x_t - x_u| + b) + c)`` and
    ``e_t = W [relu(U x_t + d); mean_(u != t) r_tu] + e``, the mean over the other steps that are
    there, zeros without any. The order of the steps only orders the tokens.

    (Santoro et al. 2017, arXiv:1706.01427, around each step by itself, with a mean in place of the
    sum and with the distances; Udagawa and Aizawa 2019 read the dots of a view so.)
    """

    features: int
    hidden: int = 64

    @nn.compact
    def __call__(self, x: Array, mask: Array, *, train: bool) -> Encoded:
        """Encodes a batch: the tokens and their mask."""
        x = x[:, None] if x.ndim == 2 else x
        x = zero_masked(x, mask[..., None])
        own = nn.relu(nn.Dense(self.hidden, name="own")(x))
        h = jnp.concatenate([own, self._mean_of_others(self._pairs(x), mask)], axis=-1)
        tokens = nn.Dense(self.features, name="tokens")(h)
        return finish(tokens[:, :, None], mask)

    def _pairs(self, x: Array) -> Array:
        """``r [B, T, T, hidden]``."""
        this = nn.Dense(self.hidden, name="this")(x)[:, :, None]
        other = nn.Dense(self.hidden, use_bias=False, name="other")(x)[:, None]
        distance = jnp.abs(x[:, :, None] - x[:, None])
        apart = nn.Dense(self.hidden, use_bias=False, name="distance")(distance)
        return nn.relu(nn.Dense(self.hidden, name="pairs")(nn.relu(this + other + apart)))

    def _mean_of_others(self, r: Array, mask: Array) -> Array:
        """The masked mean of ``r_tu`` over ``u != t``: [B, T, hidden]."""
        others = mask[:, None, :] & ~jnp.eye(r.shape[1], dtype=bool)[None]
        total = jnp.sum(jnp.where(others[..., None], r, 0), axis=2)
        return total / jnp.maximum(jnp.sum(others, axis=2), 1)[..., None].astype(r.dtype)
