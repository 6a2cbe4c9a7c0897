"""From a fused vector to a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmfuse.attention import MultiHeadAttention
from mmfuse.convolution import conv2d
from mmfuse.decoders.sequence import source
from mmfuse.fusion.base import Fused, masked_mean


class Canvas(nn.Module):
    """``x + attention(x, tokens)`` of ``x = W f + b``, a vector for each of so many pixels.

    ``f`` is the masked mean of the fused tokens; each pixel attends to them with their mask.
    """

    pixels: int
    features: int
    heads: int = 1

    @nn.compact
    def __call__(self, fused: Fused, *, train: bool = False) -> jax.Array:
        """[B, pixels, features]."""
        f = masked_mean(fused.tokens, fused.mask, axis=(1, 2))
        x = nn.Dense(self.pixels * self.features, name="start")(f)
        x = x.reshape(len(f), self.pixels, self.features)
        attention = MultiHeadAttention(self.features, self.heads, name="attention")
        return x + attention(x, *source(fused), train=train)[0]


class PictureCNN(nn.Module):
    """``relu`` of a canvas as a small picture; per block: twice the size, convolution, ReLU.

    Sizes are doubled by repeating pixels, which leaves no checkerboard as a strided transposed
    convolution does (Odena et al. 2016). The first picture has height ceil(H / 2^L) for
    L = len(blocks); a last convolution gives the channels, and what is beyond H and W is cut off.
    """

    shape: Sequence[int]  # H, W, C
    blocks: Sequence[int] = (32, 16)
    kernel: int = 3
    heads: int = 1

    @nn.compact
    def __call__(
        self, fused: Fused, encoded: Any = None, given: Any = None, *, train: bool = False
    ) -> jax.Array:
        """[B, H, W, C], without bounds."""
        height, width, channels = self.shape
        small = [math.ceil(side / 2 ** len(self.blocks)) for side in (height, width)]
        start = self.blocks[0] if self.blocks else channels
        canvas = Canvas(math.prod(small), start, self.heads, name="canvas")
        x = nn.relu(canvas(fused, train=train))
        x = x.reshape(len(x), *small, start)
        for number, features in enumerate(self.blocks):
            x = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
            x = nn.relu(self._convolved(x, features, f"block_{number}"))
        return self._convolved(x, channels, "pixels")[:, :height, :width]

    def _convolved(self, x: jax.Array, features: int, name: str) -> jax.Array:
        shape = (self.kernel, self.kernel, x.shape[-1], features)
        kernel = self.param(f"{name}_kernel", nn.initializers.he_normal(), shape)
        bias = self.param(f"{name}_bias", nn.initializers.zeros, (features,))
        return conv2d(x, kernel) + bias[None, None, None]
