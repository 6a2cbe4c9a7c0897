"""One time axis for modalities that run at different rates, and what follows once they share it."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from mmfuse.fusion.base import Fused, masked_mean, names, one_token
from mmfuse.recurrent import LSTM

Array = jax.Array
Arrays = dict[str, Array]
Steps = tuple[Array, Array]
Resample = Callable[[str, Array, Array], Steps]


def align(x: Array, length: int) -> Array:
    """``[B, T, ...] -> [B, length, ...]``: step t reads the source's step ``floor(t T / length)``.

    The time axes are taken to cover the same span: a single step (T = 1) is broadcast, a slower
    modality is held, and ``length = T`` is the identity.
    """
    return x[:, np.arange(length) * x.shape[1] // length]


def own_steps(tokens: Array, mask: Array) -> Steps:
    """The steps of a modality on its own time axis: ``[B, T, D]`` and where it has any, ``[B, T]``.

    A step is the masked mean over S of its tokens, zero where it has none.
    """
    return masked_mean(tokens, mask, axis=2), jnp.any(mask, axis=2)


def aligned(
    tokens: Arrays, masks: Arrays, length: int, resample: Resample | None = None
) -> tuple[Arrays, Arrays]:
    """The steps of every modality on one time axis, ``{m: [B, L, D_m]}, {m: bool [B, L]}``.

    ``resample(m, steps, there)`` is asked for those that have a time axis of another length; what
    has the right length stays, and what has no time axis (T = 1) is held. Without it, all are held.
    """
    steps, there = {}, {}
    for m in names(tokens):
        x, p = own_steps(tokens[m], masks[m])
        if resample is None or x.shape[1] in (1, length):
            steps[m], there[m] = align(x, length), align(p, length)
        else:
            steps[m], there[m] = resample(m, x, p)
    return steps, there


def counted_steps(tokens: Arrays, there: Arrays) -> Array:
    """``[B, L]``: which aligned steps count, given where each modality has them.

    A step counts where a modality with a time axis (T > 1) has it; an example that has only
    modalities without one (T = 1) is a single step, so that a picture held over the whole clip does
    not turn padding into steps.
    """
    order = names(tokens)
    none = jnp.zeros_like(there[order[0]])
    timed = [there[m] for m in order if tokens[m].shape[1] > 1]
    timeless = [there[m] for m in order if tokens[m].shape[1] == 1]
    moving = jnp.any(jnp.stack([none, *timed]), axis=0)
    first = (jnp.arange(none.shape[1]) == 0)[None]
    still = jnp.any(jnp.stack([none, *timeless]), axis=0) & first
    return jnp.where(jnp.any(moving, axis=1, keepdims=True), moving, still)


def joint_steps(steps: Arrays, there: Arrays) -> Array:
    """``[B, L, sum_m (D_m + 1)]``: the modalities side by side, each with its presence bit."""
    parts = []
    for m in names(steps):
        parts += [steps[m], there[m][..., None].astype(steps[m].dtype)]
    return jnp.concatenate(parts, axis=-1)


def shared_lstm(features: int, tokens: Arrays, steps: Arrays, there: Arrays) -> Fused:
    """The last state of one LSTM over the joint steps, under the parameter name ``lstm``."""
    valid = counted_steps(tokens, there)
    _, last = LSTM(features, name="lstm")(joint_steps(steps, there), valid)
    return one_token(last, jnp.any(valid, axis=1))


def token_weights(weights: Array, mask: Array) -> Array:
    """Weights of steps ``[B, Q, T]`` as weights of their tokens, ``[B, Q, T S]``.

    A step is the mean over its tokens (``mask [B, T, S]``), so each of them has an equal share.
    """
    share = mask / jnp.maximum(jnp.sum(mask, axis=2, keepdims=True), 1)
    spread = weights[..., None] * share[:, None].astype(weights.dtype)
    return spread.reshape(*weights.shape[:2], -1)
