"""Images: read, crop, resize, standardise, augment, and reduce to a few principal components.

Preprocessing is numpy (it runs once, on the host). Augmentation is jax and keyed: it runs inside
the compiled training step, where a key folded from (seed, step, index) gives the same picture to
an example however the batch is split over devices, replicas or resumed runs.
Letters: N images, H height, W width, C channels.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from scipy import linalg

from mmfuse.errors import InputError

ROWS_AT_ONCE = 4096  # float64 rows in memory at a time while fitting components


def read_idx(path: str | Path) -> np.ndarray:
    """Reads a gzipped IDX file of bytes (LeCun's MNIST format) as uint8 [N, ...].

    Header: two zero bytes, type 0x08, the number of axes, then each length as big-endian uint32.

    Raises:
      InputError: for another type, or when lengths and bytes disagree.
    """
    with gzip.open(path, "rb") as file:
        data = file.read()
    start = 4 + 4 * data[3] if len(data) > 3 else 4
    if data[:3] != b"\x00\x00\x08" or len(data) < start:
        raise InputError(f"{path}: not an IDX file of bytes")
    shape = tuple(np.frombuffer(data[4:start], ">u4").astype(int))
    if len(data) - start != np.prod(shape):
        raise InputError(f"{path}: header says {shape}, but {len(data) - start} bytes follow it")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def to_float(images: np.ndarray) -> np.ndarray:
    """Returns uint8 ``images`` (any shape) as float32 in [0, 1], x / 255.

    Raises:
      InputError: for another dtype: its range would be a guess.
    """
    if images.dtype != np.uint8:
        raise InputError(f"to_float: expected uint8 images, got {images.dtype}")
    return images.astype(np.float32) / np.float32(255)


def crop(images: np.ndarray, top: int, left: int, height: int, width: int) -> np.ndarray:
    """Returns rows ``top:top+height``, columns ``left:left+width`` of ``images`` [..., H, W, C]."""
    rows, columns = images.shape[-3:-1]
    if min(top, left) < 0 or min(height, width) < 1:
        raise InputError(f"crop: a {height}x{width} box at ({top}, {left}) is not a box")
    if top + height > rows or left + width > columns:
        raise InputError(
            f"crop: a {height}x{width} box at ({top}, {left}) leaves the {rows}x{columns} image"
        )
    return images[..., top : top + height, left : left + width, :]


def centre_crop(images: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns the central [..., height, width, C] box; an odd margin is one larger at the end."""
    rows, columns = images.shape[-3:-1]
    return crop(images, (rows - height) // 2, (columns - width) // 2, height, width)


def resize(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns ``images`` [..., H, W, C] at ``size`` = (height, width) by bilinear interpolation.

    Half-pixel centres; when shrinking, the triangle filter is widened by the scale, so nothing
    aliases: Pillow's ``BILINEAR`` with ``reducing_gap=None``, and ``jax.image.resize`` "linear".
    Separable: one [out, in] weight matrix a side. uint8 is rounded half up and stays uint8,
    every other dtype becomes float32.
    """
    rows = _bilinear_weights(images.shape[-3], size[0])
    columns = _bilinear_weights(images.shape[-2], size[1])
    resized = np.einsum("hy,...yxc,wx->...hwc", rows, images, columns, optimize=True)
    if images.dtype == np.uint8:
        return np.floor(np.clip(resized, 0, 255) + 0.5).astype(np.uint8)
    return resized.astype(np.float32)


def _bilinear_weights(size: int, new_size: int) -> np.ndarray:
    """Returns the [new_size, size] weights of the triangle filter; every row sums to one."""
    if new_size < 1:
        raise InputError(f"resize: a side of {new_size} pixels must be at least 1")
    scale = size / new_size
    centre = (np.arange(new_size) + 0.5)[:, None] * scale
    distance = np.abs(np.arange(size)[None] + 0.5 - centre) / max(scale, 1.0)
    weights = np.maximum(0.0, 1.0 - distance)
    return weights / weights.sum(axis=1, keepdims=True)


def channel_statistics(train_images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and standard deviation per channel, float32 [C] each.

    Args:
      train_images: the TRAINING images and no others, [N, H, W, C], in the unit in which
        `standardise` will meet them.
    """
    axes = tuple(range(train_images.ndim - 1))
    mean = train_images.mean(axis=axes, dtype=np.float64)
    std = train_images.std(axis=axes, dtype=np.float64)
    return mean.astype(np.float32), std.astype(np.float32)


def standardise(images: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Returns (images - mean) / std as float32 [..., C]; a constant channel (std 0) becomes 0."""
    mean, std = np.asarray(mean, np.float32), np.asarray(std, np.float32)
    return (images.astype(np.float32) - mean) / np.where(std > 0, std, np.float32(1))


def flip(key: jax.Array, image: jax.Array, probability: float = 0.5) -> jax.Array:
    """Mirrors ``image`` [H, W, C] left to right with ``probability``; vmap over keys and images."""
    return jnp.where(jax.random.bernoulli(key, probability), image[:, ::-1, :], image)


def random_crop(key: jax.Array, image: jax.Array, padding: int) -> jax.Array:
    """Pads ``image`` [H, W, C] with zeros by ``padding`` a side and cuts an [H, W, C] box from it.

    Every one of the (2 padding + 1)^2 shifts is equally likely; vmap over keys and images.
    """
    padded = jnp.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    top, left = jax.random.randint(key, (2,), 0, 2 * padding + 1)
    return jax.lax.dynamic_slice(padded, (top, left, jnp.zeros_like(top)), image.shape)


def principal_components(train_rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centred principal component analysis of the TRAINING rows.

    Args:
      train_rows: [N, P], any real dtype.

    Returns:
      mean [P]; directions [P, P], orthonormal columns by falling variance; and the cumulative
      share of the variance [P] that the first 1, 2, ... of them hold. float64.
    """
    mean = train_rows.mean(axis=0, dtype=np.float64)
    scatter = np.zeros((mean.size, mean.size))
    for start in range(0, len(train_rows), ROWS_AT_ONCE):
        centred = train_rows[start : start + ROWS_AT_ONCE] - mean
        scatter += centred.T @ centred
    variance, directions = linalg.eigh(scatter)
    variance, directions = np.maximum(variance[::-1], 0.0), directions[:, ::-1]
    return mean, directions, np.cumsum(variance) / variance.sum()


def keep_components(
    rows: np.ndarray, mean: np.ndarray, directions: np.ndarray, k: int
) -> np.ndarray:
    """Returns ``rows`` [N, P] rebuilt from their first ``k`` components, the mean added back."""
    kept = directions[:, :k]
    return (rows - mean) @ kept @ kept.T + mean
