"""One modality leads: the others are read under its guidance."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmfuse.attention import TransformerBlock, attend, merge_heads, split_heads
from mmfuse.errors import InputError, nearest
from mmfuse.fusion.base import Fused, any_present, dense, names, one_token
from mmfuse.fusion.temporal.attention import Streams, positioned, read, stack
from mmfuse.fusion.temporal.cross import others

Array = jax.Array
POOLS = ("mean", "token")


def leader(method: str, main: str, modalities: tuple[str, ...]) -> str:
    """The main modality: ``main``, or by default "text", or the first one where there is no text.

    Raises:
      InputError: ``main`` names a modality that is not there.
    """
    if main and main not in modalities:
        raise InputError(
            f"{method}: main='{main}' is not a modality of this data"
            f"; allowed: {', '.join(modalities)}{nearest(main, modalities)}"
        )
    return main or ("text" if "text" in modalities else modalities[0])


class HyperLayer(nn.Module):
    """A layer of ``ALMT``: ``hyper + W_o sum_n attend(W_q LN(q), W_kn LN(x_n), W_vn LN(x_n))``.

    Each modality n has a softmax of its own, while the queries and ``W_o`` are shared by all.
    """

    heads: int
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self, hyper: Array, query: Array, xs: Streams, present: Streams, *, train: bool
    ) -> tuple[Array, Streams]:
        """``[B,Q,F], [B,Q,F], {n: [B,N,F]}, {n: [B]} -> [B,Q,F], {n: [B,H,Q,N]}``."""
        features, dtype = hyper.shape[-1], hyper.dtype

        def project(x: Array, name: str) -> Array:
            y = nn.Dense(features, use_bias=False, dtype=dtype, name=name)(x)
            return split_heads(y, self.heads)

        q = project(nn.LayerNorm(dtype=dtype, name="norm_query")(query), "query")
        total, weights = 0, {}
        for n in names(xs):
            kv = nn.LayerNorm(dtype=dtype, name=f"norm_{n}")(xs[n])
            there = jnp.broadcast_to(present[n][:, None, None], (kv.shape[0], 1, kv.shape[1]))
            s, weights[n] = attend(
                q, project(kv, f"key_{n}"), project(kv, f"value_{n}"), there,
                scale=(features // self.heads) ** -0.5,
            )  # fmt: skip
            total = total + merge_heads(s)
        drop = nn.Dropout(self.dropout, deterministic=not train)
        return hyper + drop(dense(features, hyper, "out")(total)), weights


class ALMT(nn.Module):
    """Adaptive language-guided multimodal transformer (ALMT, Zhang et al. 2023, arXiv:2310.05804).

    ``f = mean_i LN(CrossBlock(.. CrossBlock([s; q^L], [s; z^L]) .., [s; z^L]))_i``,
    ``z^l = z^(l-1) + W_o^l sum_(n != m) softmax(Q^l K_n^l / sqrt(K)) V_n^l``, where the main
    modality m guides at L = ``layers`` scales which parts of the others enter the hyper-modality
    ``z``: ``Q^l`` comes from ``q^l = Block_l(q^(l-1))``, ``K_n^l, V_n^l`` from ``u_n``. Each
    modality is first pressed into ``latents`` tokens, ``u_m = Block_m(t_m, [t_m; W_m h_m + p(t)])``
    with learned queries ``t_m``, and ``q^1 = u_m``; ``s`` and ``z^0`` are learned too.
    ``main`` is "text" by default, or the first modality where there is no text; a single modality
    is guided by itself.

    ``pool`` is "mean", over the ``latents + 1`` queries, or "token", the first of them alone, which
    is what the authors' code reads. Cross-attention does not mix queries, so that with "token" the
    main modality reaches the result through attention weights only.

    Differs from the paper: L >= 1 where it has 3; the queries of the first block are the learned
    tokens only, as no other output of it is read; pre-norm, as in the authors' code, but the
    hyper-modality is not normalised on its way; sinusoidal instead of learned positions.

    Limits: sees time as far as ``latents`` summaries of each modality carry it, and products; what
    is not between the main modality and another meets only in the last blocks.

    Cost: ``O(Q F sum_m N_m + F^2 sum_m N_m + L M Q F (Q + F))`` time and
    ``O(H Q (sum_m N_m + L M Q))`` memory an example, ``N_m = T_m S_m``, ``Q = latents``,
    ``F = features``: linear in the number of tokens.

    Shapes: ``{m: [B, T_m, S_m, D_m]} -> [B, 1, 1, features]``; weights ``latent_m<-m``
    ``[B, H, Q, N_m]`` of the first block, and ``hyper<-latent_n [B, H, Q, Q]`` of the last layer.

    Raises:
      InputError: ``features`` is not a multiple of ``heads``; ``main`` is not a modality; ``pool``
        is neither of the two; ``latents`` or ``fusion_layers`` is less than 1.
    """

    needs_time: ClassVar[bool] = True

    features: int
    heads: int = 4
    layers: int = 2
    fusion_layers: int = 1
    latents: int = 8
    main: str = ""
    pool: str = "mean"
    dropout: float = 0.0
    hidden: int = 0

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        self._check()
        main = leader("almt", self.main, names(tokens))
        xs, mask, present = positioned(tokens, masks, self.features)
        block = partial(TransformerBlock, self.heads, dropout=self.dropout, hidden=self.hidden)
        latents, weights = {}, {}
        for m, x in xs.items():
            start = self._learned(f"latent_{m}", self.latents, x)
            source = jnp.concatenate([start, x], axis=1)
            keys = jnp.concatenate([jnp.ones(start.shape[:2], bool), mask[m]], axis=1)
            latents[m], a = block(name=f"embed_{m}")(start, keys, source, train=train)
            weights[f"latent_{m}<-{m}"] = a[..., self.latents :]
        query, hyper = latents[main], self._learned("hyper", self.latents, xs[main])
        full, guided = jnp.ones(query.shape[:2], bool), {n: latents[n] for n in others(xs, main)}
        for layer in range(self.layers):
            if layer:
                query, _ = block(name=f"scale_{layer}")(query, full, train=train)
            hyper, maps = HyperLayer(self.heads, self.dropout, name=f"guide_{layer}")(
                hyper, query, guided, present, train=train
            )
        weights |= {f"hyper<-latent_{n}": a for n, a in maps.items()}
        f = self._fused(block, query, hyper, train=train)
        return one_token(f, any_present(present), weights)

    def _check(self) -> None:
        if self.pool not in POOLS:
            raise InputError(f"almt: pool='{self.pool}'; allowed: {', '.join(POOLS)}")
        for field in ("latents", "fusion_layers"):
            if getattr(self, field) < 1:
                raise InputError(f"almt: {field}={getattr(self, field)} must be at least 1")

    def _learned(self, name: str, number: int, like: Array) -> Array:
        """``[B, number, features]``, the same learned tokens for every example."""
        shape = (number, self.features)
        x = self.param(name, nn.initializers.normal(0.02), shape).astype(like.dtype)
        return jnp.broadcast_to(x[None], (like.shape[0], *shape))

    def _fused(self, block: partial, query: Array, hyper: Array, *, train: bool) -> Array:
        """The queries' reading of the hyper-modality, ``[B, features]``."""
        start = self._learned("start", 1, query)
        source = jnp.concatenate([start, hyper], axis=1)
        # Cross-attention does not mix queries: those that are not read need not be computed.
        x = start if self.pool == "token" else jnp.concatenate([start, query], axis=1)
        keys = jnp.ones(source.shape[:2], bool)
        x, _ = stack(block, x, keys, source, layers=self.fusion_layers, name="fuse", train=train)
        return read(x, jnp.ones(x.shape[:2], bool), "norm")
