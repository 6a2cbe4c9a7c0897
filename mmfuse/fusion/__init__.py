"""The fusion methods by name: ``FUSIONS`` is the only list of those that are shipped."""

from __future__ import annotations

import dataclasses
import importlib
import math
from importlib.metadata import entry_points
from typing import Any

import flax.linen as nn

from mmfuse.errors import InputError, nearest
from mmfuse.fusion import late
from mmfuse.fusion.base import Fused
from mmfuse.fusion.deep import article, bottleneck
from mmfuse.fusion.spatial import gated, multilinear, simple
from mmfuse.fusion.temporal import attention, recurrent

__all__ = ["FUSIONS", "Fused", "build_fusion", "find_fusion"]

FUSIONS: dict[str, type[nn.Module]] = {
    # late: decisions, and the controls
    "unimodal": late.Unimodal,
    "late_average": late.LateAverage,
    # spatial: one common space
    "concat": simple.Concat,
    "gmu": gated.GMU,
    "tfn": multilinear.TFN,
    # temporal: along time
    "early_lstm": recurrent.EarlyLSTM,
    "crossmodal": attention.CrossModal,
    # deep: at several layers
    "self_cross": article.SelfCross,
    "mbt": bottleneck.MBT,
}
GROUP = "mmfuse.fusions"
AT_LEAST = {"features": 1, "hidden": 1, "width": 1, "heads": 1, "layers": 1}


def find_fusion(name: str) -> type[nn.Module]:
    """The class of a fusion: a name in ``FUSIONS``, ``"pkg.mod:Class"``, or an entry point.

    Entry points are those in the group ``mmfuse.fusions``; shipped names come first.

    Raises:
      InputError: nothing has this name (with the list and the nearest match), it cannot be
        imported, or it is not a Linen module class.
    """
    if name in FUSIONS:
        return FUSIONS[name]
    if ":" in name:
        return _checked(name, _imported(name))
    plugins = {point.name: point for point in entry_points(group=GROUP)}
    if name in plugins:
        return _checked(name, _imported(plugins[name].value))
    allowed = [*FUSIONS, *sorted(plugins)]
    raise InputError(
        f"unknown fusion '{name}'; allowed: {', '.join(allowed)} or 'pkg.mod:Class'"
        f"{nearest(name, allowed)}"
    )


def _imported(path: str) -> Any:
    """The object at ``"pkg.mod:Class"``; any failure of the import becomes one clear line."""
    module_name, _, attribute = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # The plug-in's own code runs here and may raise anything.
        reason = " ".join(str(error).split())
        raise InputError(
            f"fusion '{path}': cannot import '{module_name}': {type(error).__name__}: {reason}"
        ) from error
    if not hasattr(module, attribute):
        raise InputError(
            f"fusion '{path}': module '{module_name}' has no '{attribute}'"
            f"{nearest(attribute, vars(module))}"
        )
    return getattr(module, attribute)


def _checked(name: str, found: Any) -> type[nn.Module]:
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise InputError(f"fusion '{name}' is not a class derived from flax.linen.Module")
    return found


def build_fusion(name: str, **fields: Any) -> nn.Module:
    """The fusion ``name`` with these fields.

    Raises:
      InputError: an unknown field (with the allowed ones), a missing one, or a value of a wrong
        type or outside its range.
    """
    found = find_fusion(name)
    known = {f.name: f for f in dataclasses.fields(found) if f.name not in ("parent", "name")}
    for field, value in fields.items():
        if field not in known:
            raise InputError(
                f"fusion '{name}' has no field '{field}'; allowed: {', '.join(known)}"
                f"{nearest(field, known)}"
            )
        _check_value(name, field, str(known[field].type), value)
    missing = [f for f in known if f not in fields and _required(known[f])]
    if missing:
        raise InputError(f"fusion '{name}' needs a value for: {', '.join(missing)}")
    return found(**fields)


def _required(field: dataclasses.Field) -> bool:
    nothing = dataclasses.MISSING
    return field.init and field.default is nothing and field.default_factory is nothing


def _check_value(name: str, field: str, kind: str, value: Any) -> None:
    """Raises InputError for a number of the wrong kind or out of range; other kinds pass."""
    where = f"fusion '{name}': {field}={value!r}"
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind in ("int", "<class 'int'>") and not (number and isinstance(value, int)):
        raise InputError(f"{where} must be a whole number")
    if kind in ("float", "<class 'float'>") and not (number and math.isfinite(value)):
        raise InputError(f"{where} must be a finite number")
    if field in AT_LEAST and number and value < AT_LEAST[field]:
        raise InputError(f"{where} must be at least {AT_LEAST[field]}")
    if field in ("bottlenecks", "fusion_layer") and number and value < 0:
        raise InputError(f"{where} must not be negative")
    if field == "dropout" and number and not 0 <= value < 1:
        raise InputError(f"{where} must be in [0, 1)")
