"""Numpy files: what a header promises is compared with the bytes there are, before any are used.

Pickled content is never loaded. Allowed are booleans, numbers, bytes and text (kinds ``biufcSU``);
Python objects, structured records and dates are refused by name.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

from mmfuse.data.safe.archives import open_zip
from mmfuse.data.safe.limits import (
    GIB,
    KIB,
    MIB,
    DataError,
    Source,
    decoding,
    name_of,
    open_source,
    size_text,
)
from mmfuse.errors import listed, nearest

KINDS = "biufcSU"
MAX_HEADER = 64 * KIB
MAX_BYTES = GIB // 2
OVERHEAD = 4 * MIB  # of an archive: headers and the list of members


def read_npy(source: Source, max_bytes: int = MAX_BYTES, name: str = "") -> np.ndarray:
    """Reads one array of a ``.npy`` file (format 1 or 2).

    Raises:
      DataError: for Python objects, a header that does not fit the size of the file, text that is
        no text, or more than ``max_bytes``.
    """
    stream, size = open_source(source, max_bytes + MAX_HEADER, name)
    with stream:
        return _read_array(stream, size, max_bytes, name_of(source, name))


def read_npz(source: Source, max_bytes: int = MAX_BYTES, name: str = "") -> dict[str, np.ndarray]:
    """Reads all arrays of a ``.npz`` file, at most ``max_bytes`` of them together.

    Raises:
      DataError: as `read_npy` and `archives.open_zip` say, before anything is unpacked.
    """
    label = name_of(source, name)
    arrays, left = {}, max_bytes
    with open_zip(source, max_bytes=max_bytes + OVERHEAD, name=name) as archive:
        for member in archive.names:
            if not member.endswith(".npy"):
                raise DataError(f"{label}: holds '{member}'; an .npz holds .npy members only")
            with archive.open(member) as stream:
                size, where = archive.size(member), f"{label}:{member}"
                array = _read_array(stream, size, left, where)
            arrays[member.removesuffix(".npy")] = array
            left -= array.nbytes
    return arrays


def pick(arrays: Mapping[str, Any], key: str, where: str) -> Any:
    """Returns ``arrays[key]``.

    Raises:
      DataError: when there is none, with the nearest key and all of them.
    """
    if key not in arrays:
        raise DataError(f"{where}: has no '{key}'{nearest(key, arrays)}{listed(arrays)}")
    return arrays[key]


def check_rows(where: str, splits: Mapping[str, Mapping[str, Any]]) -> None:
    """Checks that all modalities of a split have equally many rows.

    Args:
      where: the file or dataset, for the message.
      splits: {split: {modality: a sequence or array with one row per example}}.

    Raises:
      DataError: with the counts per modality of every split where they differ.
    """
    counts = {split: {name: len(rows) for name, rows in of.items()} for split, of in splits.items()}
    faults = [
        f"{split}: " + ", ".join(f"{name} {count}" for name, count in of.items())
        for split, of in counts.items()
        if len(set(of.values())) > 1
    ]
    if faults:
        raise DataError(
            f"{where}: modalities differ in their number of rows ({'; '.join(faults)}); "
            "every example needs one row in each"
        )


def _read_array(stream: BinaryIO, size: int, max_bytes: int, label: str) -> np.ndarray:
    with decoding(label, "numpy array"):
        shape, fortran, dtype, used = _header(stream, size, label)
        count = math.prod(shape)
        if count * dtype.itemsize != size - used:
            raise DataError(
                f"{label}: the header promises {size_text(count * dtype.itemsize)} (shape {shape}, "
                f"{dtype}), the file holds {size_text(size - used)}"
            )
        if max(count, count * dtype.itemsize) > max_bytes:
            raise DataError(
                f"{label}: shape {shape}, {dtype}; at most {size_text(max_bytes)} are read"
            )
        data = np.empty(size - used, np.uint8)
        if _fill(stream, data) != data.size:
            raise DataError(f"{label}: truncated")
        array = data.view(dtype) if data.size else np.empty(count, dtype)
        _check_values(array, label)
        return array.reshape(shape, order="F" if fortran else "C")


def _header(stream: BinaryIO, size: int, label: str) -> tuple[tuple, bool, np.dtype, int]:
    """Reads and checks the header: shape, Fortran order, dtype, and the bytes it takes."""
    version = np.lib.format.read_magic(stream)
    width = {(1, 0): 2, (2, 0): 4}.get(version)
    if width is None:
        raise DataError(f"{label}: numpy format {version}; allowed are (1, 0) and (2, 0)")
    length = int.from_bytes(stream.read(width), "little")
    used = np.lib.format.MAGIC_LEN + width + length
    if length > MAX_HEADER or used > size:
        raise DataError(f"{label}: a header of {length} bytes; at most {MAX_HEADER}, in the file")
    text = length.to_bytes(width, "little") + stream.read(length)
    reader = {2: np.lib.format.read_array_header_1_0, 4: np.lib.format.read_array_header_2_0}
    shape, fortran, dtype = reader[width](io.BytesIO(text))
    if dtype.hasobject or dtype.kind not in KINDS or dtype.subdtype:
        raise DataError(
            f"{label}: values of dtype {dtype}; allowed are booleans, numbers, bytes and text "
            "(Python objects would be a pickle, which can run code)"
        )
    if any(type(side) is not int or side < 0 for side in shape):
        raise DataError(f"{label}: shape {shape} is not a shape")
    return shape, fortran, dtype, used


def _fill(stream: BinaryIO, data: np.ndarray) -> int:
    """Fills ``data`` (bytes) from the stream; returns how many there were."""
    view, done = memoryview(data), 0
    while done < len(view) and (read := stream.readinto(view[done:])):
        done += read
    return done


def _check_values(array: np.ndarray, label: str) -> None:
    """Refuses bytes that are no value of their dtype: numpy trusts them, its users fail later."""
    if array.dtype.kind == "b" and array.size and array.view(np.uint8).max() > 1:
        raise DataError(f"{label}: booleans that are neither 0 nor 1")
    if array.dtype.kind == "U" and array.size and array.dtype.itemsize:
        codes = array.view(array.dtype.byteorder.replace("|", "=") + "u4")
        if np.any((codes > 0x10FFFF) | ((codes >= 0xD800) & (codes < 0xE000))):
            raise DataError(f"{label}: text with numbers that are no Unicode character")
