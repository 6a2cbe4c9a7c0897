import gzip
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from mmfuse.data import image
from mmfuse.errors import InputError

RNG = np.random.default_rng(0)


def test_read_idx(tmp_path):
    path = tmp_path / "x.gz"
    array = RNG.integers(0, 256, (3, 4, 5), np.uint8)
    header = struct.pack(">4B3I", 0, 0, 8, 3, 3, 4, 5)
    path.write_bytes(gzip.compress(header + array.tobytes()))
    np.testing.assert_array_equal(image.read_idx(path), array)
    for bad in (b"", header[:9], header + b"\0", b"\0\0\x0d\1" + header[4:8] + b"\0\0\0"):
        path.write_bytes(gzip.compress(bad))
        with pytest.raises(InputError, match=str(path)):
            image.read_idx(path)


def test_to_float_is_a_255th():
    values = np.arange(256, dtype=np.uint8)
    np.testing.assert_allclose(image.to_float(values), np.arange(256) / 255, rtol=1e-7)
    assert image.to_float(values).dtype == np.float32
    with pytest.raises(InputError, match="float64"):
        image.to_float(np.zeros(3))


def test_crops_cut_where_they_say():
    images = RNG.random((2, 5, 6, 3))
    np.testing.assert_array_equal(image.crop(images, 1, 2, 3, 4), images[:, 1:4, 2:6])
    np.testing.assert_array_equal(image.centre_crop(images, 2, 2), images[:, 1:3, 2:4])
    np.testing.assert_array_equal(image.centre_crop(images, 5, 6), images)
    for box in [(3, 0, 3, 3), (0, 4, 3, 3), (-1, 0, 2, 2), (0, 0, 0, 2)]:
        with pytest.raises(InputError, match="crop"):
            image.crop(images, *box)
    with pytest.raises(InputError, match="crop"):
        image.centre_crop(images, 7, 6)


@pytest.mark.parametrize("size", [(16, 16), (5, 9), (33, 20), (64, 7)])
def test_resize_equals_pillow(size):
    picture = RNG.random((20, 31)).astype(np.float32)
    ours = image.resize(picture[None, :, :, None], size)[0, :, :, 0]
    pillow = Image.fromarray(picture).resize(size[::-1], Image.Resampling.BILINEAR)
    np.testing.assert_allclose(ours, np.asarray(pillow), atol=1e-5)


def test_resize_of_bytes_stays_bytes_within_one_step_of_pillow():
    picture = RNG.integers(0, 256, (24, 24, 3), np.uint8)
    ours = image.resize(picture, (10, 13))
    pillow = np.asarray(Image.fromarray(picture).resize((13, 10), Image.Resampling.BILINEAR))
    assert ours.dtype == np.uint8
    assert np.abs(ours.astype(int) - pillow).max() <= 1
    np.testing.assert_array_equal(image.resize(picture, (24, 24)), picture)
    with pytest.raises(InputError, match="0 pixels"):
        image.resize(picture, (0, 3))


def test_standardised_training_images_have_mean_0_and_sd_1_per_channel():
    images = RNG.normal([1, -2, 5], [3, 0.5, 1], (20, 6, 6, 3)).astype(np.float32)
    mean, std = image.channel_statistics(images)
    flat = image.standardise(images, mean, std).reshape(-1, 3)
    np.testing.assert_allclose(flat.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(flat.std(0), 1, atol=1e-5)
    assert flat.dtype == np.float32


def test_a_constant_channel_becomes_zero():
    images = np.full((2, 3, 3, 1), 7.0)
    assert not image.standardise(images, *image.channel_statistics(images)).any()


def test_flip_mirrors_about_half_of_the_images_and_never_changes_pixels():
    pictures = jnp.asarray(RNG.random((400, 2, 3, 1), np.float32))
    keys = jax.random.split(jax.random.key(0), 400)
    out = np.asarray(jax.vmap(image.flip)(keys, pictures))
    same = (out == pictures).all((1, 2, 3))
    mirrored = (out == pictures[:, :, ::-1]).all((1, 2, 3))
    assert (same | mirrored).all()
    assert 160 < mirrored.sum() < 240
    np.testing.assert_array_equal(image.flip(keys[0], pictures[0], 1.0), pictures[0][:, ::-1])


def test_random_crop_reaches_every_shift_and_pads_with_zeros():
    picture = jnp.arange(1.0, 10.0).reshape(3, 3, 1)
    padded = np.pad(np.asarray(picture)[:, :, 0], 1)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3)).reshape(9, 9)
    keys = jax.random.split(jax.random.key(1), 400)
    out = np.asarray(jax.vmap(image.random_crop, (0, None, None))(keys, picture, 1))
    hits = (out.reshape(400, 1, 9) == windows[None]).all(-1)
    assert (hits.sum(1) == 1).all()
    counts = hits.sum(0)
    assert (counts > 20).all()
    assert (counts < 75).all()


def test_principal_components_agree_with_the_singular_value_decomposition(monkeypatch):
    monkeypatch.setattr(image, "ROWS_AT_ONCE", 7)
    rows = RNG.normal(size=(40, 6)) @ RNG.normal(size=(6, 6)) + 3
    mean, directions, share = image.principal_components(rows)
    left, size, right = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    np.testing.assert_allclose(mean, rows.mean(0))
    np.testing.assert_allclose(share, np.cumsum(size**2) / np.sum(size**2))
    rebuilt = (left[:, :2] * size[:2]) @ right[:2] + rows.mean(0)
    np.testing.assert_allclose(image.keep_components(rows, mean, directions, 2), rebuilt)
    np.testing.assert_allclose(image.keep_components(rows, mean, directions, 6), rows)
