"""Products of projected vectors, element by element: low-rank and compact bilinear pooling."""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmfuse.fusion.base import Fused, any_present, dense, one_token, pooled

Array = jax.Array
SMALL = 1e-6  # Keeps the slopes of a root at zero finite.


def factors(vectors: dict[str, Array], width: int, *, tanh: bool, suffix: str = "") -> dict:
    """``u_m = W_m h_m + c_m`` or its tanh, ``{m: [B, D_m]} -> {m: [B, width]}``, in a module."""
    maps = {m: dense(width, x, f"factor_{m}{suffix}")(x) for m, x in vectors.items()}
    return {m: jnp.tanh(u) for m, u in maps.items()} if tanh else maps


def ones_if_absent(u: Array, present: Array) -> Array:
    """``[B, ...], [B] -> [B, ...]``: ones for an absent modality, the neutral factor."""
    return jnp.where(present.reshape(-1, *[1] * (u.ndim - 1)), u, 1)


def product(parts: dict[str, Array], present: dict[str, Array]) -> Array:
    """The elementwise product of ``{m: [B, ...]}`` over the modalities that are present."""
    return functools.reduce(jnp.multiply, (ones_if_absent(parts[m], present[m]) for m in parts))


def signed_sqrt(z: Array) -> Array:
    """``z / sqrt(|z| + 1e-6)``: ``sign(z) sqrt(|z|)`` with a slope of at most 1000, at zero."""
    return z / jnp.sqrt(jnp.abs(z) + SMALL)


def power_normalised(z: Array) -> Array:
    """The signed root of ``[B, N]``, divided by its length; zero stays zero. In float32 inside."""
    y = signed_sqrt(z.astype(jnp.promote_types(z.dtype, jnp.float32)))
    return (y * jax.lax.rsqrt(jnp.sum(y * y, axis=-1, keepdims=True) + SMALL)).astype(z.dtype)


def out_layer(features: int, z: Array, *, normalised: bool, parts: int = 1) -> Array:
    """``W z + b`` for ``[B, N]``; the entries of ``W`` start larger for ``parts`` unit vectors.

    The usual start assumes entries of z of size 1; those of a unit vector are of size
    ``1 / sqrt(N)``, so that f, and all gradients behind it, would start as much too small.
    """
    init = nn.initializers.normal(parts**-0.5) if normalised else nn.initializers.lecun_normal()
    return nn.Dense(features, kernel_init=init, dtype=z.dtype, name="out")(z)


class MLB(nn.Module):
    """Multimodal low-rank bilinear pooling (Kim et al. 2017, arXiv:1610.04325).

    ``f = P (tanh(U_1 h_1 + c_1) * .. * tanh(U_M h_M + c_M)) + b``, ``*`` element by element:
    output k is a bilinear form ``h_1^T (sum_d P_kd U_1d U_2d^T) h_2`` of rank at most ``width``.
    With ``tanh=False`` it is that form exactly, their equation before the non-linearities.

    Differs from the paper: the product runs over all M modalities (two there), so that it holds
    M-way products only; an absent modality is left out of it (a factor of ones); no shortcuts.

    Limits: reads masked means; learns parities of all modalities, but no timing.
    Cost: O(width (sum_m D_m + features)) time, O(M width) memory per example.

    Shapes: ``{m: [B, T, S, D_m]} -> [B, 1, 1, features]``; no weights.
    """

    features: int
    width: int
    tanh: bool = True

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        del train
        vectors, present = pooled(tokens, masks)
        z = product(factors(vectors, self.width, tanh=self.tanh), present)
        return one_token(dense(self.features, z, "out")(z), any_present(present))


def sum_pooled(z: Array, width: int, *, normalise: bool) -> Array:
    """``[B, width * k] -> [B, width]``: sums of k neighbours, then (or not) power-normalised."""
    z = jnp.sum(z.reshape(z.shape[0], width, -1), axis=-1)
    return power_normalised(z) if normalise else z


class MFB(nn.Module):
    """Multimodal factorised bilinear pooling (Yu et al. 2017, arXiv:1708.01471).

    ``f = W norm(SumPool_k(U_1 h_1 * .. * U_M h_M)) + b``: each of the ``width`` entries of the
    pooled vector sums ``k = rank`` products, ``z_i = sum_d u_1,id u_2,id``, a form of rank k, and
    ``norm(z) = s / |s|`` with ``s = sign(z) sqrt(|z|)``. Dropout acts on the product before the
    sum. With ``rank=1`` and ``normalise=False`` this is MLB without tanh.

    Differs from the paper: the product runs over all M modalities (two there), an absent one being
    a factor of ones; ``U_m`` has a bias, as in the authors' code; the root is
    ``z / sqrt(|z| + 1e-6)``, whose slope at zero is finite.

    Limits: reads masked means; learns parities of all modalities, but no timing.
    Cost: O(width (rank sum_m D_m + features)) time, O(M rank width) memory per example.

    Shapes: ``{m: [B, T, S, D_m]} -> [B, 1, 1, features]``; no weights.
    """

    features: int
    width: int
    rank: int = 4
    dropout: float = 0.0
    normalise: bool = True

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        vectors, present = pooled(tokens, masks)
        expanded = product(factors(vectors, self.rank * self.width, tanh=False), present)
        expanded = nn.Dropout(self.dropout, deterministic=not train)(expanded)
        z = sum_pooled(expanded, self.width, normalise=self.normalise)
        f = out_layer(self.features, z, normalised=self.normalise)
        return one_token(f, any_present(present))


class MFH(nn.Module):
    """Multimodal factorised high-order pooling (Yu et al. 2018, arXiv:1708.03619).

    ``f = W [norm(SumPool_k(e^1)); ..; norm(SumPool_k(e^p))] + b, e^i = e^(i-1) * U_1^i h_1 * ..``,
    ``e^0 = 1``: a cascade of ``p = blocks`` MFB blocks with factors of their own, each multiplied
    by the product before it, ``e^i = e^(i-1) * dropout(U_1^i h_1 * .. * U_M^i h_M)``, so that block
    i holds products of i entries of every modality. ``norm`` and ``SumPool_k`` are those of
    ``MFB``, and one block is MFB.

    Differs from the paper: as ``MFB`` does.

    Limits: reads masked means; learns parities and squares of all modalities, but no timing.
    Cost: O(blocks width (rank sum_m D_m + features)) time, O(blocks M rank width) memory per
    example.

    Shapes: ``{m: [B, T, S, D_m]} -> [B, 1, 1, features]``; no weights.
    """

    features: int
    width: int
    rank: int = 4
    blocks: int = 2
    dropout: float = 0.0
    normalise: bool = True

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        vectors, present = pooled(tokens, masks)
        expanded, outputs = None, []
        for i in range(self.blocks):
            u = factors(vectors, self.rank * self.width, tanh=False, suffix=f"_{i}")
            e = nn.Dropout(self.dropout, deterministic=not train)(product(u, present))
            expanded = e if expanded is None else expanded * e
            outputs.append(sum_pooled(expanded, self.width, normalise=self.normalise))
        z = jnp.concatenate(outputs, axis=-1)
        f = out_layer(self.features, z, normalised=self.normalise, parts=self.blocks)
        return one_token(f, any_present(present))


class MCB(nn.Module):
    """Multimodal compact bilinear pooling (Fukui et al. 2016, arXiv:1606.01847).

    ``f = W norm(IFFT(FFT(psi_1(h_1)) * .. * FFT(psi_M(h_M)))) + b``. ``psi_m`` is a count sketch,
    ``psi(x)_j = sum over the i with bin_m(i) = j of sign_m(i) x_i``, of ``width`` entries. The
    circular convolution of the sketches is the sketch of the outer product ``h_1 x .. x h_M``,
    which is never built, and inner products of such sketches are those of the outer products,
    ``prod_m h_m . h'_m``, up to an error of ``O(1 / sqrt(width))``.
    ``norm(z) = s / |s|``, ``s = sign(z) sqrt(|z|)``.

    Bins and signs are constants, computed from ``hash_seed`` and the modality's place in
    alphabetical order: not parameters, and the same for all training seeds of a row.

    Differs from the paper: M sketches instead of two; an absent modality is left out (its spectrum
    is 1); the root is ``z / sqrt(|z| + 1e-6)``, whose slope at zero is finite.

    Limits: reads masked means; learns parities of all modalities, but no timing, and sees every
    product through the noise of its fixed hashes.
    Cost: O(sum_m D_m + M width log(width) + width features) time, O(M width) memory per example.

    Shapes: ``{m: [B, T, S, D_m]} -> [B, 1, 1, features]``; no weights.
    """

    features: int
    width: int
    hash_seed: int = 0

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        del train
        vectors, present = pooled(tokens, masks)
        z = compact_product(vectors, present, self.width, self.hash_seed)
        f = out_layer(self.features, power_normalised(z), normalised=True)
        return one_token(f, any_present(present))


def compact_product(
    vectors: dict[str, Array], present: dict[str, Array], width: int, seed: int
) -> Array:
    """The sketch ``[B, width]`` of the outer product of ``{m: [B, D_m]}``, present ones only."""
    sketches = {}
    for place, (m, x) in enumerate(vectors.items()):
        bins, signs = hashes(x.shape[-1], width, seed, place)
        # There is no transform of 16-bit numbers.
        sketches[m] = count_sketch(x.astype(jnp.float32), bins, signs, width)
    if len(sketches) == 1:
        return sketches.popitem()[1].astype(x.dtype)
    spectra = {m: jnp.fft.rfft(sketch, axis=-1) for m, sketch in sketches.items()}
    return jnp.fft.irfft(product(spectra, present), n=width, axis=-1).astype(x.dtype)


def hashes(size: int, width: int, seed: int, place: int) -> tuple[np.ndarray, np.ndarray]:
    """The bin in ``range(width)`` and the sign, -1 or 1, of each of ``size`` entries."""
    rng = np.random.default_rng([seed % 2**32, place])
    return rng.integers(width, size=size), 2 * rng.integers(2, size=size) - 1


def count_sketch(x: Array, bins: np.ndarray, signs: np.ndarray, width: int) -> Array:
    """``y_j = sum over the i with bins_i = j of signs_i x_i``: ``[B, D] -> [B, width]``.

    Added in rounds that hit no bin twice: accelerators add scattered numbers in any order, which
    would give other bits each time.
    """
    order = np.argsort(bins, kind="stable")
    _, first, count = np.unique(bins[order], return_index=True, return_counts=True)
    signed = x * jnp.asarray(signs, x.dtype)[None]
    y = jnp.zeros((x.shape[0], width), x.dtype)
    for turn in range(max(count)):
        taken = order[first[count > turn] + turn]
        y = y.at[:, bins[taken]].add(signed[:, taken], unique_indices=True)
    return y
