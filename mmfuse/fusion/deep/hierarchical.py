"""Fusion level by level: single modalities, then all pairs of them, then everything."""

from __future__ import annotations

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmfuse.fusion.base import Fused, dense, masked_mean, names, one_token
from mmfuse.fusion.temporal.alignment import align, counted_steps, own_steps
from mmfuse.fusion.temporal.recurrent import longest
from mmfuse.recurrent import LSTM

Array = jax.Array


class CHFusion(nn.Module):
    """Hierarchical fusion with context modeling (Majumder et al. 2018, arXiv:1806.06228).

    ``f = mean_t RNN(tanh(sum_mn w_mn * RNN_mn(tanh(w_m * x_mt + w_n * x_nt + b_mn)) + b))``, where
    ``x_mt = RNN_m(tanh(W_m h_mt + b_m))``. The products with ``w`` are per feature: feature l of a
    pair is made of feature l of its two members alone, ``i_l = tanh(w1_l x1_l + w2_l x2_l + b_l)``,
    and ``W_m`` brings all modalities to one width before. ``RNN_.`` is the context model of a unit:
    it runs over the steps in time, one network for each modality, each pair, and the top.

    Two modalities have one pair, which is the top, and one modality is its own top. With more than
    three the hierarchy stays as deep as with three: single modalities, all pairs, everything.

    Differs from the paper: the recurrence is an LSTM where the paper has a GRU, and runs over the
    time steps of one example, aligned as in ``EarlyLSTM``, where the paper's steps are the
    utterances of a video, each with a label; hence the mean over time. ``W_m`` comes before the
    unimodal context instead of after it. All levels are trained together by the one loss, not one
    after the other; no dropout. A unit counts at the steps where one of its members does, and
    what is absent adds zero.

    Limits: sees time; modalities meet in sums inside tanh, feature by feature, and in the gates of
    the recurrence, so that products of two modalities are learnt, if indirectly.

    Cost: O(T F (M^2 F + sum_m D_m)) time, O(M^2 T F) memory per example, for F features.

    Shapes: ``{m: [B, T_m, S_m, D_m]} -> [B, 1, 1, features]``; no weights.
    """

    needs_time: ClassVar[bool] = True

    features: int

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        del train
        order = names(tokens)
        x, there = self._steps(tokens, masks)
        x = self._context(x, there, "modalities")
        if len(order) > 1:
            first, second = np.triu_indices(len(order), 1)
            x = self._combine([x[first], x[second]], "pairs")
            there = there[first] | there[second]
            x = self._context(x, there, "context_pairs")
        if len(order) > 2:
            x = self._combine([pair[None] for pair in x], "all")
            there = jnp.any(there, axis=0, keepdims=True)
            x = self._context(x, there, "context_all")
        return one_token(masked_mean(x[0], there[0]), jnp.any(there[0], axis=1))

    def _steps(self, tokens: dict[str, Array], masks: dict[str, Array]) -> tuple[Array, Array]:
        """The modalities on one clock and at one width: ``[M, B, T, F]``, bool ``[M, B, T]``."""
        length, xs, there = longest(tokens), [], {}
        for m in names(tokens):
            x, present = own_steps(tokens[m], masks[m])
            xs.append(align(jnp.tanh(dense(self.features, x, f"project_{m}")(x)), length))
            there[m] = align(present, length)
        valid = counted_steps(tokens, there)
        return jnp.stack(xs), jnp.stack([there[m] & valid for m in names(tokens)])

    def _context(self, x: Array, there: Array, name: str) -> Array:
        """A recurrence for each of U units: ``[U, B, T, F], [U, B, T] -> [U, B, T, F]``."""
        # One scan for all units of a level: they are small, and each scan is compiled anew.
        each = nn.vmap(LSTM, variable_axes={"params": 0}, split_rngs={"params": True})
        return each(self.features, name=name)(x, there)[0]

    def _combine(self, members: list[Array], name: str) -> Array:
        """``tanh(sum_i w_i * x_i + b)`` for U units: each member ``[U, B, T, F]``."""
        shape, dtype = (members[0].shape[0], self.features), members[0].dtype
        init = nn.initializers.normal(len(members) ** -0.5)
        weight = self.param(f"{name}_weight", init, (len(members), *shape)).astype(dtype)
        bias = self.param(f"{name}_bias", nn.initializers.zeros, shape).astype(dtype)
        return jnp.tanh(hadamard_sum(members, weight) + bias[:, None, None])


def hadamard_sum(members: list[Array], weight: Array) -> Array:
    """``sum_i w_i * x_i`` per feature: ``N x [U, B, T, F]``, ``w [N, U, F] -> [U, B, T, F]``."""
    return sum(x * w[:, None, None] for x, w in zip(members, weight, strict=True))
