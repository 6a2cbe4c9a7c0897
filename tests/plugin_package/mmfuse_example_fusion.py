"""A fusion from outside mmfuse."""

import flax.linen as nn
import jax.numpy as jnp

from mmfuse.fusion.base import any_present, one_token, pooled


class MaxOfModalities(nn.Module):
    """The largest of the modalities, feature by feature: ``f = max_m (W_m mean_m + b_m)``."""

    features: int

    @nn.compact
    def __call__(self, tokens, masks, *, train):
        vectors, present = pooled(tokens, masks)
        mapped = []
        for m, x in vectors.items():
            y = nn.Dense(self.features, dtype=x.dtype, name=m)(x)
            mapped.append(jnp.where(present[m][:, None], y, -1e9))
        anything = any_present(present)
        return one_token(jnp.where(anything[:, None], jnp.stack(mapped).max(0), 0), anything)
