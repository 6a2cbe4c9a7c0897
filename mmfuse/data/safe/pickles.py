"""Old pickles of arrays: a format that can run code, so only ten harmless names are let in.

A pickle is read in a child process (`sandbox`) by an unpickler that knows numpy's arrays, dtypes
and scalars, text encoded by protocol 2, and ordered dicts. Every other name, a dotted one
included, is refused by name before it is looked up. The result is kept as plain arrays.
"""

from __future__ import annotations

import collections
import hashlib
import os
import pickle
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from mmfuse.data.safe import sandbox, tree
from mmfuse.data.safe.limits import MIB, DataError, decoding, one_line, open_source

MAX_BYTES = 256 * MIB
SECONDS = 60
ENCODINGS = ("latin1", "latin-1", "iso-8859-1")
VERSION = 1  # of what is kept in a cache


def read_pickle(
    path: str | Path,
    cache: str | Path | None = None,
    max_bytes: int = MAX_BYTES,
    seconds: float = SECONDS,
) -> tree.Tree:
    """Reads a pickle of arrays, numbers, text, lists, tuples and dicts, of any protocol.

    Args:
      path: of the pickle.
      cache: a folder; the arrays are kept there under the sha256 of the pickle, which then is
        unpickled once only.
      max_bytes: of the file, and of the data in it.
      seconds: of processor time.

    Returns:
      What was pickled. Python 2 strings are decoded as latin-1; an array of Python objects comes
      as a list, a numpy scalar as an array without axes, an ordered dict as a dict.

    Raises:
      DataError: for a name that is not allowed, another type, a bomb, a truncated file.
    """
    if cache is None:
        return sandbox.read("pickle", path, max_bytes, seconds)
    kept = Path(cache) / f"pickle-v{VERSION}-{_sha256(path, max_bytes)}.npz"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".pickle-", dir=kept.parent) as folder:
            part = Path(folder, "tree.npz")
            sandbox.convert("pickle", path, part, max_bytes, seconds)
            os.replace(part, kept)
    return tree.read(kept, max_bytes)


def _sha256(path: str | Path, max_bytes: int) -> str:
    stream, _ = open_source(path, max_bytes)
    with stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def load(path: str, label: str, max_bytes: int) -> tree.Tree:
    """Unpickles in the child; call `read_pickle` instead."""
    del max_bytes  # the child's memory is limited
    with open(path, "rb") as stream, decoding(label, "pickle"):
        return _Unpickler(stream, label).load()


class _Unpickler(pickle.Unpickler):
    """Finds the allowed names and no others."""

    def __init__(self, stream: Any, label: str):
        super().__init__(stream, encoding="latin1")
        self._label = label

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise DataError(
                f"{self._label}: refused: it wants to load '{one_line(f'{module}.{name}')}'; "
                f"allowed are {', '.join(sorted({name for _, name in ALLOWED}))}"
            )
        return ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise DataError(f"{self._label}: refused: it refers to an object outside of the file")


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """``_codecs.encode`` for the one encoding that pickles of bytes use."""
    if str(encoding).lower() not in ENCODINGS:
        raise ValueError(f"text in encoding '{one_line(encoding)}'; allowed is latin1")
    return text.encode("latin1")


def _allowed() -> dict[tuple[str, str], Any]:
    """The objects by the names that numpy 1 and numpy 2 pickle them under."""
    multiarray, numeric = np._core.multiarray, np._core.numeric
    names = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("_codecs", "encode"): _encode,
    }
    for core in ("numpy.core", "numpy._core"):
        names[f"{core}.multiarray", "_reconstruct"] = multiarray._reconstruct
        names[f"{core}.multiarray", "scalar"] = multiarray.scalar
        names[f"{core}.numeric", "_frombuffer"] = numeric._frombuffer
    return names


ALLOWED = _allowed()
