"""Pictures, as arrays or encoded files, to standardised floats of one size."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from mmfuse.data import image, safe
from mmfuse.data.stepwise import (
    LEARNED,
    Stage,
    Stepwise,
    check_choice,
    check_number,
    each,
    standardised,
)
from mmfuse.errors import InputError, RowError

CROPS = ("none", "centre")
COLOURS = ("as is", "grey", "colour")
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


@dataclasses.dataclass(frozen=True)
class Picture(Stepwise):
    """Pictures to float32 [N, H, W, C], standardised per channel with training statistics.

    A picture is uint8 [H, W, C], or the bytes of a PNG, JPEG or BMP file (read as RGB); an empty
    one is absent: zeros, mask [N, 1] False.

    Attributes:
      size: resizes to ``size`` x ``size``, bilinear with antialiasing; 0 keeps the size, which all
        pictures must then share, and none may be absent.
      crop: "centre" cuts the central square, as long as the short side, before resizing; "none"
        keeps all of the picture, so that resizing may change its aspect.
      colour: "grey" (BT.601 luma, C = 1), "colour" (C = 3), or "as is".
    """

    size: int = 0
    crop: str = "none"
    colour: str = "as is"
    mean: tuple[float, ...] = dataclasses.field(default=(), metadata=LEARNED)
    std: tuple[float, ...] = dataclasses.field(default=(), metadata=LEARNED)

    def __post_init__(self):
        check_number("picture: size", self.size, 0)
        check_choice("picture: crop", self.crop, CROPS)
        check_choice("picture: colour", self.colour, COLOURS)

    def stages(self) -> Iterable[tuple[str, Stage]]:
        """Decode, crop, scale to [0, 1], grey or colour, resize, standardise."""
        yield "decode", each(_decode)
        if self.crop == "centre":
            yield "crop", each(_central_square)
        yield "scale", each(image.to_float)
        if self.colour != "as is":
            yield self.colour, each(_grey if self.colour == "grey" else _colour)
        yield "resize" if self.size else "stack", self._resize
        yield "standardise", self._standardise

    def _resize(self, values: Sequence, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self.size:
            values, _ = each(lambda x: image.resize(x, (self.size, self.size)))(values, mask)
        here = mask[:, 0]
        present = [values[row] for row in np.flatnonzero(here)]
        if not self.size and not here.all():
            raise RowError(int(np.argmin(here)), "an absent picture has no size: set size")
        shape = present[0].shape if present else (self.size, self.size, len(self.mean))
        for row in np.flatnonzero(here):
            if values[row].shape != shape:
                raise RowError(
                    int(row),
                    f"picture of shape {values[row].shape}, in others {shape}: set size, and "
                    "colour to 'grey' or 'colour'",
                )
        out = np.zeros((len(values), *shape), np.float32)
        out[here] = present if present else 0
        return out, mask

    def _standardise(self, x: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return standardised(x, mask[:, 0], self.mean, self.std), mask

    def fit(self, raw: Sequence) -> Picture:
        """Takes the mean and standard deviation of each channel from the training pictures."""
        mean, std = image.channel_statistics(self.before("standardise", raw)[0])
        return dataclasses.replace(self, mean=tuple(map(float, mean)), std=tuple(map(float, std)))

    def state(self) -> dict:
        """Channel statistics of the training pictures."""
        return {"mean": self.mean, "std": self.std}


def _decode(raw: np.ndarray | bytes) -> np.ndarray:
    if isinstance(raw, bytes):
        return safe.read_picture(raw, name="picture")
    if raw.ndim != 3:
        raise InputError(f"picture: expected [height, width, channels], got shape {raw.shape}")
    return raw


def _central_square(picture: np.ndarray) -> np.ndarray:
    side = min(picture.shape[:2])
    return image.centre_crop(picture, side, side)


def _grey(picture: np.ndarray) -> np.ndarray:
    return _colour(picture) @ LUMA[:, None]


def _colour(picture: np.ndarray) -> np.ndarray:
    """Three channels: of one, three alike; of four, the first three (alpha is left out)."""
    channels = picture.shape[-1]
    if channels not in (1, 3, 4):
        raise InputError(f"picture: {channels} channels are neither grey nor colour (1, 3 or 4)")
    return np.repeat(picture, 3, axis=-1) if channels == 1 else picture[..., :3]
