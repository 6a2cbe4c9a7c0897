"""Pictures: PNG, JPEG and BMP as uint8 RGB, the number of pixels checked before any is decoded.

One rule for each kind of picture:

* colours behind alpha (RGBA, LA, a palette or a colour marked transparent) are put over white;
* grey is repeated into three channels; black-and-white is 0 and 255; CMYK and YCbCr are converted
  as Pillow does without colour profiles; 16-bit samples keep their high byte;
* the orientation that a camera wrote (EXIF) is applied; unreadable EXIF counts as none.
"""

from __future__ import annotations

import io
import struct
import threading
import warnings

import numpy as np
from PIL import Image

from mmfuse.data.safe.limits import MIB, DataError, Source, decoding, name_of, read_bytes

FORMATS = ("PNG", "JPEG", "BMP")
MAX_PIXELS = 1 << 25  # 8192 x 4096; about 0.5 GiB while it is decoded
MAX_BYTES = 128 * MIB
ORIENTATION = 0x0112  # EXIF tag
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_OPENING = threading.Lock()  # warnings' filters are the whole process's


def read_picture(
    source: Source, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES, name: str = ""
) -> np.ndarray:
    """Reads a picture as uint8 [H, W, 3].

    Args:
      source: a path, or the bytes of the file.
      max_pixels: height times width.
      max_bytes: of the file.
      name: of the source in messages.

    Raises:
      DataError: for another format, a truncated or altered file, too many pixels or bytes.
    """
    label = name_of(source, name)
    data = read_bytes(source, max_bytes, name)
    if not data:
        raise DataError(f"{label}: empty; a picture is needed")
    with decoding(label, "PNG, JPEG or BMP picture"), _open(data, label) as picture:
        width, height = picture.size
        if width * height > max_pixels:
            raise DataError(f"{label}: {width} x {height} pixels; at most {max_pixels} are decoded")
        turn = TURNS.get(_orientation(picture.info.get("exif", b"")))
        picture.load()
        colours = _rgb(picture, label)
        return np.array(colours.transpose(turn) if turn is not None else colours)


def _open(data: bytes, label: str) -> Image.Image:
    """Reads the header only. Pillow warns of odd EXIF (unused) and many pixels (checked next)."""
    with _OPENING, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return Image.open(io.BytesIO(data), formats=FORMATS)
        except Image.DecompressionBombError as error:
            raise DataError(f"{label}: too many pixels ({error})") from error


def _rgb(picture: Image.Image, label: str) -> Image.Image:
    if picture.mode.startswith("I;16"):
        return _from_16_bits(picture)
    if picture.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in picture.info:
        colours = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", colours.size, "white"), colours).convert(
            "RGB"
        )
    if picture.mode not in ("1", "L", "P", "RGB", "CMYK", "YCbCr"):
        raise DataError(f"{label}: pixels of mode {picture.mode}")
    return picture.convert("RGB")


def _from_16_bits(picture: Image.Image) -> Image.Image:
    values = np.asarray(picture)
    grey = (values >> 8).astype(np.uint8)
    transparent = picture.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return Image.fromarray(grey).convert("RGB")


def _orientation(exif: bytes) -> int:
    """The orientation 1..8 in a block of EXIF; 1 where there is none or the block is damaged.

    Parsed here because Pillow reads the whole block and warns of whatever else is odd in it.
    """
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None or len(tiff) < 10:
        return 1
    (place,) = struct.unpack_from(order + "I", tiff, 4)
    if place + 2 > len(tiff):
        return 1
    (count,) = struct.unpack_from(order + "H", tiff, place)
    for entry in range(place + 2, min(place + 2 + 12 * count, len(tiff) - 11), 12):
        tag, kind, number, value = struct.unpack_from(order + "HHIH", tiff, entry)
        if (tag, kind, number) == (ORIENTATION, 3, 1):
            return value
    return 1
