"""What all encoders share: masked input counts as zeros, and masked tokens are zeros."""

from __future__ import annotations

import jax
import jax.numpy as jnp

Encoded = tuple[jax.Array, jax.Array]  # tokens [B, T, S, D], mask [B, T, S]


def zero_masked(x: jax.Array, mask: jax.Array) -> jax.Array:
    """Zeros where the mask is False, even in place of NaN; the mask broadcasts against x."""
    return jnp.where(mask, x, jnp.zeros((), x.dtype))


def finish(tokens: jax.Array, mask: jax.Array) -> Encoded:
    """Spreads the mask [B, T] over the S tokens of each step and zeroes masked tokens."""
    mask = jnp.broadcast_to(mask[:, :, None], tokens.shape[:3])
    return zero_masked(tokens, mask[..., None]), mask
