"""Fusions from elsewhere: by dotted path, or by an entry point of an installed package."""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from importlib.metadata import entry_points
from typing import Any

import flax.linen as nn

from mmfuse.errors import InputError, nearest

GROUP = "mmfuse.fusions"


def registered() -> dict[str, tuple[str, ...]]:
    """``{name: ("pkg.mod:Class", ...)}`` of the entry points; more than one if they clash."""
    return _registered(tuple(sys.path))


@functools.lru_cache(maxsize=4)
def _registered(path: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Kept, as finding them reads the metadata of every installed package on ``path``."""
    del path
    found: dict[str, dict[str, None]] = {}
    for point in entry_points(group=GROUP):
        target = point.value.partition("[")[0].replace(" ", "")  # without extras
        found.setdefault(point.name, {})[target] = None
    return {name: tuple(targets) for name, targets in sorted(found.items())}


def load(path: str, name: str | None = None) -> type[nn.Module]:
    """The fusion class at ``"pkg.mod:Class"``, which an entry point may call ``name``.

    Raises:
      InputError: it cannot be imported, or is not a fusion; one line that says why.
    """
    where = f"fusion '{name}' ('{path}')" if name else f"fusion '{path}'"
    found = imported(where, path)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise InputError(f"{where} is not a class derived from flax.linen.Module")
    _check_signature(where, found)
    return found


def imported(where: str, path: str) -> Any:
    """The object at ``path``; any failure of the import becomes one clear line."""
    module_name, _, attribute = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # Foreign code runs here and may do anything.
        reason = " ".join(str(error).split())
        raise InputError(
            f"{where}: cannot import '{module_name}': {type(error).__name__}: {reason}"
        ) from error
    if not hasattr(module, attribute):
        raise InputError(
            f"{where}: module '{module_name}' has no '{attribute}'"
            f"{nearest(attribute, vars(module))}"
        )
    return getattr(module, attribute)


def _check_signature(where: str, found: type[nn.Module]) -> None:
    """Raises InputError unless ``__call__`` can be called as every fusion is."""
    own = [vars(c)["__call__"] for c in found.__mro__ if "__call__" in vars(c)]
    expected = "expected __call__(self, tokens, masks, *, train)"
    if not own:
        raise InputError(f"{where} has no __call__; {expected}")
    signature = inspect.signature(own[0])
    try:
        signature.bind("self", "tokens", "masks", train=True)
    except TypeError as error:
        shown = "(" + ", ".join(map(_shown, signature.parameters.values())) + ")"
        raise InputError(f"{where}: __call__{shown} does not fit: {error}; {expected}") from error


def _shown(parameter: inspect.Parameter) -> str:
    return str(parameter.replace(annotation=inspect.Parameter.empty))
