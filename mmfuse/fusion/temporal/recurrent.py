"""Recurrence over time: before the modalities meet, after, or both."""

from __future__ import annotations

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmfuse.attention import cross_attention
from mmfuse.fusion.base import Fused, any_present, dense, masked_mean, names, one_token
from mmfuse.fusion.temporal.alignment import (
    align,
    aligned,
    counted_steps,
    joint_steps,
    own_steps,
    shared_lstm,
    token_weights,
)
from mmfuse.recurrent import LSTM

Array = jax.Array


class EarlyLSTM(nn.Module):
    """Early fusion by one LSTM, EF-LSTM (baseline, e.g. Zadeh et al. 2018, arXiv:1802.00927).

    ``f = LSTM(x)_last, x_t = [p_1t h_1t; p_1t; ..; p_Mt h_Mt; p_Mt]``, where ``h_mt`` is the
    masked mean over S, aligned to the longest T by ``align``, and ``p_mt`` is 1 where the modality
    has that step. A step counts where a modality with a time axis (T > 1) has it; an example that
    has only modalities without one (T = 1) is a single step, so that a picture held over the whole
    clip does not turn padding into steps.

    The head sees the last hidden state, as in the literature's EF-LSTM, not the mean of the states.

    Differs from the paper: run there on data that is aligned by word; the presence bits and the
    masked steps are not in it.

    Limits: sees time and products, so both; a state of ``features`` numbers carries the example.

    Cost: O(T features (D + features)) time, O(T (D + features)) memory per example,
    ``T = max_m T_m``, ``D = sum_m D_m``.

    Shapes: ``{m: [B, T_m, S_m, D_m]} -> [B, 1, 1, features]``.
    """

    needs_time: ClassVar[bool] = True

    features: int

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        del train
        steps, there = aligned(tokens, masks, longest(tokens))
        return shared_lstm(self.features, tokens, steps, there)


def longest(tokens: dict[str, Array]) -> int:
    """The largest T."""
    return max(x.shape[1] for x in tokens.values())


def early_steps(tokens: dict[str, Array], masks: dict[str, Array]) -> tuple[Array, Array]:
    """The aligned sequence ``[B, T, sum_m (D_m + 1)]`` and which steps count, bool ``[B, T]``."""
    steps, there = aligned(tokens, masks, longest(tokens))
    return joint_steps(steps, there), counted_steps(tokens, there)


def still(features: int, x: Array, mask: Array, name: str) -> Array:
    """``tanh(V x + c)``, zero where masked: what stands for an LSTM where there is one step only.

    Over a single step the recurrent weights of an LSTM would never be used.
    """
    return jnp.where(mask[..., None], jnp.tanh(dense(features, x, name)(x)), 0)


def both_ways(hidden: int, x: Array, mask: Array, name: str) -> Array:
    """A bidirectional LSTM: ``[B, T, D], [B, T] -> [B, T, 2 hidden]``, zero where masked."""
    if x.shape[1] == 1:
        return still(2 * hidden, x, mask, name)
    forward, _ = LSTM(hidden, name=f"{name}_forward")(x, mask)
    backward, _ = LSTM(hidden, reverse=True, name=f"{name}_backward")(x, mask)
    return jnp.concatenate([forward, backward], axis=-1)


class LateLSTM(nn.Module):
    """Late fusion of LSTMs, LF-LSTM (baseline, e.g. Tsai et al. 2019, arXiv:1906.00295).

    ``f = W [LSTM_1(h_1)_last; ..; LSTM_M(h_M)_last] + b``, where ``h_mt`` is the masked mean over S
    of step t. Every modality keeps its own time axis, nothing is aligned. One without (T = 1) has
    ``tanh(V_m h_m + c_m)`` in place of the LSTM, an absent one gives a block of zeros.

    Differs from the source: unidirectional, one affine layer after the concatenation where others
    have a perceptron, so that this stays a control without any interaction.

    Limits: a sum of one-modality terms, as the head is affine too: any timing within a modality,
    no parity of two and nothing about when one happens relative to the other.

    Cost: O(sum_m T_m hidden (D_m + hidden)) time, O(sum_m T_m (D_m + hidden)) memory per example.

    Shapes: ``{m: [B, T_m, S_m, D_m]} -> [B, 1, 1, features]``; ``W [M hidden, features]``.
    """

    needs_time: ClassVar[bool] = True

    features: int
    hidden: int

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        del train
        lasts, present = [], {}
        for m in names(tokens):
            x, there = own_steps(tokens[m], masks[m])
            if x.shape[1] == 1:
                lasts.append(still(self.hidden, x, there, f"still_{m}")[:, 0])
            else:
                lasts.append(LSTM(self.hidden, name=f"lstm_{m}")(x, there)[1])
            present[m] = jnp.any(there, axis=1)
        joint = jnp.concatenate(lasts, axis=-1)
        return one_token(dense(self.features, joint, "out")(joint), any_present(present))


class BCLSTM(nn.Module):
    """Bidirectional contextual LSTM, bc-LSTM (Poria et al. 2017, ACL, doi:10.18653/v1/P17-1081).

    ``f = mean_t (W z_t + b), z = biLSTM([u_1; ..; u_M]), u_m = biLSTM_m(h_m)``: a bidirectional
    LSTM a modality over its own steps ``h_mt`` (masked mean over S), its outputs aligned to the
    longest T by ``align`` and set side by side, a second bidirectional LSTM over the joint steps,
    and the mean over the steps that count (see ``EarlyLSTM``). Outputs are zero where a modality is
    not there. One without a time axis (T = 1) has ``u_m = tanh(V_m h_m + c_m)``.

    Differs from the paper: steps of one example stand where the paper has the utterances of one
    video, each with a label of its own; both levels are trained together, where the paper trains
    the unimodal level first and freezes it; the paper's dense layer on top of the first level,
    between the two, is left to the second LSTM's input matrix.

    Limits: sees time and products, so both; the second level can compare what two modalities do at
    one step, and its context reaches the whole example in both directions.

    Cost: O(sum_m T_m hidden (D_m + hidden) + M T hidden^2) time, O(M T hidden) memory per example,
    ``T = max_m T_m``.

    Shapes: ``{m: [B, T_m, S_m, D_m]} -> [B, 1, 1, features]``; ``u_m, z [B, T, 2 hidden]``.
    """

    needs_time: ClassVar[bool] = True

    features: int
    hidden: int

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        del train
        length, contexts, there = longest(tokens), [], {}
        for m in names(tokens):
            x, mask = own_steps(tokens[m], masks[m])
            contexts.append(align(both_ways(self.hidden, x, mask, f"context_{m}"), length))
            there[m] = align(mask, length)
        valid = counted_steps(tokens, there)
        z = both_ways(self.hidden, jnp.concatenate(contexts, axis=-1), valid, "joint")
        # The mean and an affine map commute: the mean first is cheaper.
        vector = masked_mean(z, valid)
        return one_token(dense(self.features, vector, "out")(vector), jnp.any(valid, axis=1))


class ContextualAttention(nn.Module):
    """Contextual inter-modal attention (Ghosal et al. 2018, EMNLP, doi:10.18653/v1/D18-1382).

    ``a_mn,t = x_mt * sum_s softmax_s(x_mt . x_ns) x_ns``: each step of modality m attends to all
    steps of modality n, and gates what it finds by multiplication with itself (the paper's
    MMMU-BA). Here ``x_mt = tanh(V_m biLSTM_m(h_m)_t + c_m)`` of ``width``, ``h_mt`` the masked mean
    over S; one step only (T = 1) has ``tanh`` of an affine map in place of the biLSTM. For all
    ordered pairs, and with the ``x_m`` themselves as the paper's residual,
    ``f = W [mean_t x_m for all m; mean_t a_mn,t for all m != n] + b``.

    Differs from the paper: LSTMs in place of GRUs; the mean over the steps of one example, where
    the paper has a label for each utterance of a video; as the mean is taken for each stream over
    its own steps, nothing is aligned. More than three modalities: all pairs. One modality has no
    pair, so what remains is the mean of ``x_m``. As in the paper the attention is not scaled.

    Limits: a sum of terms of two modalities each, products among them: a parity of two but not of
    three; sees time through the LSTMs, and across modalities by content alone.

    Cost: O(sum_m T_m hidden (D_m + hidden) + width (sum_m T_m)^2) time,
    O((sum_m T_m)^2 + M width sum_m T_m) memory per example.

    Shapes: ``{m: [B, T_m, S_m, D_m]} -> [B, 1, 1, features]``; weights ``m<-n [B, T_m, T_n S_n]``,
    each step's weight shared by its tokens; ``W [M^2 width, features]``.
    """

    needs_time: ClassVar[bool] = True

    features: int
    hidden: int
    width: int

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        del train
        xs, there = {}, {}
        for m in names(tokens):
            x, there[m] = own_steps(tokens[m], masks[m])
            y = both_ways(self.hidden, x, there[m], f"context_{m}")
            xs[m] = jnp.tanh(dense(self.width, y, f"project_{m}")(y))
        means, weights = [masked_mean(x, there[m]) for m, x in xs.items()], {}
        for m, x in xs.items():
            for n in (n for n in xs if n != m):
                found, a = cross_attention(x, xs[n], there[n], 1.0)
                means.append(masked_mean(x * found, there[m]))
                weights[f"{m}<-{n}"] = token_weights(a, masks[n])
        joint = jnp.concatenate(means, axis=-1)
        present = {m: jnp.any(mask, axis=1) for m, mask in there.items()}
        f = dense(self.features, joint, "out")(joint)
        return one_token(f, any_present(present), weights)
