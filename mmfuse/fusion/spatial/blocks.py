"""Tucker's core tensor between projected vectors: whole, with slices of low rank, in blocks."""

from __future__ import annotations

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmfuse.errors import InputError
from mmfuse.fusion.base import Fused, any_present, dense, one_token, pooled
from mmfuse.fusion.spatial.factorised import (
    factors,
    ones_if_absent,
    out_layer,
    power_normalised,
    product,
)
from mmfuse.fusion.spatial.multilinear import contract

Array = jax.Array


class Tucker(nn.Module):
    """Tucker fusion (Ben-Younes et al. 2017, arXiv:1705.06676, section 3.1).

    ``f = W z + b, z_k = sum_ij T_ijk u_1i u_2j``, ``u_m = tanh(V_m h_m + c_m)``: any bilinear map
    between the two projections, that is, a full tensor of the inputs of mode ranks ``width``
    at most. With ``tanh=False`` it is their equation before the non-linearities.

    More than two modalities share one M-way core up to M = ``order``. Beyond, every ``order`` of
    them have a core of their own and their results are added: ``order=2`` is pairwise.

    Differs from the paper: more than two modalities; biases, as in the authors' code; an absent
    modality is a vector of ones, so that the others still meet.

    Limits: reads masked means; learns parities of up to ``order`` modalities, but no timing.
    Cost: O(width^(A+1)) time and parameters and O(width^2) memory per example for each of
    binom(M, A) cores, ``A = min(M, order)`` up to 3 (more memory beyond).

    Shapes: ``{m: [B, T, S, D_m]} -> [B, 1, 1, features]``; ``T [width, .. (A+1 times)]``; no
    weights.
    """

    features: int
    width: int
    order: int = 3
    tanh: bool = True

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        del train
        vectors, present = pooled(tokens, masks)
        u = factors(vectors, self.width, tanh=self.tanh)
        u = {m: ones_if_absent(x, present[m]) for m, x in u.items()}
        together = itertools.combinations(u, min(self.order, len(u)))
        z = sum(self._met([u[m] for m in chosen], "_".join(chosen)) for chosen in together)
        return one_token(dense(self.features, z, "out")(z), any_present(present))

    def _met(self, u: list[Array], name: str) -> Array:
        """``[B, width]``, .. through a core of their own: ``[B, width]``."""
        init = nn.initializers.lecun_normal(in_axis=tuple(range(len(u))), out_axis=-1)
        core = self.param(f"core_{name}", init, (self.width,) * (len(u) + 1))
        return contract(u, core.astype(u[0].dtype))


def low_rank(u: dict[str, Array], present: dict[str, Array], rank: int, suffix: str = "") -> Array:
    """``z = sum_r prod over the present m of M_m,r u_m``: ``{m: [B, N]} -> [B, N]``, in a module.

    A core whose slice for each output is a sum of ``rank`` outer products,
    ``T_ijk = sum_r M_1,rki M_2,rkj``.
    """

    def slices(m: str, x: Array) -> Array:
        size = rank * x.shape[-1]
        layer = nn.Dense(size, use_bias=False, dtype=x.dtype, name=f"slices_{m}{suffix}")
        return layer(x).reshape(x.shape[0], rank, -1)

    return jnp.sum(product({m: slices(m, x) for m, x in u.items()}, present), axis=1)


class Mutan(nn.Module):
    """MUTAN, multimodal Tucker fusion with slices of low rank (Ben-Younes 2017, arXiv:1705.06676).

    ``f = W z + b, z = sum_r (M_1,r u_1) * .. * (M_M,r u_M)``, ``u_m = tanh(V_m h_m + c_m)``, ``*``
    element by element, r up to ``rank``: Tucker fusion with a core
    ``T_ijk = sum_r M_1,rki M_2,rkj``, of which each slice k has rank ``rank`` at most. With two
    modalities and ``rank = width`` every core can be written so. ``tanh=False`` leaves the
    non-linearities out.

    Differs from the paper: the product runs over all M modalities (two there), an absent one being
    left out of it; biases in ``V``, as in the authors' code, but not in ``M``, as in the paper.

    Limits: reads masked means; learns parities of all modalities, but no timing.
    Cost: O(width (sum_m D_m + M rank width + features)) time, O(M rank width) memory per example.

    Shapes: ``{m: [B, T, S, D_m]} -> [B, 1, 1, features]``; ``M_m [width, rank * width]``; no
    weights.
    """

    features: int
    width: int
    rank: int = 4
    tanh: bool = True

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        del train
        vectors, present = pooled(tokens, masks)
        z = low_rank(factors(vectors, self.width, tanh=self.tanh), present, self.rank)
        return one_token(dense(self.features, z, "out")(z), any_present(present))


class Block(nn.Module):
    """BLOCK, block-superdiagonal tensor fusion (Ben-Younes et al. 2019, arXiv:1902.00038).

    ``f = W [z_1; ..; z_C] + b, z_c = sum_r (M_1,cr u_1c) * .. * (M_M,cr u_Mc)``, ``u_m = V_m h_m``
    cut into C = ``blocks`` pieces ``u_mc``: a block-term decomposition, whose core is zero outside
    of C blocks on its superdiagonal, each with slices of rank ``rank`` at most. The ``width`` of
    all pieces together need not be a multiple of ``blocks``. One block is MUTAN without tanh, and
    of full rank Tucker fusion. With ``normalise`` each ``z_c`` becomes ``s / |s|``,
    ``s = sign(z_c) sqrt(|z_c|)``, which is the default in the authors' code and not in the paper's
    equations.

    Differs from the paper: the product runs over all M modalities (two there), an absent one being
    left out of it; biases in ``V``, as in the authors' code, but not in ``M``; the root, if any, is
    ``z / sqrt(|z| + 1e-6)``, whose slope at zero is finite.

    Limits: reads masked means; learns parities of all modalities, but no timing.
    Cost: O(width (sum_m D_m + M rank width / blocks + features)) time, O(M rank width) memory per
    example.

    Shapes: ``{m: [B, T, S, D_m]} -> [B, 1, 1, features]``; ``M_mc [N, rank * N]`` with N about
    ``width / blocks``; no weights.

    Raises:
      InputError: ``width`` is smaller than ``blocks``.
    """

    features: int
    width: int
    blocks: int = 4
    rank: int = 4
    normalise: bool = False

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        del train
        if self.width < self.blocks:
            raise InputError(f"block: width={self.width} cannot be cut into blocks={self.blocks}")
        vectors, present = pooled(tokens, masks)
        u = factors(vectors, self.width, tanh=False)
        outputs = []
        for c, piece in enumerate(np.array_split(np.arange(self.width), self.blocks)):
            cut = {m: x[:, piece[0] : piece[-1] + 1] for m, x in u.items()}
            z = low_rank(cut, present, self.rank, suffix=f"_{c}")
            outputs.append(power_normalised(z) if self.normalise else z)
        z = jnp.concatenate(outputs, axis=-1)
        f = out_layer(self.features, z, normalised=self.normalise, parts=self.blocks)
        return one_token(f, any_present(present))
