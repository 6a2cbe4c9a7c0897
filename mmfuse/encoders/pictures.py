"""Encoders of pictures and spectrograms: convolutions, then a layer per place."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmfuse.convolution import conv_relu_pool
from mmfuse.encoders.base import Encoded, finish, zero_masked
from mmfuse.errors import InputError


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
        x = zero_masked(x, mask[:, :, None, None])
        for channels, kernel in _plan(self.channels, self.kernel):
            x, _ = ConvBlock(channels, kernel)(x, jnp.broadcast_to(mask, x.shape[:2]))
        tokens = x.reshape(x.shape[0], 1, -1, x.shape[-1])
        return finish(PlaceDense(self.features)(tokens), mask)


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
        x = zero_masked(x, mask[:, :, None, None])
        for channels, kernel in _plan(self.channels, self.kernel):
            x, mask = ConvBlock(channels, kernel)(x, mask)
        return finish(PlaceDense(self.features)(x), mask)


def _plan(channels: Sequence[int], kernel: int | Sequence[int]) -> list[tuple[int, int]]:
    """Pairs the channels of each block with its kernel size."""
    sizes = [kernel] * len(channels) if isinstance(kernel, int) else list(kernel)
    if len(sizes) != len(channels):
        raise InputError(f"kernel {tuple(sizes)} and channels {tuple(channels)} differ in length")
    return list(zip(channels, sizes, strict=True))
