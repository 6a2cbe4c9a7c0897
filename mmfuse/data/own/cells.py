"""One cell of a manifest: the text or file that it names, read safely, and what is found there."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable
from pathlib import Path, PurePath

import numpy as np

from mmfuse.data.own.table import shown
from mmfuse.data.safe.arrays import read_npy, read_npz
from mmfuse.data.safe.limits import MIB, read_bytes
from mmfuse.data.safe.pictures import read_picture
from mmfuse.data.safe.sounds import read_sound
from mmfuse.data.safe.texts import read_text
from mmfuse.errors import InputError

MAX_BYTES = 256 * MIB  # of one file


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a cell holds.

    ``shape`` is (characters,), (height, width) in pixels, (samples,) or an array's own shape;
    ``sha256`` is that of the text, or of the file's bytes.
    """

    kind: str
    sha256: str
    shape: tuple[int, ...]
    rate: int = 0  # Hz, of a sound
    dtype: str = ""  # of an array
    lossy: bool = False  # a text with bytes that are not UTF-8


def examine(kind: str, cell: str, folder: Path, outside: bool) -> Facts:
    """Reads and decodes one cell that is not empty.

    Args:
      kind: "text", "text file", "picture", "sound" or "features".
      cell: the text, or a path that starts from ``folder``.
      folder: the manifest's.
      outside: whether the path may lead out of it.

    Raises:
      InputError: for a file that is missing, elsewhere, unreadable, or of no use.
    """
    data = _content(kind, cell, folder, outside)
    return dataclasses.replace(_LOOKS[kind](data, cell), sha256=hashlib.sha256(data).hexdigest())


def value(facts: Facts, cell: str, folder: Path, outside: bool) -> str | bytes | np.ndarray:
    """What the dataset keeps of a cell: text, the bytes of a file, or float32 [T, F].

    Raises:
      InputError: when the file is not what it was when ``facts`` were taken.
    """
    data = _content(facts.kind, cell, folder, outside)
    if hashlib.sha256(data).hexdigest() != facts.sha256:
        raise InputError(f"{shown(cell)} has changed since it was checked; start again")
    if facts.kind == "features":
        array = _array(data, cell).astype(np.float32)
        return array[None] if array.ndim == 1 else array
    return read_text(data) if facts.kind == "text file" else data


def _content(kind: str, cell: str, folder: Path, outside: bool) -> bytes:
    """The text of a cell in UTF-8, or the bytes of the file that it names."""
    if kind == "text":
        return cell.encode()
    path = folder / cell.strip()
    if "\0" in cell:
        raise InputError(f"{shown(cell)} is no path: it has a NUL")
    real, inside = (Path(os.path.realpath(place)) for place in (path, folder))
    if not outside and not real.is_relative_to(inside):
        raise InputError(
            f"{shown(cell)} is outside the manifest's folder; allow 'outside' if meant"
        )
    if not os.path.exists(path):  # unlike Path.exists, also where a name is too long
        hint = "; write / between folders" if "\\" in cell else ""
        raise InputError(f"missing file {shown(cell)}{hint}")
    return read_bytes(path, MAX_BYTES, shown(cell))


def _text(data: bytes, cell: str) -> Facts:
    text = read_text(data)
    if not text.strip():
        raise InputError(f"empty text in {shown(cell)}; an absent modality is an empty cell")
    return Facts("text", "", (len(text),), lossy="\ufffd" in text)


def _text_file(data: bytes, cell: str) -> Facts:
    return dataclasses.replace(_text(data, cell), kind="text file")


def _picture(data: bytes, cell: str) -> Facts:
    return Facts("picture", "", read_picture(data, name=shown(cell)).shape[:2])


def _sound(data: bytes, cell: str) -> Facts:
    rate, samples = read_sound(data, name=shown(cell))
    return Facts("sound", "", (len(samples),), rate=rate)


def _features(data: bytes, cell: str) -> Facts:
    array = _array(data, cell)
    if array.dtype.kind not in "fiub":
        raise InputError(f"{shown(cell)} holds {array.dtype}; an array of real numbers is needed")
    if array.ndim not in (1, 2):
        raise InputError(f"{shown(cell)} has rank {array.ndim}; allowed: [F] or [T, F]")
    if not array.size:
        raise InputError(f"{shown(cell)} has shape {array.shape}: length 0; leave the cell empty")
    with np.errstate(over="ignore"):
        bad = ~np.isfinite(array.astype(np.float32))
    if bad.any():
        first = ", ".join(map(str, np.argwhere(bad)[0]))
        raise InputError(
            f"{shown(cell)} has {bad.sum()} NaN or Inf values of {array.size}, first at [{first}]"
        )
    return Facts("features", "", array.shape, dtype=str(array.dtype))


def _array(data: bytes, cell: str) -> np.ndarray:
    if PurePath(cell.strip()).suffix.lower() == ".npy":
        return read_npy(data, name=shown(cell))
    arrays = read_npz(data, name=shown(cell))
    if len(arrays) != 1:
        raise InputError(
            f"{shown(cell)} holds {len(arrays)} arrays ({', '.join(arrays)}); one is needed"
        )
    return next(iter(arrays.values()))


_LOOKS: dict[str, Callable[[bytes, str], Facts]] = {
    "text": _text,
    "text file": _text_file,
    "picture": _picture,
    "sound": _sound,
    "features": _features,
}
