"""What a launch takes over from an earlier one: values that depend on nothing but their key.

JAX's own cache spares a second launch the compiling. It does not spare the tracing and lowering
before it, nor the loading of the large program that draws the first parameters; for a row of many
small layers these take longer than the rest. So a row's counts, first state and programs are kept
as well, under everything that they depend on.
"""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from mmfuse.record import code_sha256, sha256_json, versions, write_atomic

LIMIT = 2**31  # bytes; the files that were used longest ago go first


class Store:
    """Pickled values in a folder that only the user can write to; without a folder, nothing.

    A file that is damaged, or that cannot be read by this Python, counts as absent.
    """

    def __init__(self, folder: str | os.PathLike | None = None, limit: int = LIMIT):
        self._folder = None if folder is None else Path(folder)
        self._limit = limit
        self._surroundings = None if folder is None else surroundings()

    @property
    def keeps(self) -> bool:
        """Whether anything is kept at all."""
        return self._folder is not None

    def cached(self, facts: Any, make: Callable[[], Any]) -> Any:
        """The value kept under ``facts`` (plain data), or what ``make`` returns, then kept."""
        value = self.load(facts)
        if value is None:
            value = make()
            self.save(facts, value)
        return value

    def load(self, facts: Any) -> Any:
        """The value kept under ``facts``, or None."""
        if self._folder is None:
            return None
        path = self._path(facts)
        try:
            content = path.read_bytes()
            if hashlib.sha256(content[32:]).digest() != content[:32]:
                return None
            os.utime(path)
            return pickle.loads(content[32:])
        except (OSError, pickle.UnpicklingError, AttributeError, ImportError):
            return None

    def save(self, facts: Any, value: Any) -> None:
        """Keeps a value; where that is not possible, it says so and goes on."""
        if self._folder is None:
            return
        content = pickle.dumps(value)
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomic(self._path(facts), hashlib.sha256(content).digest() + content)
            self._prune()
        except OSError as error:
            logging.warning("nothing is kept for the next launch: %s", error)

    def _path(self, facts: Any) -> Path:
        return self._folder / sha256_json([self._surroundings, facts])

    def _prune(self) -> None:
        files = sorted(self._folder.iterdir(), key=lambda path: path.stat().st_mtime)
        total = sum(path.stat().st_size for path in files)
        for path in files:
            if total <= self._limit:
                break
            total -= path.stat().st_size
            path.unlink(missing_ok=True)


def shapes_of(tree: Any) -> list:
    """``[[path, shape, dtype], ...]`` of the arrays in a tree, as plain data."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [[jax.tree_util.keystr(path), list(x.shape), str(x.dtype)] for path, x in leaves]


def surroundings() -> dict[str, Any]:
    """All that a compiled program depends on besides what it computes: code, packages, machine."""
    return {
        "code": code_sha256(),
        "versions": versions(),
        "backend": [device.client.platform_version for device in jax.local_devices()[:1]],
        "processor": _processor(),
        "settings": {name: str(value) for name, value in jax.config.values.items()},
        "environment": {k: v for k, v in os.environ.items() if k.startswith(("XLA_", "JAX_"))},
    }


def _processor() -> str:
    """What distinguishes processors that cannot run each other's programs."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.node()}"
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.node())
