"""Decoders of sequences, words or frames: what comes next, given all before it and the fusion.

All are trained with teacher forcing: ``given["previous"]`` holds the sequence one step late, after
a first step of zeros, so that step t sees the targets before t and the fused tokens, and nothing
else. Steps behind the end of a sequence change nothing before it.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmfuse.attention import MultiHeadAttention, TransformerBlock, sinusoidal_positions
from mmfuse.fusion.base import Array, Fused, flatten, masked_mean
from mmfuse.recurrent import LSTM


def source(fused: Fused) -> tuple[Array, Array]:
    """The fused tokens [B, N, D], zero where masked, and their mask [B, N]."""
    tokens, mask = flatten(fused.tokens), flatten(fused.mask)
    return jnp.where(mask[..., None], tokens, 0), mask


class AttendingLSTM(nn.Module):
    """``h_t = LSTM([x_t; f])``, ``y_t = tanh(W [h_t; attention(h_t, tokens)] + b)``.

    ``f`` is the masked mean of the fused tokens, to which ``h_t`` attends with their mask: the
    global attention of Luong et al. 2015 (arXiv:1508.04025), with projected heads for the score,
    and ``f`` at every step in place of the encoder's last state at the first.
    """

    features: int
    heads: int = 1

    @nn.compact
    def __call__(self, x: Array, fused: Fused, *, train: bool) -> Array:
        """``x [B, T, E] -> y [B, T, features]``."""
        f = masked_mean(fused.tokens, fused.mask, axis=(1, 2))
        f = jnp.broadcast_to(f[:, None], (*x.shape[:2], f.shape[-1]))
        steps = jnp.ones(x.shape[:2], bool)
        h, _ = LSTM(self.features, name="lstm")(jnp.concatenate([x, f], axis=-1), steps)
        attention = MultiHeadAttention(self.features, self.heads, name="attention")
        c, _ = attention(h, *source(fused), train=train)
        return jnp.tanh(nn.Dense(self.features, name="mixed")(jnp.concatenate([h, c], axis=-1)))


class AttendingTransformer(nn.Module):
    """A transformer decoder (Vaswani et al. 2017): causal self-attention, then attention to the
    fused tokens with their mask, in ``layers`` layers of two pre-norm blocks, and a last norm.

    Differs from the paper: both blocks of a layer have a feed-forward part.
    """

    features: int
    heads: int = 2
    layers: int = 2
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: Array, fused: Fused, *, train: bool) -> Array:
        """``x [B, T, E] -> y [B, T, features]``."""
        tokens, mask = source(fused)
        size, steps = x.shape[:2]
        x = nn.Dense(self.features, name="input")(x)
        x = x + jnp.asarray(sinusoidal_positions(steps, self.features), x.dtype)[None]
        causal = jnp.broadcast_to(
            jnp.tril(jnp.ones((steps, steps), bool))[None], (size, steps, steps)
        )
        for layer in range(self.layers):
            own = TransformerBlock(self.heads, dropout=self.dropout, name=f"self_{layer}")
            cross = TransformerBlock(self.heads, dropout=self.dropout, name=f"cross_{layer}")
            x, _ = own(x, causal, train=train)
            x, _ = cross(x, mask, tokens, train=train)
        return nn.LayerNorm(name="norm")(x)


class _Words(nn.Module):
    """Logits of the next word, ``W y_t + b`` of ``core`` over embedded words."""

    vocabulary: int
    features: int = 128

    @nn.compact
    def __call__(
        self, fused: Fused, encoded: object, given: dict[str, Array], *, train: bool = False
    ) -> jax.Array:
        """``given["previous"]`` int [B, T], the first 0 -> logits [B, T, vocabulary]."""
        x = nn.Embed(self.vocabulary, self.width, name="embed")(given["previous"])
        return nn.Dense(self.vocabulary, name="affine")(self.core(x, fused, train=train))


class _Sound(nn.Module):
    """The next frame, ``W y_t + b`` of ``core`` over frames.

    With ``feedback`` it is given the true beginning of what it is to make.
    """

    feedback = True
    bands: int
    features: int = 128

    @nn.compact
    def __call__(
        self, fused: Fused, encoded: object, given: dict[str, Array], *, train: bool = False
    ) -> jax.Array:
        """``given["previous"]`` [B, T, bands], the first 0 -> frames [B, T, bands]."""
        return nn.Dense(self.bands, name="affine")(self.core(given["previous"], fused, train=train))


class _LSTMCore(nn.Module):
    heads: int = 1

    def core(self, x: Array, fused: Fused, *, train: bool) -> Array:
        """``x [B, T, E] -> y [B, T, features]``."""
        return AttendingLSTM(self.features, self.heads, name="decoder")(x, fused, train=train)


class _TransformerCore(nn.Module):
    heads: int = 2
    layers: int = 2
    dropout: float = 0.0

    def core(self, x: Array, fused: Fused, *, train: bool) -> Array:
        """``x [B, T, E] -> y [B, T, features]``."""
        fields = (self.features, self.heads, self.layers, self.dropout)
        return AttendingTransformer(*fields, name="decoder")(x, fused, train=train)


class LSTMWords(_LSTMCore, _Words):
    """Logits of the next word, ``W y_t + b`` of an ``AttendingLSTM`` over embedded words."""

    embed: int = 64

    @property
    def width(self) -> int:
        """Of an embedded word."""
        return self.embed


class TransformerWords(_TransformerCore, _Words):
    """Logits of the next word, ``W y_t + b`` of an ``AttendingTransformer`` over embedded words."""

    @property
    def width(self) -> int:
        """Of an embedded word."""
        return self.features


class LSTMSound(_LSTMCore, _Sound):
    """The next frame, ``W y_t + b`` of an ``AttendingLSTM`` over frames."""


class TransformerSound(_TransformerCore, _Sound):
    """The next frame, ``W y_t + b`` of an ``AttendingTransformer`` over frames."""


class RecurrentSound(_LSTMCore, _Sound):
    """All frames from the fused tokens alone, ``W y_t + b`` of an ``AttendingLSTM`` over time.

    ``x_t`` is the sinusoidal position t and holds nothing of the sound: what is computed in
    training is what is generated, and the output is the mean of the frames given the input.
    """

    feedback = False

    def core(self, x: Array, fused: Fused, *, train: bool) -> Array:
        """``x [B, T, bands]``, of which the shape alone counts ``-> y [B, T, features]``."""
        size, steps = x.shape[:2]
        positions = jnp.asarray(sinusoidal_positions(steps, self.features), fused.tokens.dtype)
        positions = jnp.broadcast_to(positions[None], (size, *positions.shape))
        return super().core(positions, fused, train=train)
