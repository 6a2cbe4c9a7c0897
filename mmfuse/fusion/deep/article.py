"""The fusion of the source article: self- and cross-attention with one scalar."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmfuse.attention import cross_attention, self_attention
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

Array = jax.Array


class SelfCross(nn.Module):
    """Self- and cross-attention with one scalar, streams summed (the source article, 4.3.3).

    ``f = relu(W s + b), s = sum over the present m of (mean_i s_mi + mean_(n != m) mean_i x_mn,i)``
    with self-attention ``s_m`` and cross-attention ``x_mn``, as below.

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
    every attention is a masked mean.

    Limits: sees products of modalities, so parities; no positions are added, so that time is seen
    only by its content and what falls on the same step cannot be told.

    Cost: O(N features (D + N)) time, O(N (features + N)) memory per example, for N tokens in all.

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
