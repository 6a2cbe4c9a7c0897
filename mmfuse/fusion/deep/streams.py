"""One stream of layers a modality, linked at every depth: by sums, by gates, or by feedback."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmfuse.errors import InputError
from mmfuse.fusion.base import (
    Fused,
    any_present,
    dense,
    masked_mean,
    mean_over_present,
    names,
    one_token,
    pooled,
)
from mmfuse.fusion.spatial.simple import Concat

Array = jax.Array


class CentralNet(nn.Module):
    """Central network beside unimodal ones (Vielzeuf et al. 2018, arXiv:1808.07275).

    ``c_l = relu(C_l (a_l c_(l-1) + sum_m a_ml u_ml))``, ``u_ml = relu(V_ml u_m(l-1))``, with
    ``u_m0`` the masked mean of modality m, no ``c_0``, and ``f = c_L`` without its relu. The ``a``
    are trained scalars, one for each stream and layer, which start at one over their number in the
    layer: by them the network chooses at which depth to fuse, from early (only ``a_m1``) to late
    (only ``a_mL``). An absent modality adds zero.

    The paper trains the unimodal networks for the label too, with
    ``loss = loss_c + sum_m beta_m loss_m``. With ``auxiliary > 0``, its ``beta`` for every m, each
    stream has a classifier over ``outputs`` classes on ``u_mL``, and ``losses["unimodal_m"]`` is
    its cross-entropy by label, 0 for an absent modality. 0 is off and makes no parameters.

    Differs from the paper: dense streams on pooled vectors where the paper has convolutional ones;
    the paper's ``beta_m`` may differ by modality; no batch normalisation or dropout. The initial
    value of the ``a`` is a choice made here.

    Limits: reads masked means: counts but no timing; modalities meet inside relu layers, so that a
    parity is learnt from two layers on (with one layer f is a sum of one-modality terms).

    Cost: O(H (sum_m D_m + L M H) + H F) time, O(L M H) memory per example, for H hidden units.

    Shapes: ``{m: [B, T, S, D_m]} -> [B, 1, 1, features]``; weights ``{m: [B, layers]}``, ``a_ml``.

    Raises:
      InputError: ``auxiliary`` is negative, or positive with fewer than two ``outputs``.
    """

    features: int
    hidden: int
    layers: int = 2
    outputs: int = 0
    auxiliary: float = 0.0

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        self._check()
        us, present = pooled(tokens, masks)
        order, weights, c = names(tokens), [], None
        for layer in range(1, self.layers + 1):
            us = {
                m: nn.relu(dense(self.hidden, u, f"stream_{m}_{layer}")(u)) for m, u in us.items()
            }
            c, a = self._central(us, present, c, layer)
            weights.append(a)
        gates = {m: jnp.stack([a[m] for a in weights], axis=1) for m in order}
        fused = one_token(c, any_present(present), gates)
        return fused.replace(losses=self._losses(us, present, train=train))

    def _check(self) -> None:
        if self.auxiliary < 0:
            raise InputError(f"centralnet: auxiliary={self.auxiliary} must not be negative")
        if self.auxiliary > 0 and self.outputs < 2:
            raise InputError(
                f"centralnet: auxiliary={self.auxiliary} trains classifiers, which need outputs of"
                f" at least 2, got {self.outputs}; use auxiliary=0 for regression"
            )

    def _central(
        self, us: dict[str, Array], present: dict[str, Array], c: Array | None, layer: int
    ) -> tuple[Array, dict[str, Array]]:
        """One layer of the central stream, and the weight ``[B]`` of every modality in it."""
        order, number = names(us), len(us) + (c is not None)
        a = self.param(f"weights_{layer}", nn.initializers.constant(1 / number), (number,))
        a = a.astype(us[order[0]].dtype)
        gates = {m: jnp.where(present[m], a[i], 0) for i, m in enumerate(order)}
        total = sum(gates[m][:, None] * us[m] for m in order)
        if c is not None:
            total = total + a[-1] * c
        last = layer == self.layers
        c = dense(self.features if last else self.hidden, total, f"central_{layer}")(total)
        return (c if last else nn.relu(c)), gates

    def _losses(
        self, us: dict[str, Array], present: dict[str, Array], *, train: bool
    ) -> dict[str, Array]:
        """``auxiliary`` times the cross-entropy of each stream, by label: ``[B, outputs]``."""
        losses = {}
        if self.auxiliary > 0 and (train or self.is_initializing()):
            for m, u in us.items():
                logits = dense(self.outputs, u, f"classify_{m}")(u).astype(jnp.float32)
                loss = -self.auxiliary * nn.log_softmax(logits)
                losses[f"unimodal_{m}"] = jnp.where(present[m][:, None], loss, 0)
        return losses if train else {}


class MMTM(nn.Module):
    """Multimodal transfer modules between streams (Joze et al. 2020, arXiv:1911.08670).

    ``x_m' = 2 sigmoid(W_m z + b_m) * x_m``, ``z = W [s_1; ..; s_M] + b``, with ``s_m`` the masked
    mean of ``x_m`` over its tokens (the squeeze). The gates act on the channels of every token of
    the stream and come from all streams together. There is one such module after each of the
    ``layers`` of the streams, ``x_m <- relu(V_m x_m)`` on every token, and the streams are fused
    late: ``f = mean over the present m of U_m (masked mean of x_m)``. With W_m = b_m = 0 all gates
    are one, which leaves a late fusion.

    ``z`` has ``M hidden / reduction`` entries, the paper's ``(C_1 + C_2) / 4``. The authors' code
    differs from the paper in three points: a relu after the squeeze (the field ``rectified``), no
    factor 2 on the gates (not offered here: it only halves the streams at the start), and twice
    as many entries of ``z`` (``reduction=2``).

    Differs from the paper: dense layers on tokens where the paper has convolutions; more than two
    modalities are concatenated in the squeeze, each with gates of its own; the gates of an absent
    modality are 0, and its part of the squeeze is 0; results are averaged before the head, which is
    averaging logits, as the head is affine.

    Limits: sees masked means of functions of one token: counts but no timing; gates are products
    of one modality's channels with a function of the others, so that a parity can be learnt.

    Cost: O(sum_m T_m S_m H (D_m + L H) + L M^2 H^2 / reduction) time, O(L sum_m T_m S_m H) memory
    per example, for H hidden units and L layers.

    Shapes: ``{m: [B, T_m, S_m, D_m]} -> [B, 1, 1, features]``; weights ``{m: [B, layers, hidden]}``
    are the gates.

    Raises:
      InputError: ``reduction`` is less than one.
    """

    features: int
    hidden: int
    layers: int = 2
    reduction: int = 4
    rectified: bool = False

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        del train
        if self.reduction < 1:
            raise InputError(f"mmtm: reduction={self.reduction} must be at least 1")
        order = names(tokens)
        present = {m: jnp.any(masks[m], axis=(1, 2)) for m in order}
        xs, weights = {m: tokens[m] for m in order}, []
        for layer in range(1, self.layers + 1):
            xs = {
                m: nn.relu(dense(self.hidden, x, f"stream_{m}_{layer}")(x)) for m, x in xs.items()
            }
            squeezed = {m: masked_mean(x, masks[m], axis=(1, 2)) for m, x in xs.items()}
            gates = self._gates(squeezed, present, layer)
            xs = {m: gates[m][:, None, None] * xs[m] for m in order}
            weights.append(gates)
        # A gate is the same for all tokens, so that it commutes with their mean.
        means = {m: gates[m] * squeezed[m] for m in order}
        outs = {m: dense(self.features, means[m], f"out_{m}")(means[m]) for m in order}
        maps = {m: jnp.stack([gates[m] for gates in weights], axis=1) for m in order}
        return one_token(mean_over_present(outs, present), any_present(present), maps)

    def _gates(
        self, squeezed: dict[str, Array], present: dict[str, Array], layer: int
    ) -> dict[str, Array]:
        """``{m: [B, hidden]}`` in (0, 2), exactly zero where the modality is absent."""
        joint = jnp.concatenate([squeezed[m] for m in names(squeezed)], axis=-1)
        width = max(1, joint.shape[-1] // self.reduction)
        z = dense(width, joint, f"squeeze_{layer}")(joint)
        z = nn.relu(z) if self.rectified else z
        gates = {m: 2 * nn.sigmoid(dense(self.hidden, z, f"gate_{m}_{layer}")(z)) for m in squeezed}
        return {m: jnp.where(present[m][:, None], gates[m], 0) for m in gates}


class Progressive(nn.Module):
    """Progressive fusion, fed back from late to early (Shankar et al. 2022, arXiv:2209.00302).

    ``s_r = G({relu(V_m h_m + b_m + W_m s_(r-1))}_m)`` for ``r = 1 .. iterations``, ``s_0 = 0`` and
    ``f = s_R``. ``G`` is the base fusion, here ``Concat`` (masked means, concatenation, a
    perceptron), and the line within it is the unimodal layer on every token of modality m, which
    sees by ``W_m`` what was fused before. All iterations share their weights. With W_m = 0, or one
    iteration (no ``W_m`` then), f is the base fusion of the unimodal layers.

    Differs from the paper: it leaves the base fusion and the place of the feedback open; here the
    feedback enters before the tokens are pooled, as that is where this base loses information. The
    loss is that of the last iteration alone.

    Limits: sees masked means of functions of one token and of the other modalities' means: counts
    and parities, but no timing.

    Cost: O(H sum_m T_m S_m D_m + R (M H (F + H) + H sum_m T_m S_m)) time,
    O(R H sum_m T_m S_m) memory per example, for H hidden units, F features and R iterations.

    Shapes: ``{m: [B, T_m, S_m, D_m]} -> [B, 1, 1, features]``; no weights.

    Raises:
      InputError: ``iterations`` is less than one.
    """

    features: int
    hidden: int
    iterations: int = 3

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        if self.iterations < 1:
            raise InputError(f"progressive: iterations={self.iterations} must be at least 1")
        order = names(tokens)
        drive = {m: dense(self.hidden, tokens[m], f"stream_{m}")(tokens[m]) for m in order}
        base = Concat(self.features, self.hidden, name="base")
        feedback = {}
        if self.iterations > 1:
            feedback = {m: self._feedback(tokens[m], m) for m in order}
        fused = base({m: nn.relu(drive[m]) for m in order}, masks, train=train)
        for _ in range(1, self.iterations):
            s = fused.tokens  # [B, 1, 1, features], added to every token.
            streams = {m: nn.relu(drive[m] + feedback[m](s)) for m in order}
            fused = base(streams, masks, train=train)
        return fused

    def _feedback(self, like: Array, m: str) -> nn.Dense:
        """``W_m``, without a bias: ``b_m`` is already there."""
        return nn.Dense(self.hidden, use_bias=False, dtype=like.dtype, name=f"feedback_{m}")
