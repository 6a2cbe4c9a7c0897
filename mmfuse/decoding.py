"""Generating a sequence, step by step, from a decoder that was trained with teacher forcing.

``score(previous) -> output`` is the decoder as it was trained: at each step of ``previous``, the
sequence one step late, it says what comes next. It is asked again at every step, for the whole
sequence, so that any decoder can be used, and what it computes is what was trained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmfuse.data.text import PADDING
from mmfuse.fusion.base import Fused
from mmfuse.model import FusionModel, model_inputs
from mmfuse.tasks.sequences import late

Score = Callable[[jax.Array], jax.Array]


def scorer(model: FusionModel, params: Any, batch: Mapping[str, Any], repeat: int = 1) -> Score:
    """The decoder of a model for a batch; the encoders and the fusion are computed once.

    Each example is there ``repeat`` times, one after the other (the beams of ``beam``).
    """
    _, fused = model.apply({"params": params}, *model_inputs(batch), train=False)
    tokens, mask = (jnp.repeat(x, repeat, axis=0) for x in (fused.tokens, fused.mask))
    return decoder(model.head, params["head"], Fused(tokens, mask))


def decoder(head: nn.Module, params: Any, fused: Fused) -> Score:
    """The ``score`` of a head for fused tokens."""

    def score(previous: jax.Array) -> jax.Array:
        return head.apply({"params": params}, fused, {}, {"previous": previous}, train=False)

    return score


def nucleus(logits: jax.Array, top_p: float) -> jax.Array:
    """The logits [..., V], -inf outside the nucleus (Holtzman et al. 2020, arXiv:1904.09751).

    The nucleus is the smallest set of the most probable words whose probabilities add up to at
    least ``top_p``; at 1 it is all of them.
    """
    if top_p >= 1:
        return logits
    order = jnp.argsort(-logits, axis=-1)
    ranked = jnp.take_along_axis(jax.nn.softmax(logits, axis=-1), order, axis=-1)
    before = jnp.cumsum(ranked, axis=-1) - ranked
    place = jnp.argsort(order, axis=-1)
    kept = jnp.take_along_axis(before < top_p, place, axis=-1)
    return jnp.where(kept, logits, -jnp.inf)


def greedy(score: Score, size: int, length: int, *, end: int) -> jax.Array:
    """The most probable word at every step: ids int32 [size, length], 0 behind ``end``."""
    return _generate(score, size, length, lambda t, logits: jnp.argmax(logits, axis=-1), end)


def sample(
    score: Score,
    size: int,
    length: int,
    key: jax.Array,
    *,
    end: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
) -> jax.Array:
    """Words drawn from ``nucleus(softmax(logits / temperature), top_p)``, as ``greedy`` returns."""

    def pick(t: jax.Array, logits: jax.Array) -> jax.Array:
        return jax.random.categorical(
            jax.random.fold_in(key, t), nucleus(logits / temperature, top_p)
        )

    return _generate(score, size, length, pick, end)


def beam(
    score: Score, size: int, length: int, width: int, *, end: int
) -> tuple[jax.Array, jax.Array]:
    """Beam search: the ``width`` most probable beginnings are kept at every step.

    ``score`` must hold every example ``width`` times (``scorer(..., repeat=width)``). Texts are
    compared by ``log p(text)``, without a correction for their length; one that has reached its end
    stays as it is.

    Returns:
      ids int32 [size, width, length], 0 behind ``end``, the best first, and log p [size, width].
      With width V^length it is an exhaustive search; with width 1 it is ``greedy``.
    """

    def step(carry: tuple, t: jax.Array) -> tuple:
        ids, total, done = carry
        logits = score(late(ids.reshape(-1, length)))[:, t]
        log_p = jax.nn.log_softmax(_without_padding(logits)).reshape(size, width, -1)
        words = log_p.shape[-1]
        stay = jnp.where(jnp.arange(words) == PADDING, 0.0, -jnp.inf)
        log_p = jnp.where(done[..., None], stay[None, None], log_p)
        total, best = jax.lax.top_k((total[..., None] + log_p).reshape(size, -1), width)
        parent, word = best // words, (best % words).astype(jnp.int32)
        ids = jnp.take_along_axis(ids, parent[..., None], axis=1).at[:, :, t].set(word)
        done = jnp.take_along_axis(done, parent, axis=1) | (word == end)
        return (ids, total, done), None

    ids = jnp.zeros((size, width, length), jnp.int32)
    total = jnp.broadcast_to(jnp.where(jnp.arange(width) == 0, 0.0, -jnp.inf)[None], (size, width))
    done = jnp.zeros((size, width), bool)
    (ids, total, _), _ = jax.lax.scan(step, (ids, total, done), jnp.arange(length))
    return ids, total


def searched(
    model: FusionModel, params: Any, batch: Mapping[str, Any], length: int, width: int, *, end: int
) -> jax.Array:
    """The best text that a ``beam`` of this width finds for each example, ids int32 [B, length]."""
    score = scorer(model, params, batch, repeat=width)
    return beam(score, len(batch["weight"]), length, width, end=end)[0][:, 0]


def frames(score: Score, size: int, shape: tuple[int, int]) -> jax.Array:
    """Frames [size, T, F], each predicted from those before it as predicted; shape is (T, F)."""

    def step(made: jax.Array, t: jax.Array) -> tuple:
        return made.at[:, t].set(score(late(made))[:, t]), None

    return jax.lax.scan(step, jnp.zeros((size, *shape)), jnp.arange(shape[0]))[0]


def distinct(texts: Sequence[np.ndarray], n: int, *, end: int) -> float | None:
    """distinct-n (Li et al. 2016, arXiv:1510.03055): different n-grams over all n-grams of texts.

    A text is ids as they were generated; its end and the padding behind are no words. None if no
    text has n words.
    """
    words = [[int(i) for i in ids if i not in (PADDING, end)] for ids in texts]
    grams = [tuple(w[i : i + n]) for w in words for i in range(len(w) - n + 1)]
    return len(set(grams)) / len(grams) if grams else None


def _generate(score: Score, size: int, length: int, pick: Callable, end: int) -> jax.Array:
    def step(carry: tuple, t: jax.Array) -> tuple:
        ids, done = carry
        word = pick(t, _without_padding(score(late(ids))[:, t])).astype(jnp.int32)
        word = jnp.where(done, PADDING, word)
        return (ids.at[:, t].set(word), done | (word == end)), None

    start = jnp.zeros((size, length), jnp.int32), jnp.zeros(size, bool)
    return jax.lax.scan(step, start, jnp.arange(length))[0][0]


def _without_padding(logits: jax.Array) -> jax.Array:
    """The id of the padding is no word that could be said."""
    return logits.at[..., PADDING].set(-jnp.inf)
