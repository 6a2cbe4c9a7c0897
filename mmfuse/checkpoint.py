"""Checkpoints that survive a kill at any time, and bit rot; the only file that knows Orbax.

Orbax alone survives kills, but restores a flipped bit silently and takes any folder whose name is a
number for a step (seen with orbax-checkpoint 0.12.8). So each step carries a sha256 of every file::

    FOLDER/STEP/state/...        Orbax (PyTree, OCDBT): the leaves by path, as numpy arrays
    FOLDER/STEP/progress.json    what the loop knows beside the arrays
    FOLDER/STEP/manifest.json    sizes, hashes, shapes, dtypes; its first line is its own sha256

A step is built in ``FOLDER/.STEP.tmp``, the manifest last, and then renamed.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mmfuse.errors import InputError
from mmfuse.manifest import MANIFEST, DamagedError, read_manifest, sha256_file, write_manifest
from mmfuse.params import load_params, save_params
from mmfuse.record import sync_folder

__all__ = [
    "Checkpoints",
    "NoGoodStepError",
    "OtherModelError",
    "load_params",
    "save_params",
    "sha256_file",
]
logger = logging.getLogger("mmfuse")


class OtherModelError(InputError):
    """The checkpoint holds another tree, shape or dtype; at most 5 lines say where."""


class NoGoodStepError(RuntimeError):
    """There are checkpoints, and every one of them is damaged. Commands exit with 3."""

    exit_code = 3


class Checkpoints:
    """The last few steps of one run.

    Args:
      folder: where they lie; made on the first save. One process at a time may save.
      keep: how many good steps stay. With 2, one damaged step costs one interval of work.
    """

    def __init__(self, folder: str | os.PathLike, keep: int = 2):
        if keep < 1:
            raise InputError(f"keep must be at least 1, not {keep}")
        self.folder, self.keep = Path(folder).absolute(), keep

    def save(self, step: int, tree: Any, progress: Mapping[str, Any]) -> None:
        """Saves a step; when it returns, the step is on disk.

        Args:
          step: the step's number. Steps with a higher number are removed: the run went on from
            before them, so they were damaged.
          tree: a pytree of numpy or jax arrays and numbers (a typed PRNG key must be given as its
            ``key_data``); dtypes and bits are kept.
          progress: anything that is JSON. Floats come back with the same bits, nan too.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._remove(self.folder.glob(".*.tmp"))
        temporary, final = self.folder / f".{step}.tmp", self.folder / str(step)
        try:
            _write_step(temporary, step, _leaves(tree), progress)
        except BaseException:
            self._remove([temporary])  # a full disk needs the room
            raise
        if final.exists():
            final.rename(self.folder / f".{step}.old.tmp")
        temporary.rename(final)
        sync_folder(self.folder)
        self._remove(self.folder / str(other) for other in self.steps() if other > step)
        self._remove(self.folder / str(other) for other in self.steps()[: -self.keep])
        self._remove(self.folder.glob(".*.tmp"))

    def steps(self) -> list[int]:
        """Returns the steps that have a manifest, in order; all else in the folder is ignored."""
        return sorted(step for step, whole in self._numbered().items() if whole)

    def restore_latest(self, template: Any) -> tuple[int, Any, dict[str, Any]] | None:
        """Returns ``(step, tree, progress)`` of the newest good step, or None if there is no step.

        Args:
          template: a pytree of arrays or ``jax.ShapeDtypeStruct``; the result has its structure,
            with numpy arrays as leaves.

        Raises:
          OtherModelError: the newest good step does not fit the template.
          NoGoodStepError: there are steps, and all are damaged.
        """
        numbered = self._numbered()
        for step in sorted(numbered, reverse=True):
            if not numbered[step]:
                logger.warning("ignored '%s': it has no manifest", self.folder / str(step))
                continue
            try:
                return step, *self._restore(step, template)
            except DamagedError as error:
                logger.warning(
                    "checkpoint '%s' is damaged (%s); trying the step before it",
                    self.folder / str(step), error,
                )  # fmt: skip
        if any(numbered.values()):
            raise NoGoodStepError(
                f"every checkpoint in '{self.folder}' is damaged; remove the folder to train "
                "this row from its start"
            )
        return None

    def _restore(self, step: int, template: Any) -> tuple[Any, dict[str, Any]]:
        folder = self.folder / str(step)
        manifest = read_manifest(folder)
        if manifest["step"] != step:
            raise DamagedError(f"it holds step {manifest['step']}")
        _check_model(folder, manifest["leaves"], _leaves(template))
        try:
            stored = _restore_state(folder / "state", manifest["leaves"])
        except Exception as error:  # the files are intact, so this is another Orbax's format
            raise DamagedError(f"Orbax cannot read it: {error!r:.200}") from error
        leaves = [stored[name] for name in _leaves(template)]
        tree = jax.tree_util.tree_unflatten(jax.tree_util.tree_structure(template), leaves)
        return tree, json.loads((folder / "progress.json").read_text(encoding="utf-8"))

    def _numbered(self) -> dict[int, bool]:
        """Returns ``{step: has a manifest}`` of the folders that are named like a step."""
        if not self.folder.is_dir():
            return {}
        names = [name for name in os.listdir(self.folder) if name.isascii() and name.isdigit()]
        folders = {name: self.folder / name for name in names if str(int(name)) == name}
        return {int(k): (p / MANIFEST).is_file() for k, p in folders.items() if p.is_dir()}

    @staticmethod
    def _remove(folders: Iterable[Path]) -> None:
        """Removes folders, each renamed first so that half of one is never taken for a step."""
        for folder in list(folders):
            hidden = folder.with_name("." + folder.name.strip(".").removesuffix(".tmp") + ".tmp")
            if folder.exists():
                folder.rename(hidden)
                hidden.unlink() if hidden.is_file() else shutil.rmtree(hidden)


def _write_step(folder: Path, step: int, leaves: dict[str, Any], progress: Mapping) -> None:
    folder.mkdir()
    # Orbax refuses arrays without elements; the manifest alone can make them again.
    _checkpointer().save(folder / "state", {k: x for k, x in leaves.items() if x.size})
    (folder / "progress.json").write_text(json.dumps(dict(progress)), encoding="utf-8")
    shapes = {name: _describe(leaf) for name, leaf in leaves.items()}
    write_manifest(folder, step=step, leaves=shapes)


def _checkpointer() -> Any:
    # Imported here: it costs 0.2 s, and a run that has finished needs none of it. The synchronous
    # checkpointer leaves no thread behind that could write after a signal.
    import orbax.checkpoint as ocp

    # One process of several saves: Orbax must not wait for the others.
    me = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(primary_host=me, active_processes={me})
    handler = ocp.PyTreeCheckpointHandler(use_ocdbt=True, multiprocessing_options=alone)
    return ocp.Checkpointer(handler, multiprocessing_options=alone)


def _leaves(tree: Any) -> dict[str, Any]:
    """Returns ``{path: leaf}`` in the tree's order; numbers become arrays."""
    flat = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        if not isinstance(leaf, jax.ShapeDtypeStruct):
            if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(
                leaf.dtype, jax.dtypes.prng_key
            ):
                raise TypeError("a checkpoint cannot hold a typed PRNG key; give its key_data")
            leaf = np.asarray(leaf)  # noqa: PLW2901
        flat[jax.tree_util.keystr(path)] = leaf
    return flat


def _describe(leaf: Any) -> list[Any]:
    return [list(leaf.shape), np.dtype(leaf.dtype).name]


def _check_model(folder: Path, saved: Mapping[str, Any], template: Mapping[str, Any]) -> None:
    """Raises OtherModelError unless paths, shapes and dtypes are the same; nothing is ever cast."""
    wanted = {name: _describe(leaf) for name, leaf in template.items()}
    names = [name for name in {**wanted, **saved} if saved.get(name) != wanted.get(name)]
    if not names:
        return
    say = lambda entry: f"{entry[1]}{tuple(entry[0])}" if entry else "nothing"  # noqa: E731
    lines = [f"  {n}: {say(saved.get(n))} saved, {say(wanted.get(n))} wanted" for n in names]
    if len(lines) > 4:
        lines = [*lines[:3], f"  and {len(lines) - 3} more"]
    raise OtherModelError("\n".join([f"checkpoint '{folder}' is of another model:", *lines]))


def _restore_state(folder: Path, described: Mapping[str, Any]) -> dict[str, np.ndarray]:
    import orbax.checkpoint as ocp

    full = [name for name, (shape, _) in described.items() if 0 not in shape]
    how = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in full}
    stored = _checkpointer().restore(folder, restore_args=how)
    for name, (shape, dtype) in described.items():
        if 0 in shape:
            stored[name] = np.zeros(shape, np.dtype(dtype))
        if _describe(stored[name]) != [shape, dtype]:
            raise ValueError(f"{name} came back as {_describe(stored[name])}")
    return stored
