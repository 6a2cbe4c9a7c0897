"""HDF5: one numeric dataset of a file, in a child process, with nothing read from elsewhere.

HDF5 can point into other files (external links, external storage, virtual datasets) and load
filters as plug-ins; all of that is refused. Its C library is not made for hostile files, hence the
child process.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from mmfuse.data.safe import sandbox
from mmfuse.data.safe.limits import MIB, DataError, decoding, one_line, size_text
from mmfuse.errors import listed, nearest

MAX_BYTES = 256 * MIB
SECONDS = 60
LISTED = 20  # keys in a message


def read_h5(
    path: str | Path, key: str, max_bytes: int = MAX_BYTES, seconds: float = SECONDS
) -> np.ndarray:
    """Reads the dataset ``key`` ("a/b" lies in group "a") of an HDF5 file.

    Raises:
      DataError: for a missing key (with the nearest), a link, external or virtual data, values
        that are no numbers, more than ``max_bytes``, an altered file.
    """
    return sandbox.read("h5", path, max_bytes, seconds, key=key)


def load(path: str, label: str, max_bytes: int, key: str) -> np.ndarray:
    """Reads in the child; call `read_h5` instead."""
    import h5py  # here: only the child needs it

    with decoding(label, "HDF5 file"), h5py.File(path, "r", locking=False) as file:
        node = file
        for part in filter(None, key.split("/")):
            node = _step(node, part, f"{label}:{key}")
        _check(node, f"{label}:{key}", max_bytes)
        return node[()]


def _step(group, part: str, where: str):
    import h5py

    names = list(group) if isinstance(group, h5py.Group) else []
    if part not in names:
        close = nearest(part, names) + listed(one_line(name, 40) for name in names[:LISTED])
        raise DataError(f"{where}: there is no '{one_line(part)}'{close}")
    if not isinstance(group.get(part, getlink=True), h5py.HardLink):
        raise DataError(f"{where}: '{part}' is a link to elsewhere; only data in the file is read")
    return group[part]


def _check(node, where: str, max_bytes: int) -> None:
    import h5py

    if not isinstance(node, h5py.Dataset):
        raise DataError(f"{where}: a group{listed(one_line(name, 40) for name in list(node)[:20])}")
    if node.is_virtual or node.external:
        raise DataError(f"{where}: its data lies in other files; only data in the file is read")
    if node.dtype.kind not in "biuf" or node.dtype.subdtype or node.shape is None:
        raise DataError(f"{where}: dtype {one_line(node.dtype)}; allowed are numbers")
    sizes = [math.prod(shape) * node.dtype.itemsize for shape in (node.shape, node.chunks or ())]
    if max(sizes) > max_bytes:
        raise DataError(
            f"{where}: shape {node.shape} takes {size_text(sizes[0])} (in chunks of "
            f"{size_text(sizes[1])}); at most {size_text(max_bytes)} are read"
        )
