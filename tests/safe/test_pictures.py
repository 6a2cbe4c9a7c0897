import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from mmfuse.data import safe
from tests.safe.faults import fault

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
GREY = RGB[..., 0]


def encoded(picture, kind="PNG", **kwargs) -> bytes:
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    buffer = io.BytesIO()
    picture.save(buffer, kind, **kwargs)
    return buffer.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_header(width: int, height: int) -> bytes:
    """A PNG that says how large it is, and has next to no pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0"))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_colours_come_back_from_a_path_and_from_bytes(tmp_path, kind):
    (tmp_path / "a").write_bytes(encoded(RGB, kind))
    for source in (tmp_path / "a", (tmp_path / "a").read_bytes()):
        read = safe.read_picture(source)
        assert (read.dtype, read.flags.writeable) == (np.uint8, True)
        np.testing.assert_array_equal(read, RGB)


def test_grey_and_black_and_white_have_three_equal_channels():
    grey = np.repeat(GREY[..., None], 3, 2)
    np.testing.assert_array_equal(safe.read_picture(encoded(GREY)), grey)
    black = np.where(grey > 99, 255, 0)
    image = Image.fromarray(GREY > 99)
    np.testing.assert_array_equal(safe.read_picture(encoded(image)), black)
    np.testing.assert_array_equal(safe.read_picture(encoded(GREY[:1, :1])), grey[:1, :1])


def test_16_bits_keep_the_high_byte():
    deep = GREY.astype(np.uint16) * 256 + 255
    deep[0, 0] = 0xFFFF
    expected = (deep >> 8).astype(np.uint8)
    np.testing.assert_array_equal(safe.read_picture(encoded(deep))[..., 1], expected)
    clear = encoded(deep)
    clear = clear[:33] + chunk(b"tRNS", struct.pack(">H", deep[1, 1])) + clear[33:]
    expected[deep == deep[1, 1]] = 255
    np.testing.assert_array_equal(safe.read_picture(clear)[..., 1], expected)


def test_alpha_is_put_over_white():
    alpha = np.random.default_rng(1).integers(0, 256, (*GREY.shape, 1), np.uint8)
    expected = np.concatenate([RGB, alpha], 2)
    blend = RGB * (alpha / 255) + 255 * (1 - alpha / 255)
    np.testing.assert_allclose(safe.read_picture(encoded(expected)), blend, atol=1)
    blend = GREY[..., None] * (alpha / 255) + 255 * (1 - alpha / 255)
    grey = Image.fromarray(np.concatenate([GREY[..., None], alpha], 2), "LA")
    np.testing.assert_allclose(safe.read_picture(encoded(grey))[..., :1], blend, atol=1)


def test_palettes_with_and_without_a_transparent_colour():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    assert safe.read_picture(encoded(image)).tolist() == [[[10, 20, 30], [40, 50, 60]]]
    clear = encoded(image, transparency=1)
    assert safe.read_picture(clear).tolist() == [[[10, 20, 30], [255, 255, 255]]]
    marked = encoded(RGB, transparency=tuple(RGB[0, 0].tolist()))
    assert safe.read_picture(marked)[0, 0].tolist() == [255, 255, 255]


def test_cmyk_is_what_pillow_makes_of_it():
    ink = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    read = safe.read_picture(encoded(ink, "JPEG", quality=95))
    assert read.shape == (16, 16, 3)
    np.testing.assert_allclose(read[8, 8], [255, 0, 0], atol=4)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_a_camera_is_applied(orientation, order):
    entries = struct.pack(order + "HHHIHH", 2, 0x0100, 3, 1, 9, 0)
    entries += struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    mark = {"<": b"II*\0", ">": b"MM\0*"}[order]
    exif = b"Exif\0\0" + mark + struct.pack(order + "I", 8) + entries + b"\0" * 4
    stored = {
        1: RGB,
        2: RGB[:, ::-1],
        3: RGB[::-1, ::-1],
        4: RGB[::-1],
        5: RGB.transpose(1, 0, 2),
        6: np.rot90(RGB, 1),
        7: RGB[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(RGB, -1),
    }[orientation]
    np.testing.assert_array_equal(safe.read_picture(encoded(stored, exif=exif)), RGB)


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0",
        b"Exif\0\0II*\0",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff",
    ],
)
def test_damaged_exif_counts_as_none(exif):
    flat = np.full((8, 8, 3), 77, np.uint8)
    np.testing.assert_array_equal(safe.read_picture(encoded(flat, "JPEG", exif=exif)), flat)


@pytest.mark.parametrize("size", [(30_000, 30_000), (20_000, 7_000), (8192, 4097)])
def test_too_many_pixels_are_refused_from_the_header(size, monkeypatch):
    monkeypatch.setattr(Image.Image, "load", None)  # not even called
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert "pixels" in fault(safe.read_picture, png_header(*size))
    assert not caught


def test_the_limit_is_height_times_width():
    assert safe.read_picture(encoded(RGB), max_pixels=35).shape == RGB.shape
    message = fault(safe.read_picture, encoded(RGB), max_pixels=34, name="a.png")
    assert message == "a.png: 7 x 5 pixels; at most 34 are decoded"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP"])
def test_a_cut_picture_is_refused_or_lost_no_pixel(kind):
    whole = encoded(RGB, kind)
    expected, refused = safe.read_picture(whole), 0
    for cut in range(len(whole)):
        try:
            np.testing.assert_array_equal(safe.read_picture(whole[:cut]), expected)
        except safe.DataError:
            refused += 1
    assert refused > len(whole) * 0.75


def test_other_files():
    assert "empty" in fault(safe.read_picture, b"")
    assert "not a readable PNG, JPEG or BMP" in fault(safe.read_picture, b"GIF89a" + bytes(99))
    assert "not a readable" in fault(safe.read_picture, encoded(RGB, "TIFF"))
    assert "at most 10 bytes" in fault(safe.read_picture, encoded(RGB), max_bytes=10)
