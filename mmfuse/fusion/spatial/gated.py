"""Gates and shifts: one vector decides how much of another passes."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmfuse.fusion.base import Fused, any_present, dense, one_token, pooled

Array = jax.Array


class GMU(nn.Module):
    """Gated multimodal unit (Arevalo et al. 2017, arXiv:1702.01992).

    ``f = sum_m z_m * tanh(V_m h_m)``, with the gates ``z`` computed from all vectors together,
    ``a_m = U_m [h_1; ..; h_M]``. As in the paper, two modalities share one gate,
    ``z_1 = sigmoid(a), z_2 = 1 - z_1``, while any other number of modalities
    has one independent gate each, ``z_m = sigmoid(a_m)``: sigmoid, not softmax.

    Differs from the paper: ``V`` and ``U`` have biases; an absent modality has gate exactly 0, and
    with two modalities the one that remains then has gate 1.

    Shapes: ``{m: [B, T, S, D_m]} -> [B, 1, 1, features]``; weights ``{m: [B, features]}`` are the
    gates.
    """

    features: int

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        del train
        vectors, present = pooled(tokens, masks)
        joint = jnp.concatenate(list(vectors.values()), axis=-1)
        gates = self._gates(joint, present)
        terms = [
            gates[m] * jnp.tanh(dense(self.features, x, f"value_{m}")(x))
            for m, x in vectors.items()
        ]
        return one_token(sum(terms), any_present(present), gates)

    def _gates(self, joint: Array, present: dict[str, Array]) -> dict[str, Array]:
        """``{m: [B, features]}``, exactly zero where the modality is absent."""
        order = list(present)
        there = jnp.stack([present[m] for m in order])[..., None]
        if len(order) == 2:
            a = dense(self.features, joint, f"gate_{order[0]}")(joint)
            # softmax([a, 0]) is [sigmoid(a), 1 - sigmoid(a)], and can leave out who is absent.
            logits = jnp.stack([a, jnp.zeros_like(a)])
            gates = jax.nn.softmax(logits, where=there, axis=0)
        else:
            a = jnp.stack([dense(self.features, joint, f"gate_{m}")(joint) for m in order])
            gates = jnp.where(there, nn.sigmoid(a), 0)
        return dict(zip(order, gates, strict=True))
