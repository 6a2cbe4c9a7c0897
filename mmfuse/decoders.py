"""Heads: from fused tokens to the task's output."""

from __future__ import annotations

import flax.linen as nn
import jax

from mmfuse.fusion.base import Fused, masked_mean


class PooledHead(nn.Module):
    """y = W mean(tokens) + b: a masked mean over all fused tokens, then one affine map.

    tokens [B, T', S', D], mask [B, T', S'] -> [B, outputs]. Being affine, it turns an average of
    features into an average of logits (the late-fusion rows rely on it).
    """

    outputs: int

    @nn.compact
    def __call__(self, fused: Fused) -> jax.Array:
        pooled = masked_mean(fused.tokens, fused.mask, axis=(1, 2))
        return nn.Dense(self.outputs, name="affine")(pooled)


HEADS = {"classification": PooledHead, "regression": PooledHead}
