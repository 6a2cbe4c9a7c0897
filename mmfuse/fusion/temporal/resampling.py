"""Alignment layers: how a modality is brought to the time axis of another, then early fusion."""

from __future__ import annotations

import math
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from mmfuse.attention import weighted_sum
from mmfuse.errors import InputError, nearest
from mmfuse.fusion.base import Fused, dense, names
from mmfuse.fusion.temporal.alignment import (
    Arrays,
    Steps,
    align,
    aligned,
    shared_lstm,
    token_weights,
)
from mmfuse.recurrent import LSTM

Array = jax.Array

IMPOSSIBLE = -1e5  # A logit whose softmax is exactly zero.


def target_of(tokens: Arrays, target: str) -> str:
    """``target``, or if it is empty the modality with the longest time axis (the first of equals).

    Raises:
      InputError: there is no modality of this name.
    """
    order = names(tokens)
    if not target:
        return max(order, key=lambda m: tokens[m].shape[1])
    if target not in order:
        raise InputError(
            f"fusion.target='{target}' is not a modality of this data"
            f"; allowed: {', '.join(order)}{nearest(target, order)}"
        )
    return target


def windows(source: int, length: int) -> np.ndarray:
    """Bool ``[length, source]``: the steps ``floor(t T / L) <= s < ceil((t + 1) T / L)``."""
    t, s = np.arange(length)[:, None], np.arange(source)[None]
    return (t * source // length <= s) & (s < -((t + 1) * source // -length))


def pool_steps(x: Array, there: Array, length: int) -> Steps:
    """The masked mean within each window: ``[B, T, D], [B, T] -> [B, length, D], [B, length]``."""
    inside = jnp.asarray(windows(x.shape[1], length))[None] & there[:, None, :]
    share = inside / jnp.maximum(jnp.sum(inside, axis=-1, keepdims=True), 1)
    return weighted_sum(share.astype(x.dtype), x), jnp.any(inside, axis=-1)


class AlignPool(nn.Module):
    """Alignment by pooling, then early fusion (MMSA, Mao et al. 2022, arXiv:2203.12441).

    ``y_mt = mean of the present h_ms, floor(t T_m / L) <= s < ceil((t + 1) T_m / L)``, where
    ``h_ms`` is the masked mean over S of step s and L is the length of ``target`` (empty: the
    longest). Then, as in ``EarlyLSTM``, ``x_t = [p_1t y_1t; p_1t; ..; p_Mt y_Mt; p_Mt]`` and
    ``f = LSTM(x)_last``, with ``p_mt`` 1 where the window holds a step. What has length L stays as
    it is and what has no time axis (T = 1) is held, so that data that are aligned already give
    ``EarlyLSTM``. A modality that is slower than the target is held, with a mean where two of its
    steps share a step of the target.

    Differs from the source: masked steps are left out, and windows are spread evenly where MMSA
    repeats the last step until the length divides.

    Limits: sees time and products, so both, at the target's resolution: two events within one
    window lose their order. Windows are fixed: a lag between modalities is left to the LSTM.

    Cost: O(sum_m L T_m D_m + L features (D + features)) time, O(L (D + features)) memory per
    example, ``D = sum_m D_m``.

    Shapes: ``{m: [B, T_m, S_m, D_m]} -> [B, 1, 1, features]``.

    Raises:
      InputError: ``target`` is not a modality.
    """

    needs_time: ClassVar[bool] = True

    features: int
    target: str = ""

    @nn.compact
    def __call__(self, tokens: Arrays, masks: Arrays, *, train: bool) -> Fused:
        """See the class."""
        del train
        length = tokens[target_of(tokens, self.target)].shape[1]
        steps, there = aligned(tokens, masks, length, lambda m, x, p: pool_steps(x, p, length))
        return shared_lstm(self.features, tokens, steps, there)


def taps(source: int, length: int, kernel: int) -> tuple[np.ndarray, np.ndarray]:
    """Which source steps each output step of a strided convolution reads.

    Returns indices and whether they are inside, both ``[length, K]``. Output t reads from
    ``floor(t T / L) - (kernel - 1) // 2`` on, K = ceil(T / L) + kernel - 1 steps: the stride, so
    that no step of the source is skipped, and ``kernel - 1`` neighbours. Taps that are never inside
    are left out, for their weights would never be trained.
    """
    width = math.ceil(source / length) + kernel - 1
    start = np.arange(length) * source // length - (kernel - 1) // 2
    at = start[:, None] + np.arange(width)[None]
    inside = (at >= 0) & (at < source)
    used = inside.any(axis=0)
    return np.clip(at, 0, source - 1)[:, used], inside[:, used]


class AlignConv(nn.Module):
    """Alignment by convolution, then early fusion (MMSA, Mao et al. 2022, arXiv:2203.12441).

    ``y_mt = p_mt sum_k W_mk h_m(s(t) + k)``, ``s(t) = floor(t T_m / L)``, with zeros for masked
    steps and beyond the ends, and as many outputs as ``h_m`` has features. The kernel covers the
    stride ``ceil(T_m / L)`` and ``kernel - 1`` neighbours. Then ``f = LSTM(x)_last`` over
    ``x_t = [y_1t; p_1t; ..; y_Mt; p_Mt]``, as in ``EarlyLSTM``; L, ``h_m`` and the presence
    ``p_mt`` are those of ``AlignPool``. What has length L stays as it is, what has no time axis is
    held. A modality that is slower than the target is convolved at its own rate and then held.

    Differs from the source: the ``conv1d`` of MMSA's AlignNets has time in place of channels (one
    learned ``[T, L]`` matrix for all features, tied to absolute positions and deaf to masks), and
    gives the text to the layers of the other modalities by mistake. Here it is a convolution along
    time. It has no bias, for the LSTM has one for each presence bit.

    Limits: sees time and products, so both; within a window it can weigh steps by their place, so
    the order of two events there can survive; lags up to about ``kernel / 2`` steps.

    Cost: O(sum_m T_m kernel D_m^2 + L features (D + features)) time,
    O(sum_m T_m kernel D_m + L (D + features)) memory per example, ``D = sum_m D_m``.

    Shapes: ``{m: [B, T_m, S_m, D_m]} -> [B, 1, 1, features]``; ``W_m [K, D_m, D_m]``.

    Raises:
      InputError: ``target`` is not a modality; ``kernel`` is less than 1.
    """

    needs_time: ClassVar[bool] = True

    features: int
    kernel: int = 3
    target: str = ""

    @nn.compact
    def __call__(self, tokens: Arrays, masks: Arrays, *, train: bool) -> Fused:
        """See the class."""
        del train
        if self.kernel < 1:
            raise InputError(f"align_conv: kernel={self.kernel} must be at least 1")
        length = tokens[target_of(tokens, self.target)].shape[1]

        def convolve(m: str, x: Array, there: Array) -> Steps:
            _, present = pool_steps(x, there, length)
            at, inside = taps(x.shape[1], min(length, x.shape[1]), self.kernel)
            init = nn.initializers.lecun_normal(in_axis=(0, 1))
            kernel = self.param(f"kernel_{m}", init, (at.shape[1], x.shape[-1], x.shape[-1]))
            read = jnp.where(jnp.asarray(inside)[None, :, :, None], x[:, at], 0)
            y = align(jnp.einsum("blkd,kde->ble", read, kernel.astype(x.dtype)), length)
            return jnp.where(present[..., None], y, 0), present

        steps, there = aligned(tokens, masks, length, convolve)
        return shared_lstm(self.features, tokens, steps, there)


class AlignCTC(nn.Module):
    """Alignment by CTC, then early fusion (from MulT, Tsai et al. 2019, arXiv:1906.00295).

    ``y_mt = sum_s P_m[s, t] h_ms``, ``P_m[s] = softmax([blank, 1 .. L]) of V_m LSTM_m(h_m)_s``:
    each step of the source says at which step of the target it belongs, or that it is blank, and
    the target's step t is the sum of the source by these probabilities. Then ``f = LSTM(x)_last``
    over ``x_t = [y_1t; p_1t; ..; y_Mt; p_Mt]``, as in ``EarlyLSTM``; ``h_m`` and L are those of
    ``AlignPool``, ``p_mt`` is 1 where the target has the step. What has length L stays as it is,
    what has no time axis is held.

    In training the loss ``ctc_m`` (the field ``ctc`` times the mean per source step) is the
    negative log-likelihood of the target's steps 1, 2, .., n in this order, summed over all
    assignments with blanks and repetitions (connectionist temporal classification, Graves et al.
    2006, doi:10.1145/1143844.1143891). It makes the assignment monotone. It needs n source steps
    or more and is 0 for an example with fewer. A modality whose time axis, padding included, is
    shorter than the target's has no such loss at all, and its assignment is learnt from the task
    alone: with the default target, the longest, that is so for every modality.

    Differs from MulT: the logits are an affine map of one LSTM of ``hidden`` units, where MulT
    reads them off the L + 1 units of a second LSTM, whose states in (-1, 1) cannot become a sharp
    softmax; masked steps of the target are not among the positions, those of the source assign
    nothing; one optimiser for all; the shared LSTM in place of the transformers.

    Limits: sees time and products, so both, once the assignment is learnt: it starts out almost
    uniform, so at first the order of the source's steps is seen only through ``LSTM_m``'s logits.

    Cost: O(sum_m T_m (hidden (D_m + hidden + L) + L D_m) + L features (D + features)) time,
    O(sum_m T_m (hidden + L) + L (D + features)) memory per example, ``D = sum_m D_m``.

    Shapes: ``{m: [B, T_m, S_m, D_m]} -> [B, 1, 1, features]``; weights ``target<-m``
    ``[B, L, T_m S_m]``, each step's probability shared by its tokens.

    Raises:
      InputError: ``target`` is not a modality.
    """

    needs_time: ClassVar[bool] = True

    features: int
    hidden: int
    ctc: float = 1.0
    target: str = ""

    @nn.compact
    def __call__(self, tokens: Arrays, masks: Arrays, *, train: bool) -> Fused:
        """See the class."""
        target = target_of(tokens, self.target)
        has = jnp.any(masks[target], axis=2)
        slots = jnp.where(jnp.any(has, axis=1, keepdims=True), has, True)
        weights, losses = {}, {}

        def assign(m: str, x: Array, there: Array) -> Steps:
            h, _ = LSTM(self.hidden, name=f"aligner_{m}")(x, there)
            logits = dense(slots.shape[1] + 1, h, f"position_{m}")(h).astype(jnp.float32)
            allowed = jnp.pad(slots, ((0, 0), (1, 0)), constant_values=True)
            logits = jnp.where(allowed[:, None], logits, IMPOSSIBLE)
            chosen = jnp.where(there[..., None], jax.nn.softmax(logits), 0)[..., 1:]
            chosen = jnp.swapaxes(chosen, 1, 2).astype(x.dtype)
            weights[f"{target}<-{m}"] = token_weights(chosen, masks[m])
            if train and x.shape[1] >= slots.shape[1]:
                losses[f"ctc_{m}"] = self.ctc * monotone_loss(logits, there, slots)
            return weighted_sum(chosen, x), slots & jnp.any(there, axis=1, keepdims=True)

        steps, there = aligned(tokens, masks, slots.shape[1], assign)
        fused = shared_lstm(self.features, tokens, steps, there)
        return fused.replace(weights=weights, losses=losses)


def monotone_loss(logits: Array, there: Array, slots: Array) -> Array:
    """``[B]``: the CTC loss per source step of the allowed positions in order; 0 if too few steps.

    ``logits [B, T, 1 + L]`` (blank first), ``there [B, T]`` source steps, ``slots [B, L]``.
    """
    order = jnp.argsort(~slots, axis=1, stable=True)  # The allowed positions first.
    absent = ~jnp.take_along_axis(slots, order, axis=1)
    there_f, absent_f = there.astype(jnp.float32), absent.astype(jnp.float32)
    loss = optax.ctc_loss(logits, 1 - there_f, order + 1, absent_f)
    count = jnp.sum(there, axis=1)
    enough = (count >= jnp.sum(slots, axis=1)) & (count > 0)
    return jnp.where(enough, loss / jnp.maximum(count, 1), 0)
