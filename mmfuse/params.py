"""Parameters as one ``.npz`` file that numpy alone can read."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from io import BytesIO
from typing import Any

import numpy as np

from mmfuse.record import write_atomic


def save_params(path: str | os.PathLike, tree: Mapping[str, Any]) -> None:
    """Writes nested dicts of arrays as ``.npz``: keys ``a/b/c``, equal arrays give equal bytes.

    Raises:
      ValueError: a key is not a string or holds a slash, or ``.npy`` has no such dtype (bfloat16).
    """
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in sorted(_flat_params(tree).items()):
            # numpy.savez leaves the entry's attributes to the platform; these are fixed.
            entry = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            entry.create_system = 3
            content = BytesIO()
            np.lib.format.write_array(
                content,
                np.ascontiguousarray(array).reshape(array.shape),
                version=(1, 0),
                allow_pickle=False,
            )
            archive.writestr(entry, content.getvalue())
    write_atomic(path, buffer.getvalue())


def load_params(path: str | os.PathLike) -> dict[str, Any]:
    """Returns the nested dicts of numpy arrays that :func:`save_params` wrote."""
    tree: dict[str, Any] = {}
    with np.load(path, allow_pickle=False) as archive:
        for name in archive.files:
            *folders, last = name.split("/")
            branch = tree
            for folder in folders:
                branch = branch.setdefault(folder, {})
            branch[last] = archive[name]
    return tree


def _flat_params(tree: Mapping[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    flat = {}
    for key, value in tree.items():
        if not isinstance(key, str) or "/" in key:
            raise ValueError(f"a parameter's name must be text without '/': {key!r}")
        if isinstance(value, Mapping):
            flat |= _flat_params(value, f"{prefix}{key}/")
            continue
        array = np.asarray(value)
        if array.dtype.kind not in "biufc":
            raise ValueError(f".npz cannot hold {prefix}{key} of dtype {array.dtype}")
        flat[prefix + key] = array
    return flat
