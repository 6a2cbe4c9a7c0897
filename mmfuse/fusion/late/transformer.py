"""Late fusion by attention: a transformer over one token a modality."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmfuse.attention import TransformerBlock
from mmfuse.fusion.base import Fused, any_present, dense, one_token, pooled

Array = jax.Array


class SimBaMM(nn.Module):
    """Tuned late-fusion transformer, SimBaMM (Rheude et al. 2025, arXiv:2512.22991).

    ``f = LN(Block(.. Block([cls; x_1; ..; x_M]) ..)_cls)`` with one token a modality,
    ``x_m = P_m mean_m + b_m``, and a learned token ``cls``, which is read at the end. Modalities
    that are absent are masked in every layer. ``Block`` is ``TransformerBlock`` with ``hidden``
    units in its MLP, where that is 0 twice as many as features. This is the paper's SimBaMM_CLS;
    its other form reads several tokens a modality. Tuned it is only if its fields are searched, as
    the paper does for every method.

    Differs from the paper: that gives projections, sequence, attention mask and a readout g that it
    leaves open; ``cls`` as the readout is the authors' code. Blocks are pre-norm with gelu, there
    post-norm with relu; no sinusoid tells the modalities apart, as the biases ``b_m`` do; the
    vectors are masked means of the tokens of the shared encoders.

    Limits: attention multiplies what the modalities say, so a parity of two can be learnt; reads
    masked means: counts but no timing.

    Cost: O(M features (D + layers (M + features + hidden))) time, O(layers M (M heads + features +
    hidden)) memory per example.

    Shapes: ``{m: [B, T, S, D_m]} -> [B, 1, 1, features]``; weights ``{m: [B, heads]}`` are what
    ``cls`` gives to each modality in the last layer.

    Raises:
      InputError: ``features`` is not a multiple of ``heads``.
    """

    features: int
    heads: int = 4
    layers: int = 2
    dropout: float = 0.0
    hidden: int = 0

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        vectors, present = pooled(tokens, masks)
        rows = [dense(self.features, x, f"project_{m}")(x) for m, x in vectors.items()]
        x = jnp.stack([self._cls(rows[0]), *rows], axis=1)
        there = jnp.stack(list(present.values()), axis=1)
        mask = jnp.concatenate([jnp.ones_like(there[:, :1]), there], axis=1)
        for layer in range(self.layers):
            block = TransformerBlock(
                self.heads, dropout=self.dropout, hidden=self.hidden, name=f"block_{layer}"
            )
            x, maps = block(x, mask, train=train)
        f = nn.LayerNorm(dtype=x.dtype, name="norm")(x[:, 0])
        weights = {m: maps[:, :, 0, 1 + i] for i, m in enumerate(vectors)}
        return one_token(f, any_present(present), weights)

    def _cls(self, like: Array) -> Array:
        """``[B, features]``, the same learned start for every example."""
        cls = self.param("cls", nn.initializers.normal(0.02), (self.features,)).astype(like.dtype)
        return jnp.broadcast_to(cls[None], like.shape)
