"""Encoders: each turns one modality into tokens [B, T, S, D] and a mask [B, T, S], nothing else.

``encoder(x, mask, train=...)``: the mask [B, T] is True where the input holds data. Masked
positions have exactly zero influence on tokens and gradients, and masked tokens are zeros.
None of these encoders draws random numbers, so ``train`` changes nothing here.

Token ids are int32 in [0, vocab_size). An id outside cannot raise under jit (``nn.Embed`` gives
NaN for it), so ids are checked where the data are loaded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmfuse.convolution import conv_relu_pool
from mmfuse.data.vectors import WordVectors
from mmfuse.errors import InputError, nearest
from mmfuse.recurrent import LSTM
from mmfuse.relations import RelationNetwork

Encoded = tuple[jax.Array, jax.Array]


class ConvBlock(nn.Module):
    """Convolution, ReLU, 2 x 2 max pool: x [B, H, W, C] -> [B, H // 2, W // 2, features].

    Stride 1, zero padding, a bias. ``mask`` [B, H] marks the rows of x that hold data (the
    others must be zero); pooled rows without any of them become zero. Returns their mask too.

    Raises:
      InputError: x is smaller than the pool.
    """

    features: int
    kernel: int = 3

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> Encoded:
        """Applies the block to a batch of pictures."""
        if min(x.shape[1:3]) < 2:
            raise InputError(f"ConvBlock: {x.shape[1:3]} is too small to pool; use fewer channels")
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape).astype(x.dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,)).astype(x.dtype)
        mask = pooled_rows(mask, x.shape[1] // 2)
        return conv_relu_pool(x, kernel, bias, mask), mask


def pooled_rows(mask: jax.Array, height: int) -> jax.Array:
    """The mask [B, height] of pooled rows, each of two rows of a mask [B, H]."""
    return mask[:, : 2 * height].reshape(mask.shape[0], height, 2).any(-1)


class PlaceDense(nn.Module):
    """A Dense layer with weights of its own at every place: x [B, T, S, C] -> [B, T, S, features].

    y_ts = W_ts x_ts + b. The mean of the y over all places is 1 / (T S) of LeNet's flatten and
    Dense layer, so a pooled method still knows where in the picture something was, while token
    methods see the places one by one. T and S are fixed by the first input.
    """

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Applies the layer to a batch."""
        init = nn.initializers.lecun_normal(batch_axis=(0, 1))
        kernel = self.param("kernel", init, (*x.shape[1:], self.features)).astype(x.dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,)).astype(x.dtype)
        return jnp.einsum("btsc,tscd->btsd", x, kernel) + bias[None, None, None]


class ImageCNN(nn.Module):
    """A picture [B, H, W, C], mask [B, 1] -> tokens [B, 1, S, D], one per remaining patch.

    L = len(channels) blocks of convolution, ReLU and 2 x 2 max pool, then ``PlaceDense``:
    S = (H // 2^L) * (W // 2^L), D = features. ``kernel`` is one size, or one per block: the
    LeNet-like plan for AV-MNIST is ``channels=(6, 12, 24), kernel=(5, 3, 3)``.
    """

    features: int
    channels: Sequence[int] = (16, 32)
    kernel: int | Sequence[int] = 3

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, *, train: bool) -> Encoded:
        """Encodes a batch: the tokens and their mask."""
        x = _zero_masked(x, mask[:, :, None, None])
        for channels, kernel in _plan(self.channels, self.kernel):
            x, _ = ConvBlock(channels, kernel)(x, jnp.broadcast_to(mask, x.shape[:2]))
        tokens = x.reshape(x.shape[0], 1, -1, x.shape[-1])
        return _finish(PlaceDense(self.features)(tokens), mask)


class SpectrogramCNN(nn.Module):
    """A spectrogram [B, T, F, 1], mask of frames [B, T] -> tokens [B, T', S', D].

    L = len(channels) blocks as in ``ImageCNN``, each halving time and frequency, then
    ``PlaceDense``: T' = T // 2^L steps of S' = F // 2^L bands (each halving drops an odd last
    frame or band). A pooled step is valid if any of its two frames is. What is masked is zero
    before and after every block: masked frames act as the zero padding of a convolution does, no
    bias leaks from them, and how many of them there are behind a clip changes nothing.
    The LeNet-like plan for AV-MNIST is ``channels=(6, 12, 24, 48, 96), kernel=(5, 3, 3, 3, 3)``.
    """

    features: int
    channels: Sequence[int] = (16, 32)
    kernel: int | Sequence[int] = 3

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, *, train: bool) -> Encoded:
        """Encodes a batch: the tokens and their mask."""
        x = _zero_masked(x, mask[:, :, None, None])
        for channels, kernel in _plan(self.channels, self.kernel):
            x, mask = ConvBlock(channels, kernel)(x, mask)
        return _finish(PlaceDense(self.features)(x), mask)


class AudioLSTM(nn.Module):
    """Log-mel frames [B, T, F], mask [B, T] -> LSTM outputs [B, T, 1, D], D = features."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, *, train: bool) -> Encoded:
        """Encodes a batch: the tokens and their mask."""
        outputs, _ = LSTM(self.features)(_zero_masked(x, mask[:, :, None]), mask)
        return _finish(outputs[:, :, None], mask)


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
        outputs, _ = LSTM(self.features)(_zero_masked(embedded, mask[:, :, None]), mask)
        return _finish(outputs[:, :, None], mask)


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
        return _finish(nn.Dense(self.features)(hidden)[:, :, None], mask)


class Embedding(nn.Module):
    """Ids [B, T], mask [B, T] -> one learned vector per id: tokens [B, T, 1, D], D = features."""

    features: int
    vocab_size: int

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, *, train: bool) -> Encoded:
        """Encodes a batch: the tokens and their mask."""
        vectors = nn.Embed(self.vocab_size, self.features)(jnp.where(mask, x, 0))
        return _finish(vectors[:, :, None], mask)


class Tied(nn.Module):
    """Ids [B, T], mask [B, T] -> their rows of the head's own table: tokens [B, T, 1, D].

    ``head`` is the head of the model, which ``mmfuse.build`` fills in; D is the table's width. No
    parameters of its own.
    """

    vocab_size: int
    head: nn.Module

    def __call__(self, x: jax.Array, mask: jax.Array, *, train: bool) -> Encoded:
        """Encodes a batch: the tokens and their mask."""
        return _finish(self.head.lookup(jnp.where(mask, x, 0))[:, :, None], mask)


class FrameMLP(nn.Module):
    """Feature vectors [B, F] (mask [B, 1]) or frames [B, T, F] (mask [B, T]) -> [B, T', 1, D].

    A two-layer MLP per step, local in time. A step is ``group`` consecutive frames side by side,
    T' = ceil(T / group), zeros in place of masked and missing frames; it is valid if any of its
    frames is.
    """

    features: int
    hidden: int = 64
    group: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, *, train: bool) -> Encoded:
        """Encodes a batch: the tokens and their mask."""
        x = x[:, None] if x.ndim == 2 else x
        x = _zero_masked(x, mask[:, :, None])
        missing = -x.shape[1] % self.group
        x = jnp.pad(x, ((0, 0), (0, missing), (0, 0)))
        mask = jnp.pad(mask, ((0, 0), (0, missing)))
        x = x.reshape(x.shape[0], -1, self.group * x.shape[-1])
        mask = mask.reshape(*x.shape[:2], self.group).any(-1)
        hidden = nn.relu(nn.Dense(self.hidden)(x))
        return _finish(nn.Dense(self.features)(hidden)[:, :, None], mask)


ENCODERS: dict[str, type[nn.Module]] = {
    "image_cnn": ImageCNN,
    "spectrogram_cnn": SpectrogramCNN,
    "audio_lstm": AudioLSTM,
    "text_lstm": TextLSTM,
    "text_local": TextLocal,
    "embedding": Embedding,
    "tied": Tied,
    "mlp": FrameMLP,
    "relations": RelationNetwork,
}


def build_encoder(name: str, **fields: Any) -> nn.Module:
    """The encoder of this name in ``ENCODERS`` with these fields.

    Raises:
      InputError: unknown name, unknown field, or a required field that is missing.
    """
    if name not in ENCODERS:
        raise InputError(
            f"unknown encoder {name!r}; allowed: {', '.join(ENCODERS)}{nearest(name, ENCODERS)}"
        )
    declared = [f for f in dataclasses.fields(ENCODERS[name]) if f.name not in ("parent", "name")]
    allowed = [field.name for field in declared]
    for field in fields:
        if field not in allowed:
            raise InputError(
                f"encoder {name!r} has no field {field!r}; "
                f"allowed: {', '.join(allowed)}{nearest(field, allowed)}"
            )
    for field in declared:
        if field.default is dataclasses.MISSING and field.name not in fields:
            raise InputError(f"encoder {name!r} needs the field {field.name!r}")
    return ENCODERS[name](**fields)


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


def _zero_masked(x: jax.Array, mask: jax.Array) -> jax.Array:
    """Zeros where the mask is False, even in place of NaN; the mask broadcasts against x."""
    return jnp.where(mask, x, jnp.zeros((), x.dtype))


def _finish(tokens: jax.Array, mask: jax.Array) -> Encoded:
    """Spreads the mask [B, T] over the S tokens of each step and zeroes masked tokens."""
    mask = jnp.broadcast_to(mask[:, :, None], tokens.shape[:3])
    return _zero_masked(tokens, mask[..., None]), mask


def _plan(channels: Sequence[int], kernel: int | Sequence[int]) -> list[tuple[int, int]]:
    """Pairs the channels of each block with its kernel size."""
    sizes = [kernel] * len(channels) if isinstance(kernel, int) else list(kernel)
    if len(sizes) != len(channels):
        raise InputError(f"kernel {tuple(sizes)} and channels {tuple(channels)} differ in length")
    return list(zip(channels, sizes, strict=True))
