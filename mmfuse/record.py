"""A run is a record: one JSON file that says what ran, on what, and what came out.

Nothing here imports jax, so that a table can be rendered from records alone. Fields of a record:

============================  ====================================================================
``format``                    1, the version of this list
``row``, ``seed``             the row's name in the config, and the seed
``status``                    ``"done"``, ``"diverged"`` (a loss was not finite) or ``"failed"``
``config``, ``config_sha256`` the resolved config of the row, and ``sha256_json`` of it
``row_config``                what the config says of this row alone; its keys may differ by row
``metrics``                   ``{"valid": {name: value}, "test": {name: value}}`` of the chosen step
``curves``                    ``{"train": [...], "valid": [...]}``, one entry per epoch
``selected``                  ``{"step", "epoch", "by"}``: chosen by, for example, valid accuracy
``test_opening``              ``{"run", "purpose"}``: who opened the test split; when is a clock
``parameters``                number of trained parameters
``objective_parameters``      those of them that only the objectives have
``flops_per_example``         floating-point operations of one forward pass of one example
``budget_missed``             whether no width brings the row to the budget of the config
``reads``                     the modalities that the fusion reads
``reference``                 ``[{"name", "metric", "value"}]``: known bounds, equal in every record
``reference_row``             the best reachable value of the main metric, given ``reads``
``primary``                   the metric that the table puts first
``memory``                    what the compiled program asks for; a *measured* peak is a clock
``clock``                     ``{"compile_seconds", "train_seconds", ...}`` of the group of seeds
``device``, ``mode``          ``{"kind", "count"}``; ``"pmap"`` or ``"jit"``
``replica_width``             how many seeds were trained in one program
``seeds_in_group``            which seeds those were
``code_sha256``               of :func:`code_sha256`: the package that ran, committed or not
``versions``, ``git``         of :func:`versions` and :func:`git_state`
``data``                      ``{"name", "fingerprint", "card"}``
``params_sha256``             of the chosen parameters' file
``predictions_sha256``        of the file with the outputs for the test split
``fusion_sha256``             of the source file of the row's fusion, shipped or plugged in
============================  ====================================================================

Where folds were pooled (``mmfuse.folds``) there are neither ``curves`` nor ``params_sha256``, which
the records of the folds have.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

FORMAT = 1
CLOCK_FIELDS = ("clock",)
PACKAGES = (
    "mmfuse", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "tensorflow-datasets",
    "ml-collections", "numpy", "scipy", "jax-cuda12-plugin", "libtpu",
)  # fmt: skip


def strip_clock(record: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the record without its measured times: what a second run reproduces to the bit."""
    return {key: value for key, value in record.items() if key not in CLOCK_FIELDS}


def write_atomic(path: str | os.PathLike, content: bytes | str) -> None:
    """Writes a file that is either the old one or the new one, whatever is killed when.

    Text is encoded as UTF-8. The temporary file lies beside the target, under a name that starts
    with ``.`` and ends with ``.tmp``.
    """
    path = Path(path)
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name[:100]}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: str | os.PathLike) -> None:
    """Makes the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def plain(value: Any) -> Any:
    """Returns ``value`` in JSON's own types.

    Tuples and arrays become lists, numpy scalars Python numbers, paths strings. JSON has no number
    that is not finite: nan becomes null, and the infinities ``"Infinity"`` and ``"-Infinity"``.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):  # numpy and jax arrays and scalars
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{type(value).__name__} has no place in a record: {value!r:.80}")


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Returns ``{"a.b.c": leaf}`` of nested dicts; lists and empty dicts are leaves."""
    if not isinstance(tree, Mapping) or (prefix and not tree):
        return {prefix: tree}
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def dumps(value: Any) -> str:
    """Returns JSON with sorted keys: equal values give equal bytes. Floats round-trip exactly."""
    text = json.dumps(plain(value), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return text + "\n"


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Writes :func:`dumps` of the value, atomically."""
    write_atomic(path, dumps(value))


def sha256_json(value: Any) -> str:
    """Returns the sha256 of :func:`dumps` of the value, in hexadecimal."""
    return hashlib.sha256(dumps(value).encode()).hexdigest()


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that numbers depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def code_sha256(folder: str | os.PathLike | None = None) -> str:
    """Returns one sha256 over the names and contents of all Python files below ``folder``.

    By default that is this package. Unlike a commit it changes exactly when the code does.
    """
    folder, digest = Path(folder or Path(__file__).parent), hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
    return digest.hexdigest()


def git_state(folder: str | os.PathLike | None = None) -> dict[str, Any]:
    """Returns ``{"commit", "dirty", "diff"}`` of the code that runs.

    ``dirty`` looks at Python files below ``folder`` only, tracked or new: results, notes, configs
    and plug-ins are recorded on their own. ``diff`` is a short hash of what is dirty, so that two
    states of a dirty tree differ.
    Without git, or when the package is not tracked (an installed copy), all three are None.

    Args:
      folder: where to look; by default the folder of this package.
    """
    folder = Path(folder or Path(__file__).parent)
    unknown = {"commit": None, "dirty": None, "diff": None}
    if folder == Path(__file__).parent and _git(folder, "ls-files", Path(__file__).name) == "":
        return unknown  # site-packages inside somebody else's repository
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit:
        return unknown
    changed = _git(folder, "diff", "HEAD", "--", "*.py") or ""
    new = _git(folder, "ls-files", "--others", "--exclude-standard", "--", "*.py") or ""
    if not changed and not new:
        return {"commit": commit, "dirty": False, "diff": None}
    digest = hashlib.sha256(changed.encode())
    for name in new.splitlines():
        digest.update(name.encode() + b"\0" + (folder / name).read_bytes())
    return {"commit": commit, "dirty": True, "diff": digest.hexdigest()[:12]}


def _git(folder: str | os.PathLike, *arguments: str) -> str | None:
    """Returns what git says, or None where there is no git, no repository or no commit."""
    surroundings = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    command = ["git", "-c", "core.quotePath=off", "-C", os.fspath(folder), *arguments]
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, env=surroundings, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else None
