"""Products of all modalities: the full tensor, and its low-rank form."""

from __future__ import annotations

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmfuse.fusion.base import Fused, any_present, dense, one_token, pooled

Array = jax.Array


class TFN(nn.Module):
    """Tensor fusion network (Zadeh et al. 2017, arXiv:1707.07250).

    ``f = relu(W z + b), z = [1; u_1] x .. x [1; u_M]`` (outer product), with
    ``u_m = relu(V_m h_m + c_m)`` of ``width``. The ones make ``W z`` a sum over all subsets of
    modalities, each with a weight tensor of its own: ``W z = sum_{A} W_A (x)_{m in A} u_m``. An
    absent modality is the vector ``[1; 0]``, which leaves the subsets without it.

    ``z`` has ``(width + 1)^M`` entries an example and is never built, see ``contract``.

    Differs from the paper: one layer per modality before the product and one after it (the head is
    the decision layer), where the paper has deeper subnetworks on both sides.

    Limits: products of all modalities at once, so parities of any of them, but of masked means:
    no timing; every further modality multiplies the size by ``width + 1``.

    Cost: O(P^M F) time and parameters, O(P^M' + P^(M-M') F) memory per example, with
    ``P = width + 1`` and the split M' of the modalities that makes it least (about half of them).

    Shapes: ``{m: [B, T, S, D_m]} -> [B, 1, 1, features]``; ``W [width+1, .. (M times), features]``.
    """

    features: int
    width: int

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        del train
        vectors, present = pooled(tokens, masks)
        factors = []
        for m, x in vectors.items():
            u = nn.relu(dense(self.width, x, f"factor_{m}")(x))
            factors.append(with_one(u * present[m][:, None].astype(u.dtype)))
        order = len(factors)
        init = nn.initializers.lecun_normal(in_axis=tuple(range(order)), out_axis=-1)
        kernel = self.param("kernel", init, (self.width + 1,) * order + (self.features,))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        f = contract(factors, kernel.astype(factors[0].dtype))
        return one_token(nn.relu(f + bias.astype(f.dtype)[None]), any_present(present))


class LMF(nn.Module):
    """Low-rank multimodal fusion (Liu et al. 2018, arXiv:1806.00064).

    ``f = sum_r w_r prod_m (W_m^r [1; h_m]) + b`` (elementwise product over m, ``rank`` terms). This
    is the linear map of ``TFN`` whose tensor is the sum of ``rank`` outer products (CP form),
    ``W_ij..f = sum_r w_r W_1if^r W_2jf^r ..``, at a cost that is linear in the modalities. The
    column of ``W_m^r`` that meets the one is the bias of the Dense layer ``factor_m``; it is all
    that an absent modality leaves of its factor, as ``[1; 0]`` does in ``TFN``.

    Differs from the paper: the sum over r has learned weights ``w_r`` (from one), as in the
    authors' code; ``weighted=False`` is the plain sum of the paper, the same set of functions. No
    subnetworks before the product: they are the encoders. The biases start at random signs instead
    of small numbers, and everything is scaled by ``rank^(-1/2M)``: the product of M small numbers
    would start near zero, and here f starts as a linear map of unit variance plus products.

    Limits: products of all modalities at once, so parities, as far as ``rank`` terms a feature
    reach; reads masked means: no timing.

    Cost: O(R F sum_m D_m) time and parameters, O(M R F) memory per example, with ``R = rank``.

    Shapes: ``{m: [B, T, S, D_m]} -> [B, 1, 1, features]``; ``W_m [D_m, rank * features]``, r slow.
    """

    features: int
    rank: int = 4
    weighted: bool = True

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        del train
        vectors, present = pooled(tokens, masks)
        product = math.prod(self._factor(m, x, len(vectors)) for m, x in vectors.items())
        product = product.reshape(product.shape[0], self.rank, self.features)
        if self.weighted:
            weight = self.param("rank_weight", nn.initializers.ones, (self.rank,))
            f = jnp.einsum("r,brf->bf", weight.astype(product.dtype), product)
        else:
            f = jnp.sum(product, axis=1)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return one_token(f + bias.astype(f.dtype)[None], any_present(present))

    def _factor(self, m: str, x: Array, modalities: int) -> Array:
        """``W_m^r [1; h_m]`` for all r at once: ``[B, D_m] -> [B, rank * features]``."""
        scale = self.rank ** (-1 / modalities)
        normal = nn.initializers.variance_scaling(scale, "fan_in", "truncated_normal")

        def signs(key: Array, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
            return math.sqrt(scale) * jax.random.rademacher(key, shape, dtype)

        size, name = self.rank * self.features, f"factor_{m}"
        return nn.Dense(size, dtype=x.dtype, kernel_init=normal, bias_init=signs, name=name)(x)


def with_one(x: Array) -> Array:
    """``[1; x]``: ``[B, D] -> [B, 1 + D]``."""
    return jnp.concatenate([jnp.ones_like(x[:, :1]), x], axis=-1)


def contract(factors: list[Array], kernel: Array) -> Array:
    """``f = sum_ij.. W_ij..f x_i y_j ..``: ``[B, P_1], .., [P_1, .., P_M, F] -> [B, F]``.

    The outer product of all factors is never built: they are multiplied up to two parts,
    ``l [B, L]`` and ``r [B, N]``, and ``f_bf = sum_n (sum_l l_bl W_lnf) r_bn``, which holds
    ``B (L + N F)`` numbers instead of ``B L N``. The products are the same number wherever the
    factors are split, so the split is the one that holds the least.
    """
    cut = _split([x.shape[1] for x in factors], kernel.shape[-1])
    left = _outer(factors[:cut])
    rest = left @ kernel.reshape(left.shape[1], -1)
    rest = rest.reshape(left.shape[0], -1, kernel.shape[-1])
    if cut == len(factors):
        return rest[:, 0]
    return jnp.einsum("bnf,bn->bf", rest, _outer(factors[cut:]))


def _split(sizes: list[int], features: int) -> int:
    """How many factors to multiply up first, so that ``L + N F`` is least."""
    cuts = range(1, max(2, len(sizes)))
    return min(cuts, key=lambda k: math.prod(sizes[:k]) + math.prod(sizes[k:]) * features)


def _outer(factors: list[Array]) -> Array:
    """``[B, P_1], .., [B, P_n] -> [B, P_1 * .. * P_n]``, the last factor fastest."""
    result = factors[0]
    for factor in factors[1:]:
        result = (result[:, :, None] * factor[:, None, :]).reshape(result.shape[0], -1)
    return result
