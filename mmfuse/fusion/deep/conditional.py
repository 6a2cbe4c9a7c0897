"""Experts chosen by the example: dynamic multimodal fusion (DynMM)."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmfuse.errors import InputError
from mmfuse.fusion.base import Fused, any_present, dense, names, one_token, pooled
from mmfuse.fusion.late import VectorMLP
from mmfuse.fusion.spatial.simple import Concat

Array = jax.Array


class DynMM(nn.Module):
    """Dynamic multimodal fusion, modality level (Xue and Marculescu 2023, arXiv:2204.00102).

    ``f = sum_i g_i E_i(x), g = softmax((G(x) + noise gumbel) / temperature)`` over the experts i:
    one for every modality alone, ``E_m = MLP_m(h_m)`` as in the row ``unimodal``, and one for all
    together, ``E_joint``, which is ``Concat`` with ``hidden`` units. The gating network is
    ``G(x) = V_2 relu(V_1 [h_1; ..; h_M] + c_1) + c_2`` with ``width`` hidden units, and ``h_m`` the
    masked mean. The head is affine and the gates add up to one: mixing these vectors is mixing the
    experts' logits. Gumbel noise is drawn in training only. With ``hard=True`` the largest gate is
    set to one and the others to zero, with the gradient of the soft gates (straight through).

    The resource-aware loss is ``resource sum_i g_i C_i``, ``C_i`` the cost of an expert: the
    numbers of its input (T S D, over the modalities that it reads) as a share of all. With one
    modality there is one expert, no gate and no loss.

    Differs from the paper: ``C`` stands for the multiply-adds of an expert with its encoders, which
    a fusion does not know; all experts are computed for every example, chosen or not, as one
    compiled program does, so that only the loss is saved; experts are trained together with the
    gate from the start; a modality's own expert is not chosen where it is absent. The authors' code
    draws no noise: ``noise=0``. Their fusion level (gates between the layers of two convolutional
    encoders) is left out.

    Limits: reads masked means: counts but no timing; products across modalities only in the joint
    expert and the gate.

    Cost: O(D (features + hidden + width) + M features^2 + hidden features) time and
    O(M features + hidden + width) memory per example, ``D = sum_m D_m``.

    Shapes: ``{m: [B, T, S, D_m]} -> [B, 1, 1, features]``; weights are the gates, ``{m: [B]}`` and,
    for the joint expert, all names in a row (``audio+text``); losses ``{"resource": [B]}``.

    Raises:
      InputError: ``temperature`` is not positive.
    """

    features: int
    hidden: int = 64
    width: int = 16
    temperature: float = 1.0
    noise: float = 1.0
    hard: bool = False
    resource: float = 0.01

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        if not self.temperature > 0:
            raise InputError(f"dynmm: temperature={self.temperature} must be positive")
        vectors, present = pooled(tokens, masks)
        experts = {m: VectorMLP(self.features, name=f"expert_{m}")(vectors[m]) for m in vectors}
        there = dict(present)
        if len(experts) > 1:
            joint = Concat(self.features, self.hidden, name="joint")(tokens, masks, train=train)
            every = together(tokens)
            experts[every], there[every] = joint.tokens[:, 0, 0], any_present(present)
        gates = self._gates(vectors, there, train=train)
        f = sum(gates[i].astype(x.dtype)[:, None] * x for i, x in experts.items())
        losses = {}
        if train and self.resource and len(experts) > 1:
            cost = costs(tokens)
            losses["resource"] = self.resource * sum(cost[i] * g for i, g in gates.items())
        return one_token(f, any_present(present), gates).replace(losses=losses)

    def _gates(
        self, vectors: dict[str, Array], there: dict[str, Array], *, train: bool
    ) -> dict[str, Array]:
        """``{expert: [B]}`` in float32, zero where the expert has nothing to read."""
        open_to = jnp.stack(list(there.values()), axis=-1)
        if len(there) == 1:
            return {m: x.astype(jnp.float32) for m, x in there.items()}
        joint = jnp.concatenate(list(vectors.values()), axis=-1)
        h = nn.relu(dense(self.width, joint, "gate_hidden")(joint))
        logits = dense(len(there), h, "gate")(h).astype(jnp.float32)
        if train and self.noise:
            logits += self.noise * jax.random.gumbel(
                self.make_rng("dropout"), logits.shape, logits.dtype
            )
        g = jax.nn.softmax(logits / self.temperature, where=open_to, axis=-1)
        if self.hard:
            one = jax.nn.one_hot(jnp.argmax(g, axis=-1), len(there), dtype=g.dtype) * open_to
            g = g + jax.lax.stop_gradient(one - g)
        return {i: g[:, k] for k, i in enumerate(there)}


def together(tokens: dict[str, Array]) -> str:
    """The name of the expert of all modalities: theirs in a row, as ``"audio+text"``."""
    return "+".join(names(tokens))


def costs(tokens: dict[str, Array]) -> dict[str, float]:
    """What each expert reads, as a share of all that there is."""
    sizes = {m: tokens[m][0].size for m in names(tokens)}
    return {m: n / sum(sizes.values()) for m, n in sizes.items()} | {together(tokens): 1.0}
