"""Gates: vectors decide together how much of each channel passes."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmfuse.errors import InputError, nearest
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

    Limits: reads masked means, so counts but no timing; sees products of gates and values.

    Cost: O(M features D) time, O(M features) memory per example, ``D = sum_m D_m``.

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


class FiLM(nn.Module):
    """Feature-wise linear modulation (Perez et al. 2018, arXiv:1709.07871).

    ``f = beta(h_c) + sum_{n != c} gamma_n(h_c) * (W_n h_n + b_n)``, ``beta(h) = U h + u``,
    ``gamma_n(h) = 1 + G_n h + g_n``, where ``h_m`` is the masked mean of modality m and c is the
    modality that modulates the others, the field ``condition`` (empty: the alphabetically first).
    The shifts of the others, added up with them, are the one shift ``beta``.

    An absent condition has ``gamma = 1, beta = 0``: the others pass as they are. An absent modality
    n leaves the sum, and a modality alone is ``beta``, a linear map.

    Differs from the paper: pooled vectors, once, where it modulates the feature maps of each block
    of a network; several modulated modalities are summed; no ReLU after the modulation.

    Limits: reads masked means, so counts but no timing; sees the products of the condition with
    each other modality, but no product of two others: choose the condition that the task pairs.

    Cost: O(features (D + M D_c)) time, O(M features) memory per example, ``D = sum_m D_m``.

    Shapes: ``{m: [B, T, S, D_m]} -> [B, 1, 1, features]``; no weights.

    Raises:
      InputError: the batch has no modality ``condition``.
    """

    features: int
    condition: str = ""

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        del train
        vectors, present = pooled(tokens, masks)
        c = chosen("condition", self.condition, tuple(vectors))
        h, there = vectors.pop(c), present[c][:, None]
        f = jnp.where(there, dense(self.features, h, "shift")(h), 0)
        for n, x in vectors.items():
            gamma = 1 + jnp.where(there, dense(self.features, h, f"scale_{n}")(h), 0)
            value = dense(self.features, x, f"project_{n}")(x)
            f = f + jnp.where(present[n][:, None], gamma * value, 0)
        return one_token(f, any_present(present))


class ChannelAttention(nn.Module):
    """Channel attention by squeeze and excitation (Hu et al. 2018, arXiv:1709.01507).

    ``f = W [g_1 * h_1; ..; g_M * h_M] + b, g_m = 2 sigmoid(U_m s + u_m)``,
    ``s = relu(V [h_1; ..; h_M] + v)`` of ``width``, where ``h_m`` is the masked mean of modality m:
    every channel of every modality is scaled by a gate that has seen all of them. An absent
    modality is a block of zeros. The factor 2 is that of MMTM (Joze et al. 2020, arXiv:1911.08670),
    which does this between the streams of two networks: a gate of ``sigmoid(0)`` changes nothing.

    Differs from the paper: the gates act on pooled vectors, once, where it rescales the feature
    maps of each block of a network; the joint vector has several modalities, as in MMTM.

    Limits: reads masked means, so counts but no timing; sees products of gates and channels.

    Cost: O((width + features) D) time, O(width + D) memory per example, ``D = sum_m D_m``.

    Shapes: ``{m: [B, T, S, D_m]} -> [B, 1, 1, features]``; weights ``{m: [B, D_m]}`` are the gates,
    between 0 and 2.
    """

    features: int
    width: int

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        del train
        vectors, present = pooled(tokens, masks)
        joint = jnp.concatenate(list(vectors.values()), axis=-1)
        squeezed = nn.relu(dense(self.width, joint, "squeeze")(joint))
        gates = {}
        for m, x in vectors.items():
            gate = 2 * nn.sigmoid(dense(x.shape[-1], squeezed, f"excite_{m}")(squeezed))
            gates[m] = jnp.where(present[m][:, None], gate, 0)
        passed = jnp.concatenate([gates[m] * x for m, x in vectors.items()], axis=-1)
        f = dense(self.features, passed, "out")(passed)
        return one_token(f, any_present(present), gates)


def chosen(field: str, name: str, modalities: tuple[str, ...], default: str = "") -> str:
    """The modality that a field names; empty: ``default`` if there is one, else the first.

    Raises:
      InputError: ``name`` is not among ``modalities`` (sorted).
    """
    if not name:
        return default if default in modalities else modalities[0]
    if name not in modalities:
        raise InputError(
            f"fusion.{field}='{name}' is not a modality of this data"
            f"; allowed: {', '.join(modalities)}{nearest(name, modalities)}"
        )
    return name
