"""Late fusion by evidence: each modality says how much it knows, not only what."""

from __future__ import annotations

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.scipy.special import digamma, gammaln

from mmfuse.fusion.base import Fused, names
from mmfuse.fusion.late.decisions import classify, decided

Array = jax.Array


class TMC(nn.Module):
    """Trusted multi-view classification (Han et al. 2021, arXiv:2102.02051).

    ``1 + e_k / C = prod_m (1 + e_mk / C)``, ``p(k) = (e_k + 1) / sum_j (e_j + 1)`` with the
    evidences ``e_m = softplus(W_m MLP_m(mean_m) + b_m)`` of the modalities that are present. They
    are the parameters ``alpha_m = e_m + 1`` of Dirichlet distributions over the C classes. The
    product is the paper's reduced Dempster combination of the opinions ``b_mk = e_mk / S_m``,
    ``u_m = C / S_m``, ``S_m = sum_k alpha_mk``: there ``b_k = (b_1k b_2k + b_1k u_2 + b_2k u_1) /
    (1 - conflict)`` and ``u = u_1 u_2 / (1 - conflict)``, so that ``e_k = C b_k / u`` is
    ``e_1k + e_2k + e_1k e_2k / C`` and the order does not matter. A modality that is absent has no
    evidence, and nothing changes. The scores are ``log p(k)``.

    For a label c, ``L(e, c) = psi(S) - psi(alpha_c) + annealing KL(Dir(alpha~) || Dir(1))``, where
    ``alpha~`` is alpha with the label's evidence taken out, and the paper's loss is
    ``L(e, c) + sum over the present m of L(e_m, c)``. As the trainer adds the cross-entropy of the
    scores anyhow, ``losses["tmc"]`` is this loss less that cross-entropy: together they are the
    paper's loss exactly (with ``label_smoothing = 0``).

    Differs from the paper: the coefficient of KL grows there from 0 to 1 over the first epochs, and
    a fusion knows of no epoch, so that the field ``annealing`` is constant; its default is the
    paper's final value. The evidence networks are those of ``unimodal``, with a hidden layer.

    Limits: evidence per modality, combined class by class: no parity of two modalities; reads
    masked means: counts but no timing.

    Cost: O(M features (D + features + C)) time, O(M (features + C)) memory per example; the loss
    O(M C^2) time.

    Shapes: ``{m: [B, T, S, D_m]} -> [B, 1, 1, outputs]``, decided; weights ``{m: [B]}`` are the
    belief masses ``1 - u_m``, what a modality claims to know.

    Raises:
      InputError: fewer than two classes.
    """

    features: int
    outputs: int
    annealing: float = 1.0

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        logits, present = classify(tokens, masks, self.features, self.outputs)
        evidence = jax.nn.softplus(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))
        evidence = jnp.where(present[..., None], evidence, 0)
        combined = combine(evidence)
        alpha = combined + 1
        scores = jnp.log(alpha) - jnp.log(jnp.sum(alpha, axis=-1, keepdims=True))
        losses = {"tmc": self._loss(evidence, combined, present) + scores} if train else None
        total = jnp.sum(evidence, axis=-1)
        belief = (total / (total + self.outputs)).astype(logits.dtype)
        fused = decided(scores, present, logits, losses)
        return fused.replace(weights={m: belief[:, i] for i, m in enumerate(names(tokens))})

    def _loss(self, evidence: Array, combined: Array, present: Array) -> Array:
        """The paper's loss by label, ``[B, C]``."""
        # The views and their combination as one array: its special functions compile slowly.
        everyone = jnp.concatenate([evidence, combined[:, None]], axis=1)
        counts = jnp.concatenate([present, jnp.ones_like(present[:, :1])], axis=1)
        losses = evidential_loss(everyone, self.annealing)
        return jnp.sum(jnp.where(counts[..., None], losses, 0), axis=1)


def combine(evidence: Array) -> Array:
    """``[B, M, C] -> [B, C]``: the reduced Dempster combination, in logarithms."""
    classes = evidence.shape[-1]
    return classes * jnp.expm1(jnp.sum(jnp.log1p(evidence / classes), axis=1))


def evidential_loss(evidence: Array, annealing: float) -> Array:
    """``L(e, c)`` of ``TMC`` for each label c: ``[..., C] -> [..., C]``.

    With ``S~ = sum_k alpha~_k`` and ``alpha~ = e~ + 1``, where ``e~`` is e without the label's, the
    divergence is ``ln G(S~) - ln G(C) - sum_k ln G(alpha~_k) + sum_k e~_k (psi(alpha~_k) -
    psi(S~))``. Sums over the other classes are taken as such: a total less the label's own part,
    usually the largest of all, would cancel to noise.
    """
    classes = evidence.shape[-1]
    away = 1 - jnp.eye(classes, dtype=evidence.dtype)

    def others(x: Array) -> Array:
        return jnp.matmul(x, away, precision=jax.lax.Precision.HIGHEST)

    misled = others(evidence)
    alpha, rest = evidence + 1, misled + classes
    total = jnp.sum(alpha, axis=-1, keepdims=True)
    splits = [classes, 2 * classes]
    psi, psi_rest, psi_total = jnp.split(
        digamma(jnp.concatenate([alpha, rest, total], axis=-1)), splits, axis=-1
    )
    log_gamma, log_gamma_rest = jnp.split(gammaln(jnp.concatenate([alpha, rest], axis=-1)), 2, -1)
    divergence = log_gamma_rest - math.lgamma(classes) - others(log_gamma)
    divergence = divergence + others(evidence * psi) - misled * psi_rest
    return psi_total - psi + annealing * divergence
