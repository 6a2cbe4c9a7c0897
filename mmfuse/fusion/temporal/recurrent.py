"""Recurrence over aligned steps."""

from __future__ import annotations

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmfuse.fusion.base import Fused, masked_mean, names, one_token
from mmfuse.fusion.temporal.alignment import align
from mmfuse.recurrent import LSTM

Array = jax.Array


class EarlyLSTM(nn.Module):
    """Early fusion: align the modalities, concatenate each step, run one LSTM over time.

    ``x_t = [p_1t h_1t; p_1t; ..; p_Mt h_Mt; p_Mt]``, ``f = LSTM(x)_last``, where ``h_mt`` is the
    masked mean over S, aligned to the longest T by ``align``, and ``p_mt`` is 1 where the modality
    has that step. A step counts where a modality with a time axis (T > 1) has it; an example that
    has only modalities without one (T = 1) is a single step, so that a picture held over the whole
    clip does not turn padding into steps.

    The head sees the last hidden state, as in the literature's EF-LSTM, not the mean of the states.

    Shapes: ``{m: [B, T_m, S_m, D_m]} -> [B, 1, 1, features]``.
    Source: the EF-LSTM baseline, e.g. Zadeh et al. 2018 (arXiv:1802.00927), run there on data that
    is aligned by word; the presence bits and the masked steps are not in it.
    """

    needs_time: ClassVar[bool] = True

    features: int

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        del train
        steps, valid = early_steps(tokens, masks)
        _, last = LSTM(self.features, name="lstm")(steps, valid)
        return one_token(last, jnp.any(valid, axis=1))


def early_steps(tokens: dict[str, Array], masks: dict[str, Array]) -> tuple[Array, Array]:
    """The aligned sequence ``[B, T, sum_m (D_m + 1)]`` and which steps count, bool ``[B, T]``."""
    length = max(x.shape[1] for x in tokens.values())
    parts, timed, timeless = [], [], []
    for m in names(tokens):
        present = align(jnp.any(masks[m], axis=2), length)
        parts.append(align(masked_mean(tokens[m], masks[m], axis=2), length))
        parts.append(present[..., None].astype(tokens[m].dtype))
        (timed if tokens[m].shape[1] > 1 else timeless).append(present)
    none = jnp.zeros_like(present)
    moving = jnp.any(jnp.stack([none, *timed]), axis=0)
    still = jnp.any(jnp.stack([none, *timeless]), axis=0) & (jnp.arange(length) == 0)[None]
    valid = jnp.where(jnp.any(moving, axis=1, keepdims=True), moving, still)
    return jnp.concatenate(parts, axis=-1), valid
