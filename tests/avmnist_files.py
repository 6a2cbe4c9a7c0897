"""A tiny raw folder in AV-MNIST's upstream formats, with tables of its sizes and hashes."""

import gzip
import hashlib
import struct
import wave
from pathlib import Path

import numpy as np

from mmfuse.data import avmnist, avmnist_sources, raw

SPEAKERS = ("george", "theo", "yweweler")
RECORDINGS = (0, 1, 5, 10, 11)
TRAIN, VALID, TEST = 50, 10, 20


def write_idx(path: Path, array: np.ndarray) -> None:
    header = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(header + array.tobytes(), mtime=0))


def write_wav(path: Path, samples: np.ndarray, rate: int = 8000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(samples.astype("<i2").tobytes())


def write_images(root: Path, rng: np.random.Generator) -> None:
    for name, size in (("train", TRAIN + VALID), ("t10k", TEST)):
        images = rng.integers(0, 256, (size, 28, 28), np.uint8)
        write_idx(root / f"mnist/{name}-images-idx3-ubyte.gz", images)
        labels = np.arange(size, dtype=np.uint8) % 10
        write_idx(root / f"mnist/{name}-labels-idx1-ubyte.gz", labels)


def write_sounds(root: Path, rng: np.random.Generator) -> None:
    for digit in range(10):
        for speaker in SPEAKERS:
            for recording in RECORDINGS:
                samples = rng.normal(0, 3000, rng.integers(1000, 9000))
                write_wav(root / f"fsdd/recordings/{digit}_{speaker}_{recording}.wav", samples)


def write_noise(root: Path, rng: np.random.Generator) -> None:
    noise = rng.normal(0, 2000, (10, avmnist_sources.NOISE_SAMPLES)).astype(np.int16)
    noise[:, 6000:12000] = 0  # recordings pause
    (root / "esc10").mkdir()
    fold = np.repeat(np.arange(1, 6, dtype=np.int8), 2)
    np.savez(root / avmnist_sources.PREPARED_NOISE.path, waveform=noise, fold=fold)


def fabricate(root: Path) -> Path:
    """Writes the folder and returns it."""
    for part, write in enumerate((write_images, write_sounds, write_noise)):
        write(root, np.random.default_rng(part))
    return root


def trust(root: Path, monkeypatch) -> None:
    """Makes the builder expect the sizes and hashes of the files in ``root``."""
    for old in avmnist_sources.MNIST:
        assert (root / old.path).is_file()
    files = [trusted_file(root, old) for old in avmnist_sources.MNIST]
    monkeypatch.setattr(avmnist_sources, "MNIST", tuple(files))
    listing, count = "", 0
    for path in sorted((root / "fsdd").glob("recordings/*.wav")):
        listing += f"{sha256(path.read_bytes())}  recordings/{path.name}\n"
        count += 1
    folder = raw.RawFolder("fsdd", "recordings/*.wav", None, count, sha256(listing.encode()))
    monkeypatch.setattr(avmnist_sources, "FSDD", folder)
    noise = trusted_file(root, avmnist_sources.PREPARED_NOISE)
    monkeypatch.setattr(avmnist_sources, "PREPARED_NOISE", noise)
    monkeypatch.setattr(avmnist, "TRAIN_IMAGES", TRAIN)


def trusted_file(root: Path, old: raw.RawFile) -> raw.RawFile:
    data = (root / old.path).read_bytes()
    data = gzip.decompress(data) if old.path.endswith(".gz") else data
    return raw.RawFile(old.path, None, len(data), sha256(data))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
