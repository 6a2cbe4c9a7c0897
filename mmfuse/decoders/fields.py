"""The fields of heads that a config sets, and which values they may have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mmfuse.errors import InputError
from mmfuse.transforms.base import number, whole


def _size(where: str, value: Any) -> None:
    whole(where, value, 1)


def _sizes(where: str, value: Any) -> None:
    good = isinstance(value, list | tuple) and all(type(x) is int and x >= 1 for x in value)
    if not good:
        raise InputError(f"{where} must be a list of integers >= 1, got {value!r}")


def _name(where: str, value: Any) -> None:
    if not isinstance(value, str):
        raise InputError(f"{where} must be a name, got {value!r}")


CHECKS: dict[str, Callable[[str, Any], None]] = {
    **dict.fromkeys(("features", "hidden", "embed", "heads", "layers", "kernel"), _size),
    "blocks": _sizes,
    "dropout": lambda where, value: number(where, value, 0, 0.99),
    "n3": lambda where, value: number(where, value, 0),
    "skip": _name,
}


def check_field(name: str, value: Any) -> None:
    """A field means the same in every head that has it.

    Raises:
      InputError: the value is not allowed; says the field, what is allowed, and the value.
    """
    if name in CHECKS:
        CHECKS[name](f"config.head.{name}", value)
