"""A folder that can prove it is whole: every file's size and sha256, in one file written last.

The manifest's first line is the sha256 of the rest of it, so that damage to the manifest shows too.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from mmfuse.record import write_atomic

MANIFEST = "manifest.json"


class DamagedError(Exception):
    """The folder cannot be trusted; the message says why."""


def sha256_file(path: str | os.PathLike) -> str:
    """Returns the sha256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(folder: Path, **facts: Any) -> None:
    """Writes the manifest of all files now below the folder, each brought to the disk first.

    Args:
      folder: what to describe.
      **facts: JSON that is kept in the manifest as it is.
    """
    files = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
        name = path.relative_to(folder).as_posix()
        files[name] = [path.stat().st_size, sha256_file(path)]
    body = json.dumps({"format": 1, "files": files, **facts}, indent=1)
    write_atomic(folder / MANIFEST, f"{hashlib.sha256(body.encode()).hexdigest()}\n{body}")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Returns the manifest after checking it and every file that it names.

    Raises:
      DamagedError: a file is missing, cannot be read, or has another size or sha256.
    """
    try:
        digest, _, body = (folder / MANIFEST).read_bytes().partition(b"\n")
    except OSError as error:
        raise DamagedError(f"its manifest cannot be read: {error.strerror}") from error
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise DamagedError("its manifest does not match its own sha256")
    manifest = json.loads(body)
    for name, (size, sha256) in manifest["files"].items():
        _check_file(folder / name, name, size, sha256)
    return manifest


def _check_file(path: Path, name: str, size: int, sha256: str) -> None:
    try:
        if path.stat().st_size != size:
            raise DamagedError(f"'{name}' has {path.stat().st_size} bytes instead of {size}")
        if sha256_file(path) != sha256:
            raise DamagedError(f"'{name}' has another sha256")
    except OSError as error:
        raise DamagedError(f"'{name}' cannot be read: {error.strerror}") from error
