"""Encoders of ids: the words of a text, and what is known by its number alone.

Ids are int32 in [0, vocab_size). An id outside cannot raise under jit (``nn.Embed`` gives NaN for
it), so ids are checked where the data are loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmfuse.data.vectors import WordVectors
from mmfuse.encoders.base import Encoded, finish, zero_masked
from mmfuse.errors import InputError
from mmfuse.recurrent import LSTM


class TextLSTM(nn.Module):
    """Token ids [B, T], mask [B, T] -> embedding, LSTM outputs [B, T, 1, D], D = features.

    ``vectors`` are the embedding's first values for the words that have some; with
    ``train_vectors`` off they stay what they are, are no parameters, and all other words are zeros.
    """

    features: int
    vocab_size: int
    embed: int = 64
    vectors: WordVectors | None = None
    train_vectors: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, *, train: bool) -> Encoded:
        """Encodes a batch: the tokens and their mask."""
        embedded = _embedded(self, x, mask)
        outputs, _ = LSTM(self.features)(zero_masked(embedded, mask[:, :, None]), mask)
        return finish(outputs[:, :, None], mask)


class TextLocal(nn.Module):
    """Token ids [B, T], mask [B, T] -> embedding and an MLP per token: [B, T, 1, D].

    Local in time: no recurrence and no positions, a token knows nothing of its neighbours.
    ``vectors`` and ``train_vectors`` as in ``TextLSTM``.
    """

    features: int
    vocab_size: int
    embed: int = 64
    vectors: WordVectors | None = None
    train_vectors: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, *, train: bool) -> Encoded:
        """Encodes a batch: the tokens and their mask."""
        embedded = _embedded(self, x, mask)
        hidden = nn.relu(nn.Dense(self.features)(embedded))
        return finish(nn.Dense(self.features)(hidden)[:, :, None], mask)


class Embedding(nn.Module):
    """Ids [B, T], mask [B, T] -> one learned vector per id: tokens [B, T, 1, D], D = features."""

    features: int
    vocab_size: int

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, *, train: bool) -> Encoded:
        """Encodes a batch: the tokens and their mask."""
        vectors = nn.Embed(self.vocab_size, self.features)(jnp.where(mask, x, 0))
        return finish(vectors[:, :, None], mask)


class Tied(nn.Module):
    """Ids [B, T], mask [B, T] -> their rows of the head's own table: tokens [B, T, 1, D].

    ``head`` is the head of the model, which ``mmfuse.build`` fills in; D is the table's width. No
    parameters of its own.
    """

    vocab_size: int
    head: nn.Module

    def __call__(self, x: jax.Array, mask: jax.Array, *, train: bool) -> Encoded:
        """Encodes a batch: the tokens and their mask."""
        return finish(self.head.lookup(jnp.where(mask, x, 0))[:, :, None], mask)


def _embedded(encoder: TextLSTM | TextLocal, x: jax.Array, mask: jax.Array) -> jax.Array:
    """The embedding [B, T, E] of token ids, inside the encoder's ``__call__``."""
    ids, vectors = jnp.where(mask, x, 0), encoder.vectors
    if vectors is None:
        if not encoder.train_vectors:
            raise InputError("train_vectors is off, but the text's preprocessor has no vectors")
        return nn.Embed(encoder.vocab_size, encoder.embed)(ids)
    shape = (encoder.vocab_size, encoder.embed)
    if vectors.values.shape != shape:
        raise InputError(
            f"vectors of shape {vectors.values.shape} do not fit vocab_size {shape[0]} and embed "
            f"{shape[1]}; leave both out"
        )
    if not encoder.train_vectors:
        return jnp.asarray(vectors.values)[ids]
    return nn.Embed(*shape, embedding_init=_starting_from(vectors))(ids)


def _starting_from(vectors: WordVectors) -> nn.initializers.Initializer:
    """The given vectors, and for words without one what ``nn.Embed`` draws by itself."""

    def init(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
        drawn = nn.linear.default_embed_init(key, shape, dtype)
        return jnp.where(vectors.found[:, None], vectors.values.astype(dtype), drawn)

    return init
