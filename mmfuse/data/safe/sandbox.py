"""Readers that could be led astray (pickle, HDF5, MATLAB) run in a child process with limits.

A child of its own for every file: limited in memory, time and what it may write. Whatever happens
to it, a crash of a C library included, comes back as one `DataError` line; a good result comes
back as a file of plain arrays (`tree`), never as a pickle.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from mmfuse.data.safe import tree
from mmfuse.data.safe.limits import DataError, name_of, open_source, size_text

ROOT = Path(__file__).resolve().parents[3]
CHILD = "mmfuse.data.safe.child"
GRACE = 10  # seconds on the clock for a child to start on a busy machine
REFUSED = 4  # exit status of a child that says what is wrong
QUIET = {  # one thread needs less address space; HDF5 must not load filters from a plug-in folder
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "HDF5_PLUGIN_PRELOAD": "::",
}


def read(reader: str, path: str | Path, max_bytes: int, seconds: float, **arguments) -> tree.Tree:
    """Reads a file in a child process.

    Args:
      reader: of `child.READERS`.
      path: of the file, at most ``max_bytes`` long.
      max_bytes: of data it may hold.
      seconds: of processor time; four times that, and some, on the clock.
      **arguments: for the reader; JSON values.

    Raises:
      DataError: what the reader refuses; too much memory or time; a crash.
    """
    with tempfile.TemporaryDirectory(prefix="mmfuse-") as folder:
        target = Path(folder, "tree.npz")
        convert(reader, path, target, max_bytes, seconds, **arguments)
        return tree.read(target, max_bytes)


def convert(
    reader: str, path: str | Path, target: Path, max_bytes: int, seconds: float, **arguments
) -> None:
    """As `read`, but leaves the `tree` file at ``target``."""
    label = name_of(path)
    open_source(path, max_bytes)[0].close()
    command = [sys.executable, "-P", "-m", CHILD, reader, os.path.abspath(path), str(target)]
    command += [str(max_bytes), str(seconds), json.dumps({"label": label, **arguments})]
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    try:
        child = subprocess.run(
            command,
            env={**os.environ, **QUIET, "PYTHONPATH": paths},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=4 * seconds + GRACE,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DataError(f"{label}: not read within {4 * seconds + GRACE:g} s") from error
    if child.returncode:
        raise DataError(_fault(child, label, max_bytes, seconds))


def _fault(child: subprocess.CompletedProcess, label: str, max_bytes: int, seconds: float) -> str:
    if child.returncode == REFUSED:
        return child.stdout.decode("utf-8", "replace").strip()
    if child.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        return f"{label}: stopped after {seconds:g} s of processor time"
    if child.returncode < 0:
        return f"{label}: its reader crashed ({signal.Signals(-child.returncode).name}); altered?"
    last = child.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
    return f"{label}: its reader failed ({''.join(last)[:200]}); limit {size_text(max_bytes)}"
