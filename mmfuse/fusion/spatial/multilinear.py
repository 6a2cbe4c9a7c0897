"""Products of all modalities: the full tensor, and low-rank forms of it."""

from __future__ import annotations

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmfuse.fusion.base import Fused, any_present, dense, one_token, pooled

Array = jax.Array


class TFN(nn.Module):
    """Tensor fusion network (Zadeh et al. 2017, arXiv:1707.07250).

    ``z = [1; u_1] x .. x [1; u_M]`` (outer product), ``u_m = relu(V_m h_m + c_m)`` of ``width``,
    ``f = relu(W z + b)``. The ones make ``W z`` a sum over all subsets of modalities, each with a
    weight tensor of its own: ``W z = sum_{A} W_A (x)_{m in A} u_m``. An absent modality is the
    vector ``[1; 0]``, which leaves the subsets without it.

    ``z`` has ``(width + 1)^M`` entries an example and is never built: the factors are multiplied up
    to two halves, ``l [B, L]`` and ``r [B, N]``, and ``f_bf = sum_n (sum_l l_bl W_lnf) r_bn``,
    which holds ``B (L + N F)`` numbers instead of ``B L N``. The products are the same number.

    Differs from the paper: one layer per modality before the product and one after it (the head is
    the decision layer), where the paper has deeper subnetworks on both sides.

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
            u = u * present[m][:, None].astype(u.dtype)
            factors.append(jnp.concatenate([jnp.ones_like(u[:, :1]), u], axis=-1))
        order = len(factors)
        init = nn.initializers.lecun_normal(in_axis=tuple(range(order)), out_axis=-1)
        kernel = self.param("kernel", init, (self.width + 1,) * order + (self.features,))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        f = _contract(factors, kernel.astype(factors[0].dtype))
        return one_token(nn.relu(f + bias.astype(f.dtype)[None]), any_present(present))


def _outer(factors: list[Array]) -> Array:
    """``[B, P_1], .., [B, P_n] -> [B, P_1 * .. * P_n]``, the last factor fastest."""
    result = factors[0]
    for factor in factors[1:]:
        result = (result[:, :, None] * factor[:, None, :]).reshape(result.shape[0], -1)
    return result


def _contract(factors: list[Array], kernel: Array) -> Array:
    """``sum_ij.. W_ij..f x_i y_j ..`` for ``[B, P]`` factors: ``[B, F]``, from two halves."""
    half = math.ceil(len(factors) / 2)
    left = _outer(factors[:half])
    rest = left @ kernel.reshape(left.shape[1], -1)
    rest = rest.reshape(left.shape[0], -1, kernel.shape[-1])
    if half == len(factors):
        return rest[:, 0]
    return jnp.einsum("bnf,bn->bf", rest, _outer(factors[half:]))
