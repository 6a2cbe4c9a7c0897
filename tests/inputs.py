"""Small raw columns of every kind, an absent value among them, and fields to read them with."""

import io

import numpy as np
import soundfile
from PIL import Image

FIELDS = [
    ("text", {"length": 5, "min_count": 1}),
    ("text", {"length": 5, "level": "bpe", "max_size": 300, "min_count": 1}),
    ("text", {"length": 5, "level": "character", "keep": "tail", "form": "NFC", "lower": False}),
    ("picture", {"size": 6, "crop": "centre", "colour": "grey"}),
    ("log_mel", {"n_fft": 256, "hop": 200, "n_mels": 12, "seconds": 0.3, "source_rate": 11025}),
    (
        "mfcc",
        {
            "n_fft": 256, "hop": 200, "n_mels": 12, "n_mfcc": 5, "seconds": 0.3,
            "band": (200, 3000), "noise": 0.2, "trim": 30.0,
        },
    ),
    ("array", {}),
]  # fmt: skip


def encoded_picture(pixels, kind="PNG"):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def encoded_sound(samples, rate, kind="WAV"):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind)
    return file.getvalue()


def raw(kind):
    """Ten values; the second is absent, except of arrays."""
    rng = np.random.default_rng(0)
    if kind == "text":
        words = ["the", "lamp", "is", "broken", "please", "help", "手机", "坏了", "Ünïcode", "ＡＢ"]
        texts = [" ".join(rng.choice(words, n)) for n in range(1, 10)]
        return [texts[0].encode(), b"", *texts[1:]]
    if kind == "picture":
        shapes = [(7 + n, 12 - n, 3) for n in range(9)]
        pictures = [rng.integers(0, 256, shape, np.uint8) for shape in shapes]
        return [encoded_picture(pictures[0]), b"", *pictures[1:]]
    if kind in ("log_mel", "mfcc"):
        sizes = [1000 + 400 * n for n in range(9)]
        sounds = [(rng.normal(size=n) * 3000 * np.hanning(n)).astype(np.int16) for n in sizes]
        file = encoded_sound(sounds[0], 8000, "FLAC")
        return [file, np.zeros(0, np.int16), *sounds[1:8], sounds[8].astype(np.float32) / 2**15]
    return list(rng.normal(3, 2, (10, 4, 3)).astype(np.float32))
