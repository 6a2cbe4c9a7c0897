"""Small sound files of every format that mmfuse reads, and ways to damage them."""

from __future__ import annotations

import io
import pickle
import re
import struct
import tarfile
import wave
import zipfile
import zlib
from collections.abc import Callable

import numpy as np

BOMBS = (0xFFFFFFFF, 0x7FFFFFFF, 1 << 24, 1 << 40, (1 << 64) - 1, 0, 1 << 31)


def seeds(kind: str) -> list[bytes]:
    """Sound files of a kind, a few hundred bytes to some kilobytes each."""
    rng = np.random.default_rng(0)
    arrays = {"text": np.array(["ab", "中文"]), "x": rng.normal(size=(8, 5)), "y": np.arange(8)}
    return {
        "npy": lambda: [_npy(array) for array in arrays.values()],
        "npz": lambda: [_saved(np.savez, arrays), _saved(np.savez_compressed, arrays)],
        "pickle": lambda: [pickle.dumps([arrays, ("a", 1, 2.5, None)], p) for p in range(6)],
        "csv": lambda: [b'id,split,text\r\n1,train,"a, ""b"""\r\n2,test,\xe4\xb8\xad\r\n' * 4],
        "jsonl": lambda: [b'{"id": 1, "x": [1.5, -2e3, null], "t": {"a": "\\u4e2d"}}\n' * 5],
        "txt": lambda: ["\ufeffAn example, 中文 👩‍👧.\n".encode() * 5],
        "wav": lambda: [_wav(rng, 1, 2), _wav(rng, 2, 3), _sound("WAVEX", "FLOAT")],
        "flac": lambda: [_sound("FLAC", "PCM_16")],
        "ogg": lambda: [_sound("OGG", "VORBIS")],
        "png": lambda: [_picture(mode, "PNG") for mode in ("RGB", "LA", "P", "I;16", "1")],
        "jpeg": lambda: [_picture(mode, "JPEG") for mode in ("RGB", "L", "CMYK")],
        "h5": _h5,
        "mat": _mat,
        "zip": lambda: [_zip({"a.txt": b"a" * 300, "d/b.bin": bytes(range(256))})],
        "tar": lambda: [_tar("w"), _tar("w:gz")],
    }[kind]()


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array)
    return buffer.getvalue()


def _saved(save: Callable, arrays: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    save(buffer, **arrays)
    return buffer.getvalue()


def _zip(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in members.items():
            packed.writestr(name, data)
    return buffer.getvalue()


def _tar(mode: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as packed:
        for name, data in {"a.txt": b"a" * 300, "d/" + "b" * 120: bytes(999)}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            packed.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _wav(rng: np.random.Generator, channels: int, width: int) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((channels, width, 8000, 0, "NONE", ""))
        file.writeframes(rng.bytes(100 * channels * width))
    return buffer.getvalue()


def _sound(kind: str, subtype: str) -> bytes:
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, 0.5 * np.sin(np.arange(900) / 9), 8000, format=kind, subtype=subtype)
    return buffer.getvalue()


def _picture(mode: str, kind: str) -> bytes:
    from PIL import Image

    grey = np.arange(16 * 12, dtype=np.uint16).reshape(12, 16)
    picture = (
        Image.fromarray(grey * 256)
        if mode == "I;16"
        else Image.fromarray(grey.astype(np.uint8)).convert(mode)
    )
    buffer = io.BytesIO()
    exif = b"Exif\0\0II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    picture.save(buffer, kind, exif=exif)
    return buffer.getvalue()


def _h5() -> list[bytes]:
    import h5py

    files = []
    for version in ("earliest", "latest"):
        buffer = io.BytesIO()
        with h5py.File(buffer, "w", libver=version) as file:
            file.create_dataset("d1", data=np.arange(60.0).reshape(5, 12))
        files.append(buffer.getvalue())
        buffer = io.BytesIO()
        with h5py.File(buffer, "w", libver=version) as file:
            values = np.arange(600, dtype=np.float32).reshape(50, 12)
            file.create_dataset("d1", data=values, chunks=(8, 12), compression="gzip", shuffle=True)
        files.append(buffer.getvalue())
    return files


def _mat() -> list[bytes]:
    from scipy import io as scipy_io

    cell = np.empty((1, 2), object)
    cell[0, 0], cell[0, 1] = np.arange(6.0).reshape(2, 3), np.array(["ab"])
    files = []
    for packed in (False, True):
        buffer = io.BytesIO()
        scipy_io.savemat(buffer, {"X": cell, "Y": np.arange(9)}, do_compression=packed)
        files.append(buffer.getvalue())
    return files


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """``data`` after one damage, often two, seldom more."""
    damages = (_flip, _cut, _drop, _splice, _edit_start, _bomb, _number, _noise)
    for _ in range(rng.geometric(0.6)):
        damage = damages[rng.integers(len(damages))]
        data = bytes(damage(bytearray(data), rng)) if data else data
    return data


def _span(data: bytearray, rng: np.random.Generator, most: int) -> slice:
    start = int(rng.integers(len(data)))
    return slice(start, start + int(rng.integers(1, most + 1)))


def _flip(data: bytearray, rng: np.random.Generator) -> bytearray:
    for place in rng.integers(len(data), size=rng.integers(1, 9)):
        data[place] ^= 1 << rng.integers(8)
    return data


def _cut(data: bytearray, rng: np.random.Generator) -> bytearray:
    return data[: rng.integers(len(data))]


def _drop(data: bytearray, rng: np.random.Generator) -> bytearray:
    del data[_span(data, rng, 64)]
    return data


def _splice(data: bytearray, rng: np.random.Generator) -> bytearray:
    place = int(rng.integers(len(data)))
    data[place:place] = data[_span(data, rng, 128)] * int(rng.integers(1, 4))
    return data


def _edit_start(data: bytearray, rng: np.random.Generator) -> bytearray:
    data[int(rng.integers(min(len(data), 128)))] = int(rng.integers(256))
    return data


def _bomb(data: bytearray, rng: np.random.Generator) -> bytearray:
    """A length, in either byte order, that promises too much."""
    width = int(rng.choice([2, 4, 8]))
    number = BOMBS[rng.integers(len(BOMBS))] & (1 << 8 * width) - 1
    place = int(rng.integers(len(data)))
    data[place : place + width] = number.to_bytes(width, ("little", "big")[rng.integers(2)])
    return data


def _number(data: bytearray, rng: np.random.Generator) -> bytearray:
    """A number in the text, an array's shape say, that promises too much."""
    found = list(re.finditer(rb"\d+", data))
    if found:
        match = found[rng.integers(len(found))]
        data[match.start() : match.end()] = str(BOMBS[rng.integers(len(BOMBS))]).encode()
    return data


def _noise(data: bytearray, rng: np.random.Generator) -> bytearray:
    place = _span(data, rng, 32)
    data[place] = rng.bytes(len(data[place]))
    return data


def damaged(kind: str, rng: np.random.Generator) -> bytes:
    """A damaged file of a kind, every other time sealed so that its checksums are right."""
    options = seeds(kind)
    data = options[rng.integers(len(options))]
    if rng.random() < 0.5:
        if kind == "npz":
            return _zip({f"{name}.npy": mutate(_npy(np.arange(99.0)), rng) for name in "ab"})
        if kind == "png":
            return _sealed_png(data, rng)
    return mutate(data, rng)


def _sealed_png(data: bytes, rng: np.random.Generator) -> bytes:
    place, parts = 8, []
    while place < len(data):
        (size,) = struct.unpack_from(">I", data, place)
        parts.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + size]))
        place += 12 + size
    chosen, sealed = rng.integers(len(parts)), data[:8]
    for number, (name, body) in enumerate(parts):
        if number == chosen:
            pixels = name == b"IDAT"
            changed = mutate(zlib.decompress(body) if pixels else body, rng)
            parts[number] = (name, zlib.compress(changed) if pixels else changed)
    for name, body in parts:
        sealed += struct.pack(">I", len(body)) + name + body
        sealed += struct.pack(">I", zlib.crc32(name + body))
    return sealed
