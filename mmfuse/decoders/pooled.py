"""The head of all tasks whose output is one vector."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax

from mmfuse.errors import InputError
from mmfuse.fusion.base import Fused, masked_mean


class PooledHead(nn.Module):
    """y = W mean(tokens) + b: a masked mean over all fused tokens, then one affine map.

    tokens [B, T', S', D], mask [B, T', S'] -> [B, outputs]. Being affine, it turns an average of
    features into an average of logits (the late-fusion rows rely on it). What a fusion has decided
    itself is passed on as it is.

    Raises:
      InputError: the fusion decided over another number of outputs.
    """

    outputs: int

    @nn.compact
    def __call__(
        self, fused: Fused, encoded: Any = None, given: Any = None, *, train: bool = False
    ) -> jax.Array:
        if fused.decided:
            return self._checked(fused.tokens[:, 0, 0])
        pooled = masked_mean(fused.tokens, fused.mask, axis=(1, 2))
        return nn.Dense(self.outputs, name="affine")(pooled)

    def _checked(self, scores: jax.Array) -> jax.Array:
        if scores.shape[-1] != self.outputs:
            raise InputError(
                f"the fusion decides over {scores.shape[-1]} outputs"
                f", but the task has {self.outputs}"
            )
        return scores
