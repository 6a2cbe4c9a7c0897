"""One Perceiver for all modalities and one for all pairs of them (HighMMT)."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmfuse.fusion.base import Fused, any_present, dense, flatten, names, one_token
from mmfuse.fusion.deep.latent import ENCODING, Reader, learned, rows

Array = jax.Array


class HighMMT(nn.Module):
    """High-modality multimodal transformer (HighMMT, Liang et al. 2022, arXiv:2203.01311).

    ``z_m = U(z_0, a_m), f = W [mean of X(z_m, z_n), all n != m] + b``: one Perceiver ``U`` for all
    modalities reads the tokens of each into a copy of the same learned latents, one crossmodal
    Perceiver ``X`` for all ordered pairs lets the latents of m read those of n, and the results of
    all pairs are concatenated. Both are a cross-attention block and ``layers`` blocks of
    self-attention, ``repeats`` times, with all repetitions after the first sharing their weights.

    A row of ``a_m`` is ``[p(t, s); h_m(t, s); 0; e_m]``: Fourier features of its position, the
    token, zeros up to the widest modality, and a learned embedding of the modality. No weight but
    ``e_m`` and the rows of W for its pairs belongs to a modality or a pair: that is the method.

    A pair whose m is absent is zero; one whose n is absent is what ``X`` makes of ``z_m`` with
    nothing to read. With one modality there are no pairs, and ``f = W [mean of z_m] + b``.

    Differs from the paper: the mean over the latents of a pair (the authors' code: the last one);
    W gives ``features`` outputs, of which the head makes the scores; trained on one task.

    Limits: a modality is read without knowing the others, so products across modalities and time
    are seen as far as its latents keep them apart; order in time only within one modality.

    Cost: with N tokens in all of width C, L latents and M modalities, O(repeats (N C features +
    L N features + M^2 layers (L^2 features + L features (features + hidden)))) time, O(N (C +
    features + L) + repeats M^2 layers L (L heads + features + hidden)) memory per example.

    Shapes: ``{m: [B, T_m, S_m, D_m]} -> [B, 1, 1, features]``; weights ``latent<-m`` of the last
    unimodal cross-attention, ``[B, cross_heads, L, T_m S_m]``.

    Raises:
      InputError: ``features`` is not a multiple of ``heads`` and of ``cross_heads``.
    """

    features: int
    heads: int = 4
    cross_heads: int = 1
    layers: int = 1
    repeats: int = 1
    latents: int = 8
    bands: int = 6
    hidden: int = 0
    dropout: float = 0.0

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        mask = {m: flatten(masks[m]) for m in names(tokens)}
        present = {m: jnp.any(mask[m], axis=1) for m in mask}
        arrays = rows(tokens, self._tails(tokens), self.bands)
        like = next(iter(arrays.values()))
        start = learned(self, "latents", self.latents, self.features, like=like)
        reader = partial(
            Reader,
            heads=self.heads,
            layers=self.layers,
            repeats=self.repeats,
            hidden=self.hidden,
            dropout=self.dropout,
        )
        unimodal, zs, maps = reader(cross_heads=self.cross_heads, name="unimodal"), {}, {}
        for m, array in arrays.items():
            zs[m], maps[f"latent<-{m}"] = unimodal(start, array, mask[m], train=train)
        if len(zs) > 1:
            crossmodal = reader(cross_heads=self.heads, name="crossmodal")
            joint = _pairs(partial(crossmodal, train=train), zs, present)
        else:
            joint = next(iter(zs.values())).mean(axis=1)
        return one_token(dense(self.features, joint, "out")(joint), any_present(present), maps)

    def _tails(self, tokens: dict[str, Array]) -> dict[str, Array]:
        """The end of every row of a modality: zeros up to the widest, then its embedding."""
        widest = max(x.shape[-1] for x in tokens.values())
        tails = {}
        for m in names(tokens):
            embedding = self.param(f"embedding_{m}", nn.initializers.normal(1.0), (ENCODING,))
            tails[m] = jnp.pad(embedding, (widest - tokens[m].shape[-1], 0))
        return tails


def _pairs(
    crossmodal: Callable[..., tuple[Array, Array]], zs: dict[str, Array], present: dict[str, Array]
) -> Array:
    """``{m: [B, L, D]} -> [B, M (M - 1) D]``: all ordered pairs, in one call of ``crossmodal``."""
    pairs = list(itertools.permutations(zs, 2))
    z = jnp.concatenate([zs[m] for m, _ in pairs])
    source = jnp.concatenate([zs[n] for _, n in pairs])
    readable = jnp.concatenate([present[n] for _, n in pairs])
    keys = jnp.broadcast_to(readable[:, None], source.shape[:2])
    vectors = crossmodal(z, source, keys)[0].mean(axis=1)
    there = jnp.concatenate([present[m] for m, _ in pairs])
    vectors = jnp.where(there[:, None], vectors, 0)
    return jnp.concatenate(jnp.split(vectors, len(pairs)), axis=-1)
