"""What the configurations of datasets check alike: whole numbers in a range."""

from __future__ import annotations

from mmfuse.errors import InputError, nearest

MAX_SEED = 2**32 - 1


def check_range(dataset: str, name: str, value: object, low: int, high: int) -> None:
    """Checks that a field is a whole number from ``low`` to ``high``.

    Raises:
      InputError: it is not; a bool is not a number here.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise InputError(f"{dataset}: {name} {value} must be a whole number from {low} to {high}")


def check_choice(dataset: str, name: str, value: object, allowed: tuple) -> None:
    """Checks that a field has one of the allowed values.

    Raises:
      InputError: it has not; the nearest is named.
    """
    if value not in allowed:
        raise InputError(
            f"{dataset}: {name} {value!r}; allowed: {', '.join(map(str, allowed))}"
            f"{nearest(str(value), map(str, allowed))}"
        )
