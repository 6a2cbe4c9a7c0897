"""Vectors added, multiplied, pooled or concatenated in one common space."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmfuse.errors import InputError, nearest
from mmfuse.fusion.base import Fused, any_present, dense, mean_over_present, one_token, pooled
from mmfuse.fusion.late import VectorMLP
from mmfuse.fusion.spatial.factorised import product

Array = jax.Array


class Concat(nn.Module):
    """Concatenation and a two-layer perceptron (Ngiam et al. 2011, ICML).

    ``f = W_2 relu(W_1 [h_1; ..; h_M] + b_1) + b_2``, where ``h_m`` is the masked mean of modality
    m; an absent modality is a block of zeros.

    Differs from the paper: its joint representation is trained as an autoencoder, here only the
    label is used.

    Limits: reads masked means, so counts but no timing; sees products through its hidden layer.

    Cost: O(hidden (D + features)) time, O(hidden) memory per example, ``D = sum_m D_m``.

    Shapes: ``{m: [B, T, S, D_m]} -> [B, 1, 1, features]``; ``W_1`` is ``[sum_m D_m, hidden]``, its
    blocks in the alphabetical order of the modalities; no weights.
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


class Sum(nn.Module):
    """Linear sum (Peng et al. 2022, arXiv:2203.15332, as a baseline).

    ``f = sum_m p_m (W_m h_m + b_m)``, where ``h_m`` is the masked mean of modality m and ``p_m`` is
    1 where it is there, else 0. With all present it is one linear map of ``[h_1; ..; h_M]``.

    Differs from the paper: an absent modality leaves the sum with its bias.

    Limits: a sum of one-modality terms on masked means: no parity of two modalities, no timing.

    Cost: O(features D) time, O(features) memory per example, ``D = sum_m D_m``.

    Shapes: ``{m: [B, T, S, D_m]} -> [B, 1, 1, features]``; no weights.
    """

    features: int

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        del train
        vectors, present = pooled(tokens, masks)
        terms = projections(self.features, vectors, present)
        return one_token(sum(terms.values()), any_present(present))


class Product(nn.Module):
    """Elementwise product (Antol et al. 2015, arXiv:1505.00468).

    ``f = prod over the present m of (W_m h_m + b_m)``, where ``h_m`` is the masked mean of modality
    m; an absent modality is the neutral element 1. Multiplied out this is a sum over the subsets of
    the modalities, the rest of each subset contributing its biases.

    The biases start at 1, not at 0: a product of M factors of mean zero, and with it the gradient
    of every factor, all but vanishes as M grows.

    Differs from the paper: linear factors where it has tanh, and any number of them; the linear map
    after the product is the head's.

    Limits: reads masked means, so counts but no timing; each feature is one product of linear
    forms, so it sees parities of all modalities together, and of fewer through the biases.

    Cost: O(features D) time, O(M features) memory per example, ``D = sum_m D_m``.

    Shapes: ``{m: [B, T, S, D_m]} -> [B, 1, 1, features]``; no weights.
    """

    features: int

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        del train
        vectors, present = pooled(tokens, masks)
        ones, factors = nn.initializers.ones, {}
        for m, x in vectors.items():
            layer = nn.Dense(self.features, dtype=x.dtype, bias_init=ones, name=f"factor_{m}")
            factors[m] = layer(x)
        return one_token(product(factors, present), any_present(present))


POOLS = ("mean", "sum", "max")


class DeepSet(nn.Module):
    """Deep set of modalities (Zaheer et al. 2017, arXiv:1703.06114).

    ``f = MLP(pool over the present m of u_m), u_m = V_m h_m + c_m`` of ``width``,
    ``MLP(u) = W_2 relu(W_1 u + b_1) + b_2``, where ``h_m`` is the masked mean of modality m and
    ``pool`` is "mean", "sum" or "max" (by element). With ``normalize`` it is ``u_m / |u_m|`` that
    is pooled, as in TorchMultimodal's DeepsetFusion. With "sum" and without ``normalize`` this is
    ``Concat`` whose first layer is the product ``W_1 [V_1 .. V_M]``.

    Differs from the paper: the set is that of the modalities, as in Reiter et al. 2020
    (arXiv:2003.01607); its elements are mapped linearly before the pooling (the encoders are the
    deep part), each by a matrix of its own, as they differ in width.

    Limits: reads masked means, so counts but no timing; sees products through the MLP.

    Cost: O(width (D + features) + features^2) time, O(M width + features) memory per example,
    ``D = sum_m D_m``.

    Shapes: ``{m: [B, T, S, D_m]} -> [B, 1, 1, features]``; no weights.

    Raises:
      InputError: ``pool`` is none of the three.
    """

    features: int
    width: int
    pool: str = "mean"
    normalize: bool = False

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        del train
        if self.pool not in POOLS:
            raise InputError(
                f"fusion.pool='{self.pool}'; allowed: {', '.join(POOLS)}{nearest(self.pool, POOLS)}"
            )
        vectors, present = pooled(tokens, masks)
        elements = projections(self.width, vectors, present)
        if self.normalize:
            elements = {m: unit(x) for m, x in elements.items()}
        f = VectorMLP(self.features, name="mlp")(pool_present(self.pool, elements, present))
        return one_token(f, any_present(present))


class ModalityAttention(nn.Module):
    """Attention over modalities (Hori et al. 2017, arXiv:1701.03126).

    ``f = sum_m a_m (W_m h_m + b_m), a = softmax over the present m of (U [h_1; ..; h_M] + c)``,
    where ``h_m`` is the masked mean of modality m, zero if it is absent. A single modality has
    weight 1 and no scores.

    Differs from the paper: its score ``v . tanh(W s + V_m h_m + b_m)`` depends on a decoder's state
    ``s``, which a single decision does not have; here, as in TorchMultimodal's AttentionFusion, a
    linear score sees all modalities together.

    Limits: reads masked means, so counts but no timing; modalities meet only in linear scores, and
    a mean weighted by these cannot tell the parity of two modalities if there are only two.

    Cost: O((features + M) D) time, O(M features) memory per example, ``D = sum_m D_m``.

    Shapes: ``{m: [B, T, S, D_m]} -> [B, 1, 1, features]``; weights ``{m: [B]}`` add up to 1.
    """

    features: int

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        del train
        vectors, present = pooled(tokens, masks)
        weights = self._weights(vectors, present)
        values = projections(self.features, vectors, present)
        f = sum(weights[m][:, None] * x for m, x in values.items())
        return one_token(f, any_present(present), weights)

    def _weights(self, vectors: dict[str, Array], present: dict[str, Array]) -> dict[str, Array]:
        """``{m: [B]}``, exactly zero where the modality is absent."""
        order, joint = list(vectors), jnp.concatenate(list(vectors.values()), axis=-1)
        there = jnp.stack([present[m] for m in order], axis=-1)
        if len(order) == 1:
            return {order[0]: there[:, 0].astype(joint.dtype)}
        scores = dense(len(order), joint, "score")(joint).astype(jnp.float32)
        a = jax.nn.softmax(scores, where=there, axis=-1).astype(joint.dtype)
        return {m: a[:, i] for i, m in enumerate(order)}


def projections(
    features: int, vectors: dict[str, Array], present: dict[str, Array]
) -> dict[str, Array]:
    """``{m: W_m h_m + b_m}``, each ``[B, features]`` and exactly zero where m is absent.

    To be called inside a compact method, whose module gets the layers ``project_{m}``.
    """
    return {
        m: jnp.where(present[m][:, None], dense(features, x, f"project_{m}")(x), 0)
        for m, x in vectors.items()
    }


def pool_present(pool: str, elements: dict[str, Array], present: dict[str, Array]) -> Array:
    """``{m: [B, D]} -> [B, D]``: the "mean", "sum" or "max" over those present; of none it is 0."""
    if pool == "mean":
        return mean_over_present(elements, present)
    there = jnp.stack([present[m][:, None] for m in elements])
    stacked = jnp.stack(list(elements.values()))
    if pool == "sum":
        return jnp.sum(jnp.where(there, stacked, 0), axis=0)
    lowest = jnp.finfo(stacked.dtype).min
    highest = jnp.max(jnp.where(there, stacked, lowest), axis=0)
    return jnp.where(jnp.any(there, axis=0), highest, 0)


def norm(x: Array) -> Array:
    """``|x|_2 [..., 1]`` over the last axis, in float32; the gradient at zero is zero, not NaN."""
    square = jnp.sum(jnp.square(x.astype(jnp.float32)), axis=-1, keepdims=True)
    positive = square > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1)), 0)


def unit(x: Array) -> Array:
    """``x / |x|_2`` over the last axis; zero stays zero."""
    length = norm(x)
    return (x / jnp.where(length > 0, length, 1)).astype(x.dtype)
