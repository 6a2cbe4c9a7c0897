"""MATLAB files up to version 7 (v5 format): numbers, text and cells, in a child process.

Structs, objects and functions are refused: they are programs' state, not data.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from mmfuse.data.safe import sandbox
from mmfuse.data.safe.arrays import KINDS
from mmfuse.data.safe.limits import MIB, DataError, decoding, one_line, size_text

MAX_BYTES = 256 * MIB
SECONDS = 60
DEPTH = 16
WHOLE = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
CLASSES = ("cell", "char", "logical", "double", "single", *WHOLE)


def read_mat(
    path: str | Path, max_bytes: int = MAX_BYTES, seconds: float = SECONDS
) -> dict[str, Any]:
    """Reads all variables of a v5 ``.mat`` file.

    Returns:
      {name: array [rows, columns, ...]}. A cell array comes as a list: of its cells if it is one
      row or one column, else of its rows.

    Raises:
      DataError: for a struct, object, function or sparse matrix, by name; v7.3 (an HDF5 file: use
        `read_h5`) and v4; more than ``max_bytes``; an altered file.
    """
    return sandbox.read("mat", path, max_bytes, seconds)


def load(path: str, label: str, max_bytes: int) -> dict[str, Any]:
    """Reads in the child; call `read_mat` instead."""
    from scipy.io import loadmat, matlab, whosmat  # here: only the child needs it

    with decoding(label, "MATLAB v5 file"), open(path, "rb") as file:
        version = matlab.matfile_version(file)[0]
        if version != 1:
            hint = "; v7.3 is HDF5: use read_h5" if version == 2 else ""
            raise DataError(f"{label}: not a MATLAB v5 file{hint}")
        for name, shape, kind in whosmat(file):
            if kind not in CLASSES:
                raise DataError(
                    f"{label}: variable '{one_line(name)}' is a {one_line(kind)}; allowed are "
                    "numbers, text and cells"
                )
            if math.prod(shape) > max_bytes:
                raise DataError(f"{label}: '{one_line(name)}' takes {size_text(math.prod(shape))}")
        found = loadmat(file)
        return {
            name: _plain(value, f"{label}:{one_line(name)}", 0)
            for name, value in found.items()
            if not name.startswith("__")
        }


def _plain(value: Any, where: str, depth: int) -> Any:
    if type(value) is not np.ndarray or depth > DEPTH:
        raise DataError(f"{where}: a {type(value).__name__}; allowed are numbers, text and cells")
    if value.dtype.kind != "O":
        if value.dtype.kind not in KINDS:
            raise DataError(f"{where}: a struct ({one_line(value.dtype)}); use arrays and cells")
        return value
    rows = [[_plain(cell, where, depth + 1) for cell in row] for row in np.atleast_2d(value)]
    if len(rows) == 1:
        return rows[0]
    return [row[0] for row in rows] if all(len(row) == 1 for row in rows) else rows
