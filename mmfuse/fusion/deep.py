"""Deep fusion: modalities meet at several layers."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmfuse.attention import TransformerBlock, cross_attention, self_attention
from mmfuse.errors import InputError
from mmfuse.fusion.base import (
    Fused,
    any_present,
    dense,
    flatten,
    masked_mean,
    mean_over_present,
    names,
    one_token,
)
from mmfuse.fusion.temporal import with_positions

Array = jax.Array


class SelfCross(nn.Module):
    """Self- and cross-attention with one scalar, streams summed (the source article, 4.3.3).

    The article: ``a^m_ij = softmax_j(theta c_mi . c_mj)``, ``s_mi = sum_j a^m_ij c_mj`` for each
    modality m; then ``alpha_ij = softmax_j(theta s_i . c_tj)`` from the picture's stream to the
    text's encoder outputs; then ``s = s_i + s_a + s_t``; then ``h = sigma(W s + b)``.

    What its formulas leave unused or undefined: ``alpha`` appears in no later formula, so that as
    written the modalities meet only in the sum; only the direction picture -> text is given, and no
    query for audio; and ``s_i, s_a, s_t`` have as many rows as each modality has tokens, which
    cannot be added where the numbers differ.

    What is done here instead: tokens are first projected to one width, ``c_m = V_m h_m + b_m``, as
    the dot products need it. The cross weights are used as section 4.2.3 defines them,
    ``x_mn,i = sum_j softmax_j(theta s_mi . c_nj) c_nj``, in every direction between two modalities.
    Each stream is ``u_m = s_m + mean over the present n != m of x_mn``, and the sum is taken after
    the masked mean over each stream's tokens: ``s = sum over the present m of mean_i u_mi``. The
    decoder's first line (4.3.4) gives ``f = relu(W s + b)``, with relu for its unnamed sigma.

    There is one ``theta``, as in the article: it starts at the field ``theta`` (None:
    ``1 / sqrt(features)``) and is trained, or stays there with ``learned=False``. At ``theta = 0``
    every attention is a masked mean. No positions are added: time is seen only by its content.

    Shapes: ``{m: [B, T_m, S_m, D_m]} -> [B, 1, 1, features]``; weights ``m<-n`` and ``m<-m``,
    ``[B, T_m S_m, T_n S_n]``.
    """

    features: int
    theta: float | None = None
    learned: bool = True

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        del train
        order, theta = names(tokens), self._theta()
        c = {m: flatten(dense(self.features, tokens[m], f"project_{m}")(tokens[m])) for m in order}
        mask = {m: flatten(masks[m]) for m in order}
        present = {m: jnp.any(mask[m], axis=1) for m in order}
        total, weights = 0, {}
        for m in order:
            s, weights[f"{m}<-{m}"] = self_attention(c[m], mask[m], theta)
            crossed, there = {}, {n: present[n] for n in order if n != m}
            for n in there:
                x, weights[f"{m}<-{n}"] = cross_attention(s, c[n], mask[n], theta)
                crossed[n] = masked_mean(x, mask[m])
            stream = masked_mean(s, mask[m])
            if crossed:
                stream = stream + mean_over_present(crossed, there)
            total = total + jnp.where(present[m][:, None], stream, 0)
        f = nn.relu(dense(self.features, total, "decode")(total))
        return one_token(f, any_present(present), weights)

    def _theta(self) -> Array | float:
        """The scalar: a parameter, or the constant it would start from."""
        start = self.features**-0.5 if self.theta is None else self.theta
        if not self.learned:
            return start
        return self.param("theta", nn.initializers.constant(start), ())


class MBT(nn.Module):
    """Attention bottlenecks (Nagrani et al. 2021, arXiv:2107.00135).

    Each modality has its own transformer over ``x_m = W_m h_m + p(t)``. Layers before
    ``fusion_layer`` see their own tokens only. From there on a layer sees its own tokens and B
    shared bottleneck tokens z, ``[x_m', z_m'] = Block_m([x_m, z])``, and the new bottlenecks are
    averaged, ``z' = mean over the present m of z_m'``: all that modalities learn of each other goes
    through z. ``f = mean over the present m of masked mean of LN_m(x_m)``.

    With no bottlenecks this is a late average of unimodal transformers.

    Differs from the paper: small and trained from scratch; a masked mean instead of a CLS token; no
    positions over space; features are averaged before the head, which is averaging logits, as the
    head is affine.

    Shapes: ``{m: [B, T_m, S_m, D_m]} -> [B, 1, 1, features]``; weights of the last layer ``m<-m``,
    and with bottlenecks ``m<-bottleneck``, ``bottleneck<-m``, each ``[B, H, Q, N]``.

    Raises:
      InputError: ``features`` is not a multiple of ``heads``; fewer than two layers from
        ``fusion_layer`` on (the first writes the bottlenecks, the second reads them).
    """

    features: int
    heads: int = 4
    layers: int = 2
    fusion_layer: int = 0
    bottlenecks: int = 4
    dropout: float = 0.0

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        self._check()
        order = names(tokens)
        xs, mask = {}, {}
        for m in order:
            xs[m], mask[m] = with_positions(tokens[m], masks[m], self.features, f"project_{m}")
        present = {m: jnp.any(mask[m], axis=1) for m in order}
        z, weights = self._bottlenecks(xs[order[0]]), {}
        for layer in range(self.layers):
            fuse = self.bottlenecks > 0 and layer >= self.fusion_layer
            shared = z if fuse else z[:, :0]
            written = {}
            for m in order:
                block = TransformerBlock(self.heads, dropout=self.dropout, name=f"{m}_{layer}")
                xs[m], written[m], maps = _through(block, m, xs[m], shared, mask[m], train=train)
                weights.update(maps)
            if fuse:
                z = _average(written, present)
        vectors = {
            m: masked_mean(nn.LayerNorm(dtype=xs[m].dtype, name=f"norm_{m}")(xs[m]), mask[m])
            for m in order
        }
        return one_token(mean_over_present(vectors, present), any_present(present), weights)

    def _check(self) -> None:
        if self.bottlenecks > 0 and self.layers - self.fusion_layer < 2:
            raise InputError(
                f"mbt: fusion_layer={self.fusion_layer} with layers={self.layers} leaves fewer than"
                " 2 layers with bottlenecks, so nothing would be exchanged"
            )

    def _bottlenecks(self, like: Array) -> Array:
        """``[B, bottlenecks, features]``, the same learned start for every example."""
        shape = (self.bottlenecks, self.features)
        if self.bottlenecks == 0:
            return jnp.zeros((like.shape[0], *shape), like.dtype)
        z = self.param("bottlenecks", nn.initializers.normal(0.02), shape).astype(like.dtype)
        return jnp.broadcast_to(z[None], (like.shape[0], *shape))


def _through(
    block: TransformerBlock, m: str, x: Array, z: Array, mask: Array, *, train: bool
) -> tuple[Array, Array, dict[str, Array]]:
    """One layer of stream ``m`` with its bottlenecks: the new tokens, bottlenecks and maps."""
    n = x.shape[1]
    keys = jnp.concatenate([mask, jnp.ones(z.shape[:2], bool)], axis=1)
    y, a = block(jnp.concatenate([x, z], axis=1), keys, train=train)
    maps = {f"{m}<-{m}": a[:, :, :n, :n]}
    if z.shape[1]:
        maps |= {f"{m}<-bottleneck": a[:, :, :n, n:], f"bottleneck<-{m}": a[:, :, n:, :n]}
    return y[:, :n], y[:, n:], maps


def _average(written: dict[str, Array], present: dict[str, Array]) -> Array:
    """``{m: [B, N, D]} -> [B, N, D]``, over the modalities that are present."""
    order = names(written)
    stacked = jnp.stack([written[m] for m in order], axis=2)
    there = jnp.stack([present[m] for m in order], axis=1)[:, None]
    return masked_mean(stacked, jnp.broadcast_to(there, stacked.shape[:-1]), axis=2)
