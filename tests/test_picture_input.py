import numpy as np
import pytest
from PIL import Image

from mmfuse.data.preprocess import build_preprocessor
from mmfuse.errors import InputError, RowError
from tests.inputs import encoded_picture

RNG = np.random.default_rng(0)


def fit(raw, **fields):
    return build_preprocessor("picture", **fields).fit(raw)


def step(fitted, name, picture):
    return {n: value for n, value, _ in fitted.steps(picture)}[name]


def test_encoded_files_and_arrays_of_different_sizes_become_one_size():
    small, large = (RNG.integers(0, 256, shape, np.uint8) for shape in ((9, 14, 3), (20, 11, 3)))
    fitted = fit([encoded_picture(small), large], size=8)
    x, mask = fitted([small, encoded_picture(small), encoded_picture(large, "JPEG")])
    np.testing.assert_array_equal(x[0], x[1])
    assert (x.shape, x.dtype, mask.shape, mask.all()) == ((3, 8, 8, 3), np.float32, (3, 1), True)


def test_crop_and_resize_equal_pillow():
    """The central square by hand, then Pillow's own filter on floats."""
    pixels = RNG.integers(0, 256, (20, 31, 3), np.uint8)
    fitted = fit([pixels], size=7, crop="centre")
    square = pixels[:, 5:25]
    np.testing.assert_array_equal(step(fitted, "crop", pixels), square)
    found = step(fitted, "resize", pixels)
    for channel in range(3):
        layer = Image.fromarray(square[..., channel].astype(np.float32) / 255)
        expected = np.asarray(layer.resize((7, 7), Image.Resampling.BILINEAR))
        np.testing.assert_allclose(found[..., channel], expected, atol=1e-5)
    whole = fit([pixels], size=7)
    assert "crop" not in [name for name, _, _ in whole.steps(pixels)]
    assert np.abs(step(whole, "resize", pixels) - found).max() > 0.01


def test_grey_is_the_luma_and_colour_three_channels():
    pixels = RNG.integers(0, 256, (5, 6, 3), np.uint8)
    grey = fit([pixels], colour="grey")
    expected = (pixels / 255) @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(step(grey, "grey", pixels)[..., 0], expected, atol=1e-6)
    pillow = np.asarray(Image.fromarray(pixels).convert("L"))
    np.testing.assert_allclose(step(grey, "grey", pixels)[..., 0] * 255, pillow, atol=0.51)
    one = pixels[..., :1]
    np.testing.assert_allclose(step(grey, "grey", one), one / 255, atol=1e-6)
    colour = fit([pixels], colour="colour")
    np.testing.assert_array_equal(
        step(colour, "colour", one), np.repeat(step(colour, "scale", one), 3, axis=-1)
    )
    with_alpha = np.concatenate([pixels, one], axis=-1)
    np.testing.assert_array_equal(colour([with_alpha])[0], colour([pixels])[0])
    with pytest.raises(RowError, match="2 channels are neither"):
        colour([pixels[..., :2]])


@pytest.mark.parametrize("empty", [b"", np.zeros((0, 4, 3), np.uint8)])
def test_an_absent_picture_is_zeros_with_a_false_mask_and_teaches_nothing(empty):
    pictures = list(RNG.integers(0, 256, (4, 6, 6, 3), np.uint8))
    alone, beside = fit(pictures, size=6), fit([empty, *pictures, empty], size=6)
    assert beside.state() == alone.state()
    x, mask = beside([pictures[0], empty])
    assert mask.tolist() == [[True], [False]]
    assert not x[1].any()
    assert x[0].any()
    x, mask = beside([empty])
    assert (x.shape, x.any(), mask.any()) == ((1, 6, 6, 3), False, False)


def test_without_a_size_all_pictures_are_alike_and_present():
    pictures = [RNG.integers(0, 256, (6, width, 3), np.uint8) for width in (6, 6, 7)]
    with pytest.raises(RowError, match=r"in others \(6, 6, 3\): set size") as caught:
        fit(pictures)
    assert caught.value.row == 2
    with pytest.raises(RowError, match="no size: set size"):
        fit(pictures[:2])([pictures[0], b""])
    with pytest.raises(RowError, match=r"\[height, width, channels\], got shape \(6, 6\)"):
        fit([pictures[0][..., 0]])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"crop": "center"}, "crop 'center'; allowed: none, centre; did you mean 'centre'"),
        ({"colour": "gray"}, "colour 'gray'.*did you mean 'grey'"),
        ({"size": -1}, "size must be a whole number >= 0, got -1"),
    ],
)
def test_impossible_fields(fields, said):
    with pytest.raises(InputError, match=said):
        build_preprocessor("picture", **fields)
