"""Vectors added, multiplied, pooled or concatenated in one common space."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmfuse.fusion.base import Fused, any_present, dense, one_token, pooled

Array = jax.Array


class Concat(nn.Module):
    """Concatenation and a two-layer perceptron: ``f = W_2 relu(W_1 [h_1; ..; h_M] + b_1) + b_2``.

    ``h_m`` is the masked mean of modality m; an absent modality is a block of zeros.

    Shapes: ``{m: [B, T, S, D_m]} -> [B, 1, 1, features]``; ``W_1`` is ``[sum_m D_m, hidden]``, its
    blocks in the alphabetical order of the modalities.
    Source: early joint representation by concatenation, Ngiam et al. 2011 (ICML); theirs is trained
    as an autoencoder, here only the label is.
    """

    features: int
    hidden: int

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        del train
        vectors, present = pooled(tokens, masks)
        joint = jnp.concatenate(list(vectors.values()), axis=-1)
        h = nn.relu(dense(self.hidden, joint, "hidden")(joint))
        return one_token(dense(self.features, h, "out")(h), any_present(present))
