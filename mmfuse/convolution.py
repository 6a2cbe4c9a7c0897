"""Convolution and pooling: matrix products on the CPU backend, ``lax.conv`` on accelerators.

XLA's convolution is many times slower than its matrix product on CPU. There a convolution is one
product of the kernel and shifted copies of the picture, with the batch as last axis: each shift
then moves whole rows of memory. One function, ``takes_products``, decides.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array

products = jax.make_user_context(None)
"""``with products(False):`` forces ``lax.conv``, e.g. to count its FLOPs, and ``True`` products.

It is part of the key of jit's cache: a jitted function is traced again when the form changes.
"""


def takes_products() -> bool:
    """Says whether convolutions are matrix products: on the CPU backend, unless forced."""
    return jax.default_backend() == "cpu" if products.value is None else products.value


def conv2d(x: Array, kernel: Array, *, padding: str = "SAME") -> Array:
    """Cross-correlation with stride 1: ``y_bhwo = sum_ijc x_b(h+i)(w+j)c kernel_ijco``.

    x [B, H, W, C], kernel [kh, kw, C, O] -> [B, H, W, O] for ``padding="SAME"`` (zeros, of which
    an even kernel has one more at the end), [B, H-kh+1, W-kw+1, O] for ``"VALID"``.
    """
    if padding not in ("SAME", "VALID"):
        raise ValueError(f"padding is {padding!r}; allowed are 'SAME' and 'VALID'")
    if not takes_products():
        return lax.conv_general_dilated(
            x, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
    x = _swap_batch(x)
    if padding == "SAME":
        x = _pad(x, [((k - 1) // 2, k // 2) for k in kernel.shape[:2]])
    return _swap_batch(_valid_product(x, kernel))


def max_pool(x: Array, window: int = 2) -> Array:
    """Largest value of each window: x [B, H, W, C] -> [B, H // window, W // window, C].

    Rows and columns beyond the last whole window are dropped, as in PyTorch's ``max_pool2d``.
    """
    batch, height, width, channels = x.shape
    height, width = height // window, width // window
    x = x[:, : height * window, : width * window]
    return x.reshape(batch, height, window, width, window, channels).max((2, 4))


def conv_relu_pool(x: Array, kernel: Array, bias: Array, mask: Array) -> Array:
    """``max_pool(relu(conv2d(x, kernel) + bias), 2)``, and zeros in the rows that mask excludes.

    x [B, H, W, C], kernel [kh, kw, C, O], bias [O], mask bool [B, H // 2] of the pooled rows ->
    [B, H // 2, W // 2, O]. It pools first, which gives the same with a quarter of the additions,
    because adding a bias and clipping keep the order.

    As a product it works on blocks of 2 x 2 pixels: the four values that the pool compares are
    four groups of channels of one convolution between blocks. That multiplies the zeros at the
    sides of the four shifted kernels, and gains shorter patches, wider products and a pool without
    strides. In a chain of blocks the transpositions cancel. (``concatenate``, not ``stack``, and
    ``maximum``, not ``max`` over an axis, are what XLA runs fast on CPU, under vmap too.)
    """
    if not takes_products():
        y = jax.nn.relu(max_pool(conv2d(x, kernel)) + bias[None, None, None])
        return jnp.where(mask[:, :, None, None], y, 0)
    blocks = _blocks(_swap_batch(x), kernel.shape[:2])
    y = _valid_product(blocks, _block_kernel(kernel))
    y = functools.reduce(jnp.maximum, jnp.split(y, 4))
    y = jax.nn.relu(y + bias[:, None, None, None])
    return _swap_batch(jnp.where(mask.T[None, :, None], y, 0))


def _swap_batch(x: Array) -> Array:
    """[B, H, W, C] -> [C, H, W, B], and back."""
    return x.transpose(3, 1, 2, 0)


def _pad(x: Array, sides: list[tuple[int, int]]) -> Array:
    """Zeros around the two middle axes; a negative number of them crops."""
    config = [(0, 0, 0), *((low, high, 0) for low, high in sides), (0, 0, 0)]
    return lax.pad(x, jnp.zeros((), x.dtype), config)


def _valid_product(x: Array, kernel: Array) -> Array:
    """One product: x [C, H, W, B], kernel [kh, kw, C, O] -> [O, H-kh+1, W-kw+1, B]."""
    rows, columns, channels, features = kernel.shape
    height, width, batch = x.shape[1] - rows + 1, x.shape[2] - columns + 1, x.shape[3]
    shifts = [(i, j) for i in range(rows) for j in range(columns)]
    patches = jnp.concatenate([x[:, i : i + height, j : j + width] for i, j in shifts])
    patches = patches.reshape(rows * columns * channels, height * width * batch)
    y = kernel.reshape(rows * columns * channels, features).T @ patches
    return y.reshape(features, height, width, batch)


def _blocks(x: Array, size: tuple[int, ...]) -> Array:
    """Pads x [C, H, W, B] for a kernel of this size, and moves its 2 x 2 blocks to the channels.

    Returns [4 C, H // 2 + kh // 2, W // 2 + kw // 2, B], channels in the order (row, column, C).
    """
    channels, *lengths, batch = x.shape
    rows, columns = (length // 2 + k // 2 for length, k in zip(lengths, size, strict=True))
    lows = [(k - 1) // 2 for k in size]
    ends = [2 * rows - lows[0] - lengths[0], 2 * columns - lows[1] - lengths[1]]
    x = _pad(x, list(zip(lows, ends, strict=True)))
    x = x.reshape(channels, rows, 2, columns, 2, batch)
    return x.transpose(2, 4, 0, 1, 3, 5).reshape(4 * channels, rows, columns, batch)


def _block_kernel(kernel: Array) -> Array:
    """The kernel [kh, kw, C, O] between blocks: [kh // 2 + 1, kw // 2 + 1, 4 C, 4 O]."""
    rows, columns, channels, features = kernel.shape
    n, m = rows // 2 + 1, columns // 2 + 1
    down, right = 2 * n - rows, 2 * m - columns
    shifted = [
        jnp.pad(kernel, ((i, down - i), (j, right - j), (0, 0), (0, 0)))
        for i in (0, 1)
        for j in (0, 1)
    ]
    blocks = jnp.stack(shifted, axis=3).reshape(n, 2, m, 2, channels, 4 * features)
    return blocks.transpose(0, 2, 1, 3, 4, 5).reshape(n, m, 4 * channels, 4 * features)
