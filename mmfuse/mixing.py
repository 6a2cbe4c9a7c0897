"""Records of one table may differ in row and seed, and in nothing else that was not asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmfuse.errors import InputError
from mmfuse.record import flatten

# What a run produces, or what its row and seed are: free to differ. All else must be equal.
FREE = {
    "row", "seed", "seeds_in_group", "config", "config_sha256", "row_config", "status", "error",
    "diverged_at", "metrics", "curves", "selected", "clock", "memory", "params_sha256",
    "parameters", "objective_parameters", "flops_per_example", "reads", "reference_row",
    "fusion_sha256", "git", "budget_missed", "predictions_sha256", "test_opening", "size_bytes",
    "sparsity", "effective_flops",
}  # fmt: skip
WHOLE = {"modalities", "objectives", "compression"}  # sections that a row replaces whole
MISSING = "nothing"


def refuse_mixed(records: Sequence[Mapping[str, Any]]) -> None:
    """Raises InputError if these records cannot stand in one table.

    They must be of different (row, seed), agree in everything that is not free to differ (data,
    device, mode, replica width, versions, code, references and whatever else a record
    holds), and their configs must agree but for what a row's own entry in the config changes.
    """
    seen: dict[tuple[str, int], Mapping[str, Any]] = {}
    first_of_row: dict[str, Mapping[str, Any]] = {}
    for record in records:
        key = (record["row"], record["seed"])
        if key in seen:
            raise InputError(f"two records of row '{key[0]}', seed {key[1]}; a table holds one")
        seen[key] = record
        _refuse(records[0], record, _fixed(records[0]), _fixed(record))
        twin = first_of_row.setdefault(record["row"], record)
        _refuse(twin, record, _config(twin), _config(record))
        _refuse(records[0], record, _config(records[0]), _config(record), _own(records[0], record))


def _fixed(record: Mapping[str, Any]) -> dict[str, Any]:
    return flatten({key: value for key, value in record.items() if key not in FREE})


def _config(record: Mapping[str, Any]) -> dict[str, Any]:
    return flatten({"config": record.get("config", {})})


def _own(*records: Mapping[str, Any]) -> set[str]:
    """Returns the parts of the config that these rows set themselves: ``config.section.key``.

    A row replaces the whole fusion entry; of an encoder it may replace one by another kind.
    """
    own = {"config.fusion"}
    for record in records:
        for section, entry in (record.get("row_config") or {}).items():
            if section in WHOLE:
                own.add(f"config.{section}")
            keys = entry if isinstance(entry, Mapping) else ()
            own |= {f"config.{section}.{key}" for key in keys} or {f"config.{section}"}
    return own


def _refuse(
    one: Mapping[str, Any],
    other: Mapping[str, Any],
    a: Mapping[str, Any],
    b: Mapping[str, Any],
    own: set[str] = frozenset(),
) -> None:
    for key in sorted({*a, *b}):
        if a.get(key, MISSING) == b.get(key, MISSING):
            continue
        if any(key == prefix or key.startswith(prefix + ".") for prefix in own):
            continue
        raise InputError(
            f"these records cannot share a table: {key} is {_short(a.get(key, MISSING))} in "
            f"{_name(one)} and {_short(b.get(key, MISSING))} in {_name(other)}"
        )


def _name(record: Mapping[str, Any]) -> str:
    return f"row '{record['row']}' seed {record['seed']}"


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else text[:77] + "..."
