"""Objectives that ask for the input back: what is fused must still tell what was there."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmfuse.decoders import PictureCNN
from mmfuse.errors import InputError
from mmfuse.fusion.base import Array, dense, masked_mean, one_token, pooled
from mmfuse.fusion.spatial.experts import BOUND, kl_from_unit, product_of_gaussians
from mmfuse.objectives.base import Objective, Seen, Told, present_share
from mmfuse.transforms.base import kind, number, whole

HIDDEN = 64
BLOCKS = (16, 8)  # of a picture's decoder: small, as it is no end in itself


class Decode(nn.Module):
    """``-log p(x | z)`` of one modality, up to a constant: ``[B, D] -> [B]``, 0 where x is absent.

    Pictures, and frames as pictures of one channel, come from a ``PictureCNN``, vectors from a
    layer of ``hidden`` units and an affine map: the mean squared error over the numbers that are
    there. Words come from the same two layers as probabilities over the vocabulary, without order:
    the mean cross-entropy of a word, in nats.
    """

    words: int = 0  # size of the vocabulary, of modalities that are words
    hidden: int = HIDDEN

    @nn.compact
    def __call__(self, z: Array, x: Array, mask: Array) -> Array:
        """``x`` is the input ``[B, ...]`` with its mask ``[B, T]``."""
        what = kind(x[0], mask[0])
        there = jnp.broadcast_to(mask, x.shape[:2]) if what in ("tokens", "frames") else mask
        if what == "tokens":
            log_p = jax.nn.log_softmax(self._affine(z, self.words))
            error = -jnp.take_along_axis(log_p, jnp.where(mask, x, 0), axis=1)
        elif what == "vector":
            error = jnp.mean(jnp.square(self._affine(z, x.shape[1]) - x), axis=-1, keepdims=True)
        else:
            shape = x.shape[1:] if x.ndim == 4 else (*x.shape[1:], 1)
            decoder = PictureCNN(shape, BLOCKS, name="picture")
            decoded = decoder(one_token(z, jnp.ones(len(z), bool)))
            square = jnp.square(decoded - x.reshape(decoded.shape))
            axes = (1, 2, 3) if what == "picture" else (2, 3)
            error = jnp.mean(square, axis=axes).reshape(len(z), -1)
        return masked_mean(error[..., None], there, axis=1)[:, 0]

    def _affine(self, z: Array, features: int) -> Array:
        hidden = nn.relu(nn.Dense(self.hidden, name="hidden")(z))
        return nn.Dense(features, name="affine")(hidden)


def decoders(seen: Seen) -> dict[str, Decode]:
    """A decoder for each modality, to be made inside the ``__call__`` of an objective.

    Raises:
      InputError: a modality is words, and its encoder does not say how many there are.
    """
    made = {}
    for m in sorted(seen.tokens):
        words = getattr(seen.model.encoders[m], "vocab_size", 0)
        x = seen.batch["inputs"][m]
        if jnp.issubdtype(x.dtype, jnp.integer) and not words:
            raise InputError(f"the encoder of '{m}' has no 'vocab_size': words cannot be decoded")
        made[m] = Decode(words, name=f"decode_{m}")
    return made


def decoded(
    makers: dict[str, Decode], codes: dict[str, Array], seen: Seen
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Errors ``{m: [B]}`` of the modalities from their codes, and which are there ``{m: [B]}``."""
    inputs, masks = seen.batch["inputs"], seen.batch["masks"]
    errors = {m: makers[m](codes[m], inputs[m], masks[m]) for m in makers}
    return errors, {m: jnp.any(masks[m], axis=1) for m in makers}


class Reconstruction(Objective):
    """Reconstruction of every modality from what is fused (autoencoder, Ngiam et al. 2011, ICML).

    ``L_i = weight * mean over the present m of -log p(x_mi | f_i)``, f the masked mean of the fused
    tokens, by a decoder a modality (see ``Decode``) of the input as the encoder got it.

    Differs from the paper: beside the task's loss and in the same network, where theirs was trained
    before and layer by layer.
    """

    weight: float = 0.1

    def check(self) -> None:
        """Ranges of the fields."""
        number("weight", self.weight, 0)

    @nn.compact
    def __call__(self, seen: Seen) -> Told:
        """See the class."""
        makers, f = decoders(seen), masked_mean(seen.fused.tokens, seen.fused.mask, axis=(1, 2))
        return Told(self.weight * present_share(*decoded(makers, dict.fromkeys(makers, f), seen)))


class MFM(Objective):
    """Multimodal factorisation (MFM, Tsai et al. 2019, ICLR, arXiv:1806.06176).

    ``L_i = weight * (mean over the present m of -log p(x_mi | [z_mi; z_yi]) + prior * P)``: every
    input is decoded from a factor of its own, ``z_m = V_m relu(W_m h_m)`` of its pooled encoding,
    and the factor that all share, ``z_y = V f`` of the fused tokens, from which the model answers.
    P is the mean over all factors of their squared maximum mean discrepancy to N(0, 1), see
    ``discrepancy``, over the batch of all devices.

    Differs from the paper: the answer comes from the fused tokens themselves and not by way of z_y,
    so that evaluation is that of the plain model; the discrepancy is computed without drawing from
    the prior; what a decoder is, see ``Decode``; no surrogate model of missing modalities.
    """

    weight: float = 0.1
    features: int = 16
    prior: float = 0.1

    def check(self) -> None:
        """Ranges of the fields."""
        number("weight", self.weight, 0)
        number("prior", self.prior, 0)
        whole("features", self.features, 1)

    @nn.compact
    def __call__(self, seen: Seen) -> Told:
        """See the class."""
        vectors, there = pooled(seen.tokens, seen.masks)
        own = {m: nn.relu(dense(HIDDEN, x, f"hidden_{m}")(x)) for m, x in vectors.items()}
        own = {m: dense(self.features, x, f"own_{m}")(x) for m, x in own.items()}
        f = masked_mean(seen.fused.tokens, seen.fused.mask, axis=(1, 2))
        shared = dense(self.features, f, "shared")(f)
        codes = {m: jnp.concatenate([z, shared], axis=-1) for m, z in own.items()}
        error = present_share(*decoded(decoders(seen), codes, seen))
        factors, here = own | {"": shared}, there | {"": seen.batch["weight"] > 0}
        factors, here = seen.everyone((factors, here))
        apart = sum(discrepancy(factors[m], here[m]) for m in factors) / len(factors)
        return Told(self.weight * (error + self.prior * apart))


def discrepancy(z: Array, there: Array) -> Array:
    """Squared maximum mean discrepancy between the rows that are there and N(0, 1), ``[N, D]``.

    ``mean_ij k(z_i, z_j) - 2 mean_i E k(z_i, e) + E k(e, e')`` for ``k(x, y) = exp(-|x - y|^2 /
    2D)``, with both expectations over the normal e, e' in closed form:
    ``(D / (D + 1))^(D/2) exp(-|z|^2 / 2(D + 1))`` and ``(D / (D + 2))^(D/2)``.
    """
    z, size = jnp.where(there[:, None], z, 0).astype(jnp.float32), z.shape[1]
    square = jnp.sum(z**2, axis=-1)
    apart = jnp.maximum(square[:, None] + square[None] - 2 * z @ z.T, 0)
    pairs = (there[:, None] & there[None]).astype(z.dtype)
    count = jnp.maximum(jnp.sum(there), 1)
    among = jnp.sum(pairs * jnp.exp(-apart / (2 * size))) / count**2
    to_prior = (size / (size + 1)) ** (size / 2) * jnp.exp(-square / (2 * (size + 1)))
    to_prior = jnp.sum(jnp.where(there, to_prior, 0)) / count
    value = among - 2 * to_prior + (size / (size + 2)) ** (size / 2)
    return jnp.where(jnp.any(there), value, 0)


class MVAE(Objective):
    """Multimodal variational autoencoder (MVAE, Wu & Goodman 2018, arXiv:1802.05335).

    ``L_i = weight * (E(all) + mean_m E({m}))``, ``E(A) = mean_(m in A) -log p(x_m | z_A)
    + beta KL(q_A || N(0, 1))`` over the m that are there: z_A is drawn from the product of experts
    ``q_A = N(0, 1) prod_(m in A) N(mu_m, s_m^2) / const`` with ``[mu_m; log s_m^2] = V_m relu(W_m
    h_m)`` of the pooled encoding. So the encoders must tell the same hidden vector, each alone and
    all together. The product is that of the fusion ``poe``.

    Differs from the paper: beside a task's loss, with the encoders it shares with any fusion;
    means over the modalities instead of sums; all and each alone, no random subsets in between.
    """

    weight: float = 0.1
    features: int = 16
    beta: float = 0.01

    def check(self) -> None:
        """Ranges of the fields."""
        number("weight", self.weight, 0)
        number("beta", self.beta, 0)
        whole("features", self.features, 1)

    @nn.compact
    def __call__(self, seen: Seen) -> Told:
        """See the class."""
        vectors, there = pooled(seen.tokens, seen.masks)
        makers = decoders(seen)
        means, precisions = {}, {}
        for m, x in vectors.items():
            hidden = nn.relu(dense(HIDDEN, x, f"hidden_{m}")(x))
            belief = dense(2 * self.features, hidden, f"expert_{m}")(hidden).astype(jnp.float32)
            means[m], log_variance = jnp.split(belief, 2, axis=-1)
            precision = jnp.exp(-jnp.clip(log_variance, -BOUND, BOUND))
            precisions[m] = jnp.where(there[m][:, None], precision, 0)
        together = product_of_gaussians(means, precisions)
        z = self._drawn(*together)
        whole_errors, here = decoded(makers, dict.fromkeys(makers, z), seen)
        loss = present_share(whole_errors, here) + self.beta * kl_from_unit(*together)
        each = {m: product_of_gaussians({m: means[m]}, {m: precisions[m]}) for m in means}
        codes = {m: self._drawn(*each[m]) for m in each}
        errors, here = decoded(makers, codes, seen)
        errors = {m: errors[m] + self.beta * kl_from_unit(*each[m]) for m in errors}
        return Told(self.weight * (loss + present_share(errors, here)))

    def _drawn(self, mean: Array, precision: Array) -> Array:
        noise = jax.random.normal(self.make_rng("dropout"), mean.shape, mean.dtype)
        return mean + noise * jax.lax.rsqrt(precision)
