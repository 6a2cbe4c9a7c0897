"""The upstream files of AV-MNIST: MNIST images, spoken digits (FSDD) and noise (ESC-10)."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from scipy import signal

from mmfuse.data import image, raw, safe
from mmfuse.errors import InputError

SAMPLE_RATE = 8000
NOISE_SAMPLES = 20_000  # the loudest 2.5 s of every ESC-10 clip

_MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_MNIST_FILES = (
    (
        "train-images-idx3-ubyte.gz",
        47_040_016,
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    (
        "train-labels-idx1-ubyte.gz",
        60_008,
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    (
        "t10k-images-idx3-ubyte.gz",
        7_840_016,
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    (
        "t10k-labels-idx1-ubyte.gz",
        10_008,
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
)
MNIST = tuple(
    raw.RawFile(f"mnist/{name}", _MNIST_URL + name, size, sha256)
    for name, size, sha256 in _MNIST_FILES
)
FSDD = raw.RawFolder(
    "fsdd",
    "recordings/*.wav",
    "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/"
    "26eb9aaf76e81b692f806f9140c2d2777410d7a1.zip",
    3000,
    "04e1baae96c6a26e39c623f2b01d0182ddae627ba0ac02a3cdc17ba2af99fd9b",
)
ESC10 = raw.RawFolder(
    "esc10",
    "*/*.ogg",
    "https://github.com/karolpiczak/ESC-10/archive/553c8f1743b9dba6b282e1323c3ca8fa76923448.zip",
    400,
    "98dcfc5c90c324e1413fa1975dced99302ebae952bbdfa05a0381f4d07300269",
)
PREPARED_NOISE = raw.RawFile(
    "esc10/esc10_noise_8k.npz",
    None,
    13_244_972,
    "a417477755a232846a4d42df4748101568c78d1c0ce2232a69f6c9a9c9cc5d41",
)


@dataclasses.dataclass(frozen=True)
class Clip:
    """One spoken digit: ``7_theo_12`` is the twelfth recording of a seven by theo."""

    name: str
    digit: int
    speaker: str
    recording: int
    samples: np.ndarray  # float32 [S] at 8 kHz


def locate(raw_data: str | None, cache_dir: str | Path) -> dict[str, Path]:
    """Returns {source: path}, every byte checked; sources are MNIST's files, "fsdd" and "esc10".

    Raises:
      InputError: see `raw.locate` and `locate_noise`.
    """
    paths = raw.locate((*MNIST, FSDD), raw_data, cache_dir)
    return paths | {ESC10.path: locate_noise(raw_data, cache_dir)}


def locate_noise(raw_data: str | None, cache_dir: str | Path) -> Path:
    """Returns where the noise is: a prepared ``.npz``, or the folder of all 400 upstream clips.

    In a raw folder the first of these counts: ``esc10/esc10_noise_8k.npz`` in it; the same beside
    it (``../esc10/``); ``esc10/*/*.ogg``, all 400. Without a raw folder the clips are downloaded.
    Both forms give the same samples, bit for bit; from the clips it takes about 40 s longer.
    """
    folder = raw.raw_folder(raw_data)
    if folder is None:
        return raw.locate((ESC10,), None, cache_dir)[ESC10.path]
    prepared = raw.place(PREPARED_NOISE, folder)
    if prepared.is_file():
        raw.check(PREPARED_NOISE, prepared)
        return prepared
    clips = folder / ESC10.path
    found = len(list(clips.glob(ESC10.pattern)))
    if found < ESC10.count:
        raise InputError(
            f"{clips}: found {found} of {ESC10.count} ESC-10 clips (.ogg), and no "
            f"{PREPARED_NOISE.path} in or beside the raw folder; get them from {ESC10.url}"
        )
    raw.check(ESC10, clips)
    return clips


def load_digits(paths: dict[str, Path]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns {"train", "test"}: (images uint8 [N, 28, 28], labels uint8 [N])."""
    arrays = [image.read_idx(paths[file.path]) for file in MNIST]
    return {"train": (arrays[0], arrays[1]), "test": (arrays[2], arrays[3])}


def load_clips(folder: Path) -> list[Clip]:
    """Reads all spoken digits, in order of their names."""
    clips = []
    for path in sorted(folder.glob(FSDD.pattern)):
        digit, speaker, recording = path.stem.split("_")
        rate, samples = safe.read_sound(path)
        if rate != SAMPLE_RATE:
            raise InputError(f"{path}: {rate} samples a second; need {SAMPLE_RATE}")
        clips.append(Clip(path.stem, int(digit), speaker, int(recording), samples))
    return clips


def load_noise(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Returns the noise pieces int16 [P, 20000] at 8 kHz and their fold 1..5 [P].

    They are ordered by class and file name; clips of one recording share a fold.
    """
    if path.is_file():
        arrays = safe.read_npz(path)
        return arrays["waveform"], arrays["fold"].astype(int)
    files = sorted(path.glob(ESC10.pattern))
    folds = np.array([int(file.name.split("-")[0]) for file in files])
    return np.stack([_loudest_piece(file) for file in files]), folds


def _loudest_piece(path: Path) -> np.ndarray:
    """The loudest 2.5 s of a 44.1 kHz Vorbis clip at 8 kHz, int16; short clips end in silence."""
    rate, samples = safe.read_sound(path)
    samples = samples.astype(np.float64)
    common = np.gcd(rate, SAMPLE_RATE)
    samples = signal.resample_poly(samples, SAMPLE_RATE // common, rate // common)
    samples = np.pad(samples, (0, max(0, NOISE_SAMPLES - len(samples))))
    energy = np.concatenate([[0.0], np.cumsum(samples**2)])
    start = int(np.argmax(energy[NOISE_SAMPLES:] - energy[:-NOISE_SAMPLES]))
    piece = samples[start : start + NOISE_SAMPLES]
    return np.clip(np.rint(piece * 32767), -32768, 32767).astype(np.int16)
