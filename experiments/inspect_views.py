"""What a value looks like on a page: text, tokens, pictures, spectrograms, sound, masks.

Everything is HTML that needs no network: pictures and sound are data URIs.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import soundfile
from PIL import Image

from mmfuse.data import audio
from mmfuse.data.sound_input import Clip
from mmfuse.data.text import PADDING, UNKNOWN, Vocabulary
from mmfuse.markup import Html, data_uri, joined, tag

LARGEST = 480  # pixels a side of what is shown
FRAMES = 600  # of a clip's spectrogram, at most
RANGE_DB = 80.0  # below the loudest cell of a clip, a spectrogram is black
COLOURS = np.array([[8, 8, 40], [40, 60, 140], [30, 150, 140], [150, 210, 70], [255, 240, 120]])


def described(value: Any) -> str:
    """Kind, size and range of a value, in words."""
    if isinstance(value, Clip):
        size = len(value.samples)
        return f"{size} samples at {value.rate} Hz, {size / value.rate:.3f} s, {_range(value[0])}"
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {list(value.shape)}, {_range(value)}"
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    return f"{len(value)} {'characters' if isinstance(value, str) else 'tokens'}"


def view(value: Any, *, picture: bool, vocabulary: Vocabulary | None = None) -> Html:
    """A value as HTML; an array is a ``picture`` [H, W, C], or has time as its first axis."""
    if isinstance(value, Clip):
        return joined([image(heat(_decibels(value))), sound(value)])
    if len(value) == 0 or np.size(value) == 0:
        return tag("p", "(nothing)")
    if isinstance(value, bytes):
        return tag("p", value.decode("utf-8", errors="replace"), class_="text")
    if isinstance(value, str):
        return tag("p", value, class_="text")
    if isinstance(value, list):
        return tag("p", *(_token(vocabulary.readable(word)) for word in value))
    return image(_pixels(value) if picture else heat(value))


def ids(numbers: np.ndarray, words: list[str], vocabulary: Vocabulary) -> Html:
    """Token ids under their words; padding and unknown words are marked."""
    shown = [vocabulary.readable(word) for word in words] + [""] * (len(numbers) - len(words))
    kinds = {PADDING: "padding", UNKNOWN: "unknown"}
    pairs = zip(numbers.tolist(), shown, strict=True)
    return tag("p", *(_token(word, i, kinds.get(i, "known")) for i, word in pairs))


def mask(real: np.ndarray) -> Html:
    """A mask [T] as a strip: dark where it is True."""
    pixels = np.where(real[None, :, None], (30, 110, 60), (225, 225, 225)).astype(np.uint8)
    words = f"mask: {int(real.sum())} of {len(real)} steps real" + (
        "" if real.any() else ": absent"
    )
    return tag("figure", image(pixels, class_="mask"), tag("figcaption", words))


def sound(clip: Clip) -> Html:
    """A player of the clip, 16-bit WAV, what is beyond [-1, 1] clipped; nothing for no samples."""
    file = io.BytesIO()
    soundfile.write(file, np.clip(clip.samples, -1, 1), clip.rate, format="WAV", subtype="PCM_16")
    return tag("audio", controls="", src=data_uri("audio/wav", file.getvalue()))


def image(pixels: np.ndarray, **attributes: Any) -> Html:
    """uint8 [H, W, 3] as PNG, made smaller where it is larger than the page needs."""
    picture, file = Image.fromarray(pixels), io.BytesIO()
    if max(picture.size) > LARGEST and "class_" not in attributes:
        picture.thumbnail((LARGEST, LARGEST))
    picture.save(file, "PNG")
    return tag("img", src=data_uri("image/png", file.getvalue()), alt="", **attributes)


def heat(values: np.ndarray) -> np.ndarray:
    """[T], [T, F] or [T, F, 1] as colours uint8 [F, T, 3]: time to the right, first row below."""
    flat = values.reshape(len(values), -1).T[::-1]
    places = _unit(flat) * (len(COLOURS) - 1)
    channels = [np.interp(places, range(len(COLOURS)), COLOURS[:, c]) for c in range(3)]
    return np.stack(channels, axis=-1).astype(np.uint8)


def _pixels(picture: np.ndarray) -> np.ndarray:
    """[H, W, C] as uint8 RGB: bytes as they are, other numbers from least to largest."""
    if picture.dtype != np.uint8:
        picture = (_unit(picture) * 255).round().astype(np.uint8)
    return np.repeat(picture, 3, axis=-1) if picture.shape[-1] == 1 else picture[..., :3]


def _unit(values: np.ndarray) -> np.ndarray:
    """Values from least to largest as 0 to 1; equal ones as 0."""
    values = np.asarray(values, np.float64)
    low, high = values.min(initial=np.inf), values.max(initial=-np.inf)
    return (values - low) / (high - low) if high > low else np.zeros_like(values)


def _decibels(clip: Clip) -> np.ndarray:
    """The clip's spectrogram [T, F] in decibels, down to ``RANGE_DB`` below its loudest cell."""
    n_fft = 256
    samples = np.pad(clip.samples, (0, max(0, n_fft - len(clip.samples))))
    hop = max(n_fft // 4, len(samples) // FRAMES)
    level = 10 * np.log10(audio.stft_power(samples, n_fft, hop) + 1e-12)
    return np.maximum(level, level.max() - RANGE_DB)


def _token(word: str, number: int | None = None, kind: str = "known") -> Html:
    below = [] if number is None else [tag("small", number)]
    return tag("span", word or " ", *below, class_=f"token {kind}")


def _range(values: np.ndarray) -> str:
    if not values.size:
        return "empty"
    return f"{float(values.min()):.4g} to {float(values.max()):.4g}"
