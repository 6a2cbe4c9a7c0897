"""Multiplicative interactions: linear maps whose weights another modality writes."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmfuse.fusion.base import Fused, any_present, dense, one_token, pooled
from mmfuse.fusion.spatial.multilinear import contract, with_one

Array = jax.Array


class Bilinear(nn.Module):
    """Full bilinear map (Tenenbaum & Freeman 2000, doi:10.1162/089976600300015349).

    ``f = sum_{i<j} h_i W_ij h_j + b``, with a full tensor ``W_ij [D_i, D_j, features]`` for every
    pair of modalities: the map that MUTAN, MLB, MFB, MCB and BLOCK approximate. For one modality,
    which has no pair, ``f = W h + b``. There are no terms of one modality (``MIMatrix`` has them):
    a pair with an absent modality adds nothing, so that of two modalities with one absent only
    ``b`` remains.

    Differs from the paper: a sum over all pairs for more than two modalities, not the M-fold
    product (``MIThreeWay`` has that). With ``width``, ``u_m = V_m h_m`` stands for ``h_m``.

    Limits: products of two modalities, so parities of two but not of three; nothing that one
    modality says alone; reads masked means: no timing.

    Cost: O(F sum_{i<j} D_i D_j) time and parameters, O(F sum_i min(D_i, sum_{j>i} D_j))
    memory per example, with ``D_m = width`` where it is given.

    Shapes: ``{m: [B, T, S, D_m]} -> [B, 1, 1, features]``.
    """

    features: int
    width: int | None = None

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        del train
        vectors, present = pooled(tokens, masks)
        vectors = _narrowed(vectors, self.width)
        if len(vectors) == 1:
            (x,) = vectors.values()
            return one_token(dense(self.features, x, "linear")(x), any_present(present))
        f = PairProducts(self.features, name="pairs")(vectors)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return one_token(f + bias.astype(f.dtype)[None], any_present(present))


class MIMatrix(nn.Module):
    """Multiplicative interactions, matrix form (Jayakumar et al. 2020, ICLR).

    ``f = sum_{i<j} h_i W_ij h_j + sum_m U_m h_m + b``. For two modalities it is the paper's
    ``f = z W x + z U + V x + b``: a linear layer on x, ``f = W' x + b'``, whose matrix
    ``W' = z W + V`` and bias ``b' = z U + b`` are written by z, a hypernetwork. With ``W = 0`` it
    is concatenation and a linear layer.

    Differs from the paper: a sum over all pairs for more than two modalities, with one ``U_m`` a
    modality. With ``width``, ``u_m = V_m h_m`` stands for ``h_m``.

    Limits: products of two modalities and sums, so parities of two but not of three; reads masked
    means: no timing.

    Cost: O(F sum_{i<j} D_i D_j) time and parameters, O(F sum_i min(D_i, sum_{j>i} D_j))
    memory per example, with ``D_m = width`` where it is given.

    Shapes: ``{m: [B, T, S, D_m]} -> [B, 1, 1, features]``; ``W_ij [D_i, D_j, features]``,
    ``U [sum_m D_m, features]``; blocks are in the alphabetical order of the modalities.
    """

    features: int
    width: int | None = None

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        del train
        vectors, present = pooled(tokens, masks)
        vectors = _narrowed(vectors, self.width)
        joint = jnp.concatenate(list(vectors.values()), axis=-1)
        f = dense(self.features, joint, "linear")(joint)
        if len(vectors) > 1:
            f = f + PairProducts(self.features, name="pairs")(vectors)
        return one_token(f, any_present(present))


class MIVector(nn.Module):
    """Multiplicative interactions, diagonal form (Jayakumar et al. 2020, ICLR).

    ``f = sum_j a_j * (U_j h_j) + b, a_j = v_j + sum_{i<j} W_ij h_i``, a vector of gates that
    the modalities before j (in the alphabetical order) write; the first has none, ``a_1 = 1``. For
    two modalities it is the paper's ``f = (z W + v) * x + z U + b`` with ``x = U_2 h_2``: the
    matrix ``W'`` of ``MIMatrix`` is made diagonal.

    Differs from the paper: x is projected to ``features`` first, because modalities differ in
    width; gates of all pairs are added for more than two modalities; ``v`` starts at one, so that
    f starts as a sum of all modalities.

    Limits: products of two modalities, ``features`` of them, and sums, so parities of two but not
    of three; reads masked means: no timing.

    Cost: O(F sum_m (M - m + 1) D_m) time and parameters, O(M F + sum_m M D_m) memory per example.

    Shapes: ``{m: [B, T, S, D_m]} -> [B, 1, 1, features]``; weights ``{j: [B, features]}`` are the
    gates ``a_j`` of all modalities but the first, exactly zero where j is absent.
    """

    features: int

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        del train
        vectors, present = pooled(tokens, masks)
        f, gates = GatedSum(self.features, self.features, name="sum")(vectors)
        return one_token(f, any_present(present), _shown(gates, present))


class MIScalar(nn.Module):
    """Multiplicative interactions, scalar form (Jayakumar et al. 2020, ICLR).

    ``f = sum_j a_j (U_j h_j) + b, a_j = v_j + sum_{i<j} w_ij . h_i``, one number that the
    modalities before j (in the alphabetical order) write; the first has ``a_1 = 1``. For two
    modalities ``f = (w . z + v) x + z U + b`` with ``x = U_2 h_2``: the matrix ``W'`` of
    ``MIMatrix`` is a multiple of the identity.

    Differs from the paper: as in ``MIVector``. The shift ``z U + b`` is a vector; in public code
    (MultiBench) it is one number too, so that z reaches f through two numbers only.

    Limits: whole modalities are scaled by others, so the product of one number with a vector:
    parities of two but not of three; reads masked means: no timing.

    Cost: O(F sum_m D_m + sum_m (M - m) D_m) time and parameters, O(M F + sum_m M D_m) memory per
    example.

    Shapes: ``{m: [B, T, S, D_m]} -> [B, 1, 1, features]``; weights ``{j: [B, 1]}`` are the scales
    ``a_j`` of all modalities but the first, exactly zero where j is absent.
    """

    features: int

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        del train
        vectors, present = pooled(tokens, masks)
        f, gates = GatedSum(self.features, 1, name="sum")(vectors)
        return one_token(f, any_present(present), _shown(gates, present))


class MIThreeWay(nn.Module):
    """Multiplicative interactions of all modalities at once (Liang et al. 2021, arXiv:2107.07502).

    ``f = W ([1; h_1] x .. x [1; h_M]) = sum_{A} W_A (x)_{m in A} h_m``: a tensor of weights for
    every subset A of the modalities, down to the linear terms and the bias ``W_{}``. For three it
    is MultiBench's three-modality form of Jayakumar et al. 2020 (ICLR), ``MIMatrix`` of the first
    two writing the layer that is applied to the third; for two it is ``MIMatrix``. The outer
    product is never built, see ``contract``. An absent modality is ``[1; 0]``: the subsets without
    it remain.

    ``TFN`` has the same tensor, between ReLU layers: there every modality first passes one, and f
    another, so that it is not multilinear in h; here it is.

    Differs from the paper: any number of modalities. The tensor of a subset starts with the scale
    of its own number of inputs; with one scale for all, the linear terms would start near zero.
    With ``width``, ``u_m = V_m h_m`` stands for ``h_m``, which keeps the size ``prod_m (1 + D_m)``
    in bounds.

    Limits: products of all modalities at once, so parities of any of them, but with many
    modalities most tensors are of high order and fit noise where examples are few; reads masked
    means: no timing.

    Cost: O(F prod_m (1 + D_m)) time and parameters, as ``TFN`` memory per example: the product over
    one part of the modalities plus F times the product over the other.

    Shapes: ``{m: [B, T, S, D_m]} -> [B, 1, 1, features]``; ``W [1 + D_1, .., 1 + D_M, features]``.
    """

    features: int
    width: int | None = None

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        del train
        vectors, present = pooled(tokens, masks)
        factors = [with_one(x) for x in _narrowed(vectors, self.width).values()]
        shape = (*(x.shape[1] for x in factors), self.features)
        kernel = self.param("kernel", _normal_by_subset, shape)
        f = contract(factors, kernel.astype(factors[0].dtype))
        return one_token(f, any_present(present))


class PairProducts(nn.Module):
    """``sum_{i<j} x_i W_ij x_j``, a full tensor ``W_ij`` for every pair of vectors.

    The tensors of i are one parameter, ``W_i [D_i, sum_{j>i} D_j, F]``, and the sum is
    ``sum_i x_i W_i [x_{i+1}; ..; x_M]``. The longer side is contracted first, which holds
    ``B min(D_i, sum_{j>i} D_j) F`` numbers.
    """

    features: int

    @nn.compact
    def __call__(self, vectors: dict[str, Array]) -> Array:
        """``{m: [B, D_m]} -> [B, features]``, for two vectors or more."""
        init = nn.initializers.lecun_normal(in_axis=(0, 1), out_axis=2)
        order, terms = list(vectors), []
        for n, m in enumerate(order[:-1], start=1):
            x, y = vectors[m], jnp.concatenate([vectors[j] for j in order[n:]], axis=-1)
            shape = (x.shape[1], y.shape[1], self.features)
            kernel = self.param(f"{m}_with_rest", init, shape).astype(x.dtype)
            if x.shape[1] >= y.shape[1]:
                rest = jnp.einsum("bd,def->bef", x, kernel)
                terms.append(jnp.einsum("bef,be->bf", rest, y))
            else:
                rest = jnp.einsum("be,def->bdf", y, kernel)
                terms.append(jnp.einsum("bdf,bd->bf", rest, x))
        return sum(terms)


class GatedSum(nn.Module):
    """``sum_j a_j * (U_j h_j) + b``, ``a_j = v_j + sum_{i<j} W_ij h_i`` of ``size``, ``a_1 = 1``.

    ``size`` is ``features``, or 1 for one number that scales the whole vector.
    """

    features: int
    size: int

    @nn.compact
    def __call__(self, vectors: dict[str, Array]) -> tuple[Array, dict[str, Array]]:
        """``{m: [B, D_m]} -> [B, features]``, and the gates ``{j: [B, size]}``."""
        gates, before, total = {}, [], 0
        for m, x in vectors.items():
            value = nn.Dense(self.features, use_bias=False, dtype=x.dtype, name=f"value_{m}")(x)
            if before:
                joint = jnp.concatenate(before, axis=-1)
                gates[m] = self._gate(m, joint)
                value = gates[m] * value
            total = total + value
            before.append(x)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return total + bias.astype(total.dtype)[None], gates

    def _gate(self, m: str, joint: Array) -> Array:
        """``v + W h``; v starts at one."""
        ones = nn.initializers.ones
        return nn.Dense(self.size, dtype=joint.dtype, bias_init=ones, name=f"gate_{m}")(joint)


def _narrowed(vectors: dict[str, Array], width: int | None) -> dict[str, Array]:
    """``V_m h_m`` of ``width``, or the vectors as they are. No bias: what is absent stays zero."""
    if width is None:
        return vectors
    return {
        m: nn.Dense(width, use_bias=False, dtype=x.dtype, name=f"narrow_{m}")(x)
        for m, x in vectors.items()
    }


def _shown(gates: dict[str, Array], present: dict[str, Array]) -> dict[str, Array]:
    """The gates to report: zero where the gated modality is absent."""
    return {m: jnp.where(present[m][:, None], gate, 0) for m, gate in gates.items()}


def _normal_by_subset(key: Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> Array:
    """Normal of variance ``1 / prod_{m in A} D_m`` for the entries of every subset A; no bias.

    Entry 0 of an axis is the one, the others are the vector's; ``W_{}`` (all zeros) is the bias.
    """
    kernel = jax.random.normal(key, shape, dtype)
    for axis, size in enumerate(shape[:-1]):
        index = jax.lax.broadcasted_iota(jnp.int32, shape, axis)
        kernel = kernel * jnp.where(index == 0, 1, (size - 1) ** -0.5).astype(dtype)
    return kernel.at[(0,) * (len(shape) - 1)].set(0)
