"""Rules that combine the decisions of one-modality classifiers."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmfuse.errors import InputError
from mmfuse.fusion.base import Fused, dense, names, pooled
from mmfuse.fusion.late.controls import VectorMLP

Array = jax.Array


class Classifier(nn.Module):
    """A one-modality classifier, ``z = W MLP(x) + b``: the row ``unimodal`` with its head."""

    features: int
    outputs: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """``[B, D] -> [B, outputs]``."""
        h = VectorMLP(self.features, name="mlp")(x)
        return dense(self.outputs, h, "affine")(h)


def classify(
    tokens: dict[str, Array], masks: dict[str, Array], features: int, outputs: int
) -> tuple[Array, Array]:
    """The logits ``[B, M, C]`` of one classifier a modality, and who is present, ``[B, M]``.

    Raises:
      InputError: there are no classes to decide between, as in a regression.
    """
    if outputs < 2:
        raise InputError(
            f"this fusion decides between classes, and a task with outputs={outputs} has none"
            "; for a regression use late_average or another fusion of vectors"
        )
    vectors, present = pooled(tokens, masks)
    logits = [Classifier(features, outputs, name=m)(x) for m, x in vectors.items()]
    return jnp.stack(logits, axis=1), jnp.stack(list(present.values()), axis=1)


def log_posteriors(logits: Array) -> Array:
    """``log softmax(z)``, in float32 at least."""
    return jax.nn.log_softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))


def decided(
    scores: Array, present: Array, like: Array, losses: dict[str, Array] | None = None
) -> Fused:
    """The scores of the classes ``[B, C]`` as a decision, in the dtype of ``like``."""
    token = scores.astype(like.dtype)[:, None, None, :]
    anything = jnp.any(present, axis=1)[:, None, None]
    return Fused(token, anything, losses=losses or {}, decided=True)


def own_losses(
    log_p: Array, present: Array, tokens: dict[str, Array], scale: float
) -> dict[str, Array]:
    """``{m: [B, C]}``: by label, the cross-entropy of each present modality's own classifier."""
    loss = -scale * jnp.where(present[..., None], log_p, 0)
    return {m: loss[:, i] for i, m in enumerate(names(tokens))}


class ProbabilityProduct(nn.Module):
    """Product of probabilities (Kittler et al. 1998, doi:10.1109/34.667881).

    ``p(c) = P(c)^(1-n) prod_m p_m(c) / Z`` over the n modalities that are present, with the
    one-modality posteriors ``p_m = softmax(W_m MLP_m(mean_m) + b_m)`` and class priors P: Bayes'
    rule, if modalities are independent given the class. The scores are ``log p(c)``. With nothing
    present they are the prior's.

    ``prior`` holds the P(c); None, as in most uses of the rule, means equal ones, which cancel.

    Differs from the paper: the classifiers are trained together, through the product, so that the
    factors share the evidence and none is a posterior by itself. The logits are then simply added.

    Limits: a sum of one-modality terms in the logits, so no parity of two modalities; reads masked
    means: counts but no timing.

    Cost: O(M features (D + features + C)) time, O(M (features + C)) memory per example.

    Shapes: ``{m: [B, T, S, D_m]} -> [B, 1, 1, outputs]``, decided; no weights.

    Raises:
      InputError: fewer than two classes; ``prior`` is not a positive number for every class.
    """

    features: int
    outputs: int
    prior: tuple[float, ...] | None = None

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        del train
        logits, present = classify(tokens, masks, self.features, self.outputs)
        log_p = product_rule(log_posteriors(logits), present, self._log_prior())
        return decided(log_p, present, logits)

    def _log_prior(self) -> np.ndarray:
        if self.prior is None:
            return np.zeros(self.outputs, np.float32)
        prior = np.asarray(self.prior, np.float32)
        if prior.shape != (self.outputs,) or not np.all(prior > 0) or not np.isfinite(prior).all():
            raise InputError(
                f"probability_product: prior={self.prior} must hold {self.outputs} positive"
                " numbers, one for each class"
            )
        return np.log(prior)  # Any scale will do: the result is normalised.


def product_rule(log_p: Array, present: Array, log_prior: np.ndarray) -> Array:
    """``log p(c) [B, C]`` from posteriors ``[B, M, C]``, presence ``[B, M]`` and priors ``[C]``."""
    joint = jnp.sum(jnp.where(present[..., None], log_p, 0), axis=1)
    number = jnp.sum(present, axis=1, dtype=joint.dtype)[:, None]
    return jax.nn.log_softmax(joint + (1 - number) * log_prior.astype(joint.dtype)[None])


class Stacking(nn.Module):
    """Learned stacking (Wolpert 1992, doi:10.1016/S0893-6080(05)80023-1).

    ``s = sum_m V_m log p_m + b`` over the modalities that are present: a logistic regression on the
    decisions of one-modality classifiers, ``p_m = softmax(W_m MLP_m(mean_m) + b_m)``. Each of them
    is trained by its own cross-entropy, which is added to the loss ``own`` times (by label, under
    the modality's name); the stacker is trained by the task's loss. As its inputs are given in
    stacking, no gradient passes from it into the classifiers. Every ``V_m`` starts as the
    identity, so the stacker starts as the product of probabilities.

    Differs from the paper: the levels are trained at the same time and on the same examples, where
    the paper trains the second on predictions for examples that the first has not seen; so an
    overfitted classifier is trusted too much.

    Limits: a sum of one-modality terms in the logits, so no parity of two modalities; reads masked
    means: counts but no timing.

    Cost: O(M features (D + features + C) + M C^2) time, O(M (features + C)) memory per example.

    Shapes: ``{m: [B, T, S, D_m]} -> [B, 1, 1, outputs]``, decided; no weights.

    Raises:
      InputError: fewer than two classes.
    """

    features: int
    outputs: int
    own: float = 1.0

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        logits, present = classify(tokens, masks, self.features, self.outputs)
        log_p = log_posteriors(logits)
        given = jnp.where(present[..., None], jax.lax.stop_gradient(log_p), 0)
        stacked = given.reshape(given.shape[0], -1)
        scores = nn.Dense(
            self.outputs, dtype=stacked.dtype, kernel_init=_identities, name="stacker"
        )(stacked)
        losses = own_losses(log_p, present, tokens, self.own) if train else None
        return decided(scores, present, logits, losses)


def _identities(key: Array, shape: tuple[int, int], dtype: jnp.dtype = jnp.float32) -> Array:
    """``[M * C, C]``: M identities, one above the other."""
    del key
    return jnp.tile(jnp.eye(shape[1], dtype=dtype), (shape[0] // shape[1], 1))


class MajorityVote(nn.Module):
    """Majority vote (Kittler et al. 1998, doi:10.1109/34.667881).

    ``q(c) = (v(c) + mean_m p_m(c)) / (n + 1)``, where ``v(c)`` counts the votes: each of the n
    modalities that are present votes for the most probable class of its own classifier,
    ``p_m = softmax(W_m MLP_m(mean_m) + b_m)``. The scores are ``log q(c)``. The mean probability
    is less than one vote, so it only breaks ties; it also keeps ``q`` positive everywhere, so that
    its cross-entropy is finite. With nothing present ``q`` is uniform.

    A vote has no gradient: the scores are stopped, and the task's loss, the cross-entropy of ``q``,
    is measured but trains nothing. Each classifier is trained by its own cross-entropy, which is
    added to the loss ``own`` times (by label, under the modality's name).

    Differs from the paper: ties, of which it says nothing, go to the largest mean probability; the
    classifiers are trained side by side in one run.

    Limits: one-modality classifiers that never see each other: no parity of two modalities, and for
    two modalities no more than the surer one of them; reads masked means: counts but no timing.

    Cost: O(M features (D + features + C)) time, O(M (features + C)) memory per example.

    Shapes: ``{m: [B, T, S, D_m]} -> [B, 1, 1, outputs]``, decided; no weights.

    Raises:
      InputError: fewer than two classes.
    """

    features: int
    outputs: int
    own: float = 1.0

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        logits, present = classify(tokens, masks, self.features, self.outputs)
        log_p = log_posteriors(logits)
        losses = own_losses(log_p, present, tokens, self.own) if train else None
        return decided(vote(jax.lax.stop_gradient(log_p), present), present, logits, losses)


def vote(log_p: Array, present: Array) -> Array:
    """``log q [B, C]`` of ``MajorityVote`` from ``log p [B, M, C]`` and presence ``[B, M]``."""
    classes = log_p.shape[-1]
    ballots = jax.nn.one_hot(jnp.argmax(log_p, axis=-1), classes, dtype=log_p.dtype)
    number = jnp.sum(present, axis=1, dtype=log_p.dtype)[:, None]
    votes = jnp.sum(jnp.where(present[..., None], ballots, 0), axis=1)
    # In logarithms throughout: a probability that underflows must not give log(0).
    log_sum = jax.nn.logsumexp(jnp.where(present[..., None], log_p, -jnp.inf), axis=1)
    log_mean = jnp.where(number > 0, log_sum - jnp.log(jnp.maximum(number, 1)), -np.log(classes))
    return jnp.logaddexp(jnp.log(votes), log_mean) - jnp.log(number + 1)
