"""Each modality believes something about one hidden vector; beliefs are multiplied."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmfuse.fusion.base import Fused, any_present, dense, one_token, pooled

Array = jax.Array
BOUND = 10.0  # On the logarithm of an expert's variance, so that its exponential stays finite.


class ProductOfExperts(nn.Module):
    """Product of Gaussian experts (MVAE, Wu & Goodman 2018, arXiv:1802.05335).

    ``q(z) = N(z; 0, 1) prod over the present m of N(z; mu_m, s_m^2) / const``: a Gaussian of
    precision ``T = 1 + sum_m T_m`` and mean ``f = sum_m T_m mu_m / T``, with ``T_m = 1 / s_m^2``.
    An expert is ``[mu_m; log s_m^2] = W_m relu(V_m h_m + c_m) + b_m``, its logarithm kept in
    [-10, 10]. The prior N(0, 1) is an expert too, so that the product exists with no modality at
    all; an absent modality drops its expert, exactly as if the model had been without it.

    The result is the mean; with ``sample`` it is, in training, a draw
    ``z = f + eps / sqrt(T)``, as in the paper. ``beta`` scales the auxiliary loss ``kl``,
    ``beta KL(q || N(0, 1)) = beta / 2 sum_k (f_k^2 + 1/T_k - 1 + log T_k)`` (how far an
    example moves from the prior, in nats); ``beta = 0`` leaves it out.

    Differs from the paper: no decoders and no reconstruction, so that of the evidence lower bound
    only the KL term is there, next to the task's loss; hence no terms on subsets of the modalities
    either, by which the paper trains the experts one by one; the mean by default.

    Limits: reads masked means: no timing; modalities meet only in the weights of a mean (who is
    sure silences the others), which is no sum, and so enough for a parity.
    Cost: O(hidden sum_m (D_m + features)) time, O(M (hidden + features)) memory per example.

    Shapes: ``{m: [B, T, S, D_m]} -> [B, 1, 1, features]``; weights ``{m: [B, features]}``, the
    share ``T_m / T`` of the precision (the rest is the prior's).
    """

    features: int
    hidden: int
    beta: float = 1e-3
    sample: bool = False

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        vectors, present = pooled(tokens, masks)
        means, precisions = {}, {}
        for m, x in vectors.items():
            h = nn.relu(dense(self.hidden, x, f"hidden_{m}")(x))
            belief = dense(2 * self.features, h, f"expert_{m}")(h).astype(jnp.float32)
            means[m], log_variance = jnp.split(belief, 2, axis=-1)
            precision = jnp.exp(-jnp.clip(log_variance, -BOUND, BOUND))
            precisions[m] = jnp.where(present[m][:, None], precision, 0)
        mean, precision = product_of_gaussians(means, precisions)
        z = mean
        if train and self.sample:
            # The one stream of random numbers that a fusion is given in training.
            noise = jax.random.normal(self.make_rng("dropout"), mean.shape, mean.dtype)
            z = mean + noise * jax.lax.rsqrt(precision)
        shares = {m: (t / precision).astype(x.dtype) for m, t in precisions.items()}
        fused = one_token(z.astype(x.dtype), any_present(present), shares)
        if train and self.beta:
            return fused.replace(losses={"kl": self.beta * kl_from_unit(mean, precision)})
        return fused


def product_of_gaussians(
    means: dict[str, Array], precisions: dict[str, Array]
) -> tuple[Array, Array]:
    """Mean and precision of ``N(0, 1)`` times ``N(mean_m, 1 / precision_m)`` over m, ``[B, D]``."""
    precision = 1 + sum(precisions.values())
    return sum(precisions[m] * means[m] for m in means) / precision, precision


def kl_from_unit(mean: Array, precision: Array) -> Array:
    """``KL(N(mean, 1 / precision) || N(0, 1))`` summed over the features: ``[B, D] -> [B]``."""
    return 0.5 * jnp.sum(mean**2 + 1 / precision - 1 + jnp.log(precision), axis=-1)
