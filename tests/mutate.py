"""Makes damaged files of every format that mmfuse reads, reads them, and says what happened.

    python -m tests.mutate --count=1000 --seed=0

Files are fabricated, then damaged: flipped bits, cuts, splices, edits near the start, lengths and
numbers that promise too much; half of them are sealed again (checksums of PNG and zip), so that
the damage reaches what lies behind the checksum. Each is read in a worker process of limited
memory. A file may load or be refused by one line of `InputError`; another exception, a crash, a
warning, more than 2 s or more than 1 GiB is a failure. Seconds are those of the processor, of the
worker and of its children, so that a busy machine changes nothing; by the clock a file has 60.
Exits with 1 if anything failed, and keeps those files.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import io
import multiprocessing
import os
import pickle
import re
import resource
import struct
import sys
import tarfile
import tempfile
import warnings
import wave
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

SECONDS, MEMORY = 2.0, 1 << 30
HANG = 60.0  # seconds after which a worker is given up
KINDS = ("npz", "pickle", "csv", "jsonl", "wav", "png", "h5")  # what the issue asks for
MORE = ("npy", "jpeg", "mat", "zip", "tar", "flac", "ogg", "txt")
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


def read(kind: str, path: str) -> None:
    """Reads a file of a kind by the function that users of mmfuse read it with."""
    from mmfuse.data import safe

    if kind == "zip":
        with safe.open_zip(path) as archive:
            for name in archive.names:
                archive.read(name)
    elif kind == "tar":
        with tempfile.TemporaryDirectory() as folder:
            safe.extract_tar(path, folder)
    elif kind == "h5":
        safe.read_h5(path, "d1")
    else:
        reader = {"txt": "text", "png": "picture", "jpeg": "picture"}.get(kind, kind)
        reader = "sound" if kind in ("wav", "flac", "ogg") else reader
        getattr(safe, f"read_{reader}")(path)


@dataclasses.dataclass
class Outcome:
    """What came of a file: loaded, refused, or failed with the reason; seconds, and bytes."""

    kind: str
    result: str
    message: str
    seconds: float
    memory: int


def _work(connection) -> None:
    """A worker: reads the files it is sent the paths of, until None comes."""
    importlib.import_module("mmfuse.data.safe")  # before the limit is set, and time counts
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY, mapped + MEMORY))
    warnings.simplefilter("error")
    while (task := connection.recv()) is not None:
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
        start = _seconds()
        result, message = _try(*task)
        connection.send(Outcome(task[0], result, message, _seconds() - start, _peak()))


def _seconds() -> float:
    return sum(os.times()[:4])


def _try(kind: str, path: str) -> tuple[str, str]:
    from mmfuse.errors import InputError

    try:
        read(kind, path)
    except InputError as error:
        message = str(error)
        return ("refused" if message.isprintable() and path in message else "failed"), message
    except BaseException as error:
        return "failed", repr(error)
    return "loaded", ""


def _peak() -> int:
    """The most memory that this process held since the last mark, or any child of it ever."""
    status = Path("/proc/self/status").read_text()
    own = 1024 * int(re.search(r"VmHWM:\s+(\d+)", status)[1])
    return max(own, 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)


class Worker:
    """A process that reads one file after the other, replaced when a file kills it."""

    def __init__(self):
        self._context = multiprocessing.get_context("spawn")
        self._start()

    def _start(self) -> None:
        self._connection, end = self._context.Pipe()
        self._process = self._context.Process(target=_work, args=(end,), daemon=True)
        self._process.start()
        end.close()

    def send(self, kind: str, path: str) -> None:
        self._task = (kind, path)
        self._connection.send(self._task)

    def receive(self) -> Outcome:
        try:
            if self._connection.poll(HANG):
                return self._connection.recv()
            message = f"no answer within {HANG} s"
        except EOFError:
            self._process.join()
            message = f"crashed: exit code {self._process.exitcode}"
        self._process.kill()
        self._start()
        return Outcome(self._task[0], "failed", message, HANG, 0)

    def close(self) -> None:
        self._connection.send(None)
        self._process.join()


def outcomes(
    kinds: list[str], seed: int, folder: Path, workers: int = 2
) -> Iterator[tuple[Outcome, Path]]:
    """Damages and reads a file of each of ``kinds``; file n depends on n and the seed alone."""
    crew = [Worker() for _ in range(workers)]
    try:
        for start in range(0, len(kinds), workers):
            paths = []
            for worker, number in zip(crew, range(start, len(kinds)), strict=False):
                kind = kinds[number]
                path = folder / f"{number}.{kind}"
                path.write_bytes(damaged(kind, np.random.default_rng([seed, number])))
                worker.send(kind, str(path))
                paths.append((worker, path))
            for worker, path in paths:
                yield worker.receive(), path
    finally:
        for worker in crew:
            worker.close()


def failures(outcome: Outcome) -> str:
    """What is wrong with an outcome, or an empty string."""
    if outcome.result == "failed":
        return outcome.message
    if outcome.seconds > SECONDS:
        return f"took {outcome.seconds:.2f} s"
    return f"took {outcome.memory >> 20} MiB" if outcome.memory > MEMORY else ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default=",".join(KINDS + MORE))
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    names = options.kinds.split(",")
    kinds = [names[number % len(names)] for number in range(options.count)]
    folder = Path(tempfile.mkdtemp(prefix="mutated-"))
    counts, slowest, largest, failed = Counter(), Counter(), Counter(), 0
    for outcome, path in outcomes(kinds, options.seed, folder, options.workers):
        counts[outcome.kind, outcome.result] += 1
        slowest[outcome.kind] = max(slowest[outcome.kind], outcome.seconds)
        largest[outcome.kind] = max(largest[outcome.kind], outcome.memory >> 20)
        if fault := failures(outcome):
            failed += 1
            print(f"{path}: {fault}")
        else:
            path.unlink()
    for kind in names:
        print(
            f"{kind:7} loaded {counts[kind, 'loaded']:5} refused {counts[kind, 'refused']:5} "
            f"failed {counts[kind, 'failed']:3}  at most {slowest[kind]:.2f} s, "
            f"{largest[kind]} MiB"
        )
    print(f"{options.count} files, {failed} failures, at most {max(slowest.values()):.2f} s")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
