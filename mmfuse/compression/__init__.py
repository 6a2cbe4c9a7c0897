"""Smaller models: ``compression`` of a row, ``{"name": ..., fields}``; COMPRESSIONS has them all.

Each is a frozen dataclass of pure functions of the parameters: what the forward pass sees while
training, and what becomes of the parameters before they are measured. So the scores of a row are
those of the compressed model, on validation, where its epoch is chosen, and on test.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from mmfuse.compression.base import NO_FACTS, NONE, Compression, Facts
from mmfuse.compression.distil import Distil, Teacher
from mmfuse.compression.int8 import Int8, Int8Aware
from mmfuse.compression.low_rank import LowRank
from mmfuse.compression.pruning import Channels, Prune, PruneInt8
from mmfuse.errors import InputError, listed, nearest

__all__ = ["COMPRESSIONS", "NONE", "Compression", "Distil", "Facts", "Teacher", "build_compression"]

COMPRESSIONS: dict[str, type[Compression]] = {
    "prune": Prune,
    "prune_channels": Channels,
    "prune_int8": PruneInt8,
    "int8": Int8,
    "int8_aware": Int8Aware,
    "low_rank": LowRank,
    "distil": Distil,
}


def build_compression(entry: dict[str, Any], where: str, facts: Facts = NO_FACTS) -> Compression:
    """The compression of an entry ``{"name": ..., fields}``; of an empty one, none.

    Raises:
      InputError: an unknown name or field, a missing one, or a value out of its range.
    """
    if not entry:
        return NONE
    fields = dict(entry)
    name = fields.pop("name")
    if name not in COMPRESSIONS:
        raise InputError(
            f"{where}.compression: no '{name}'{nearest(name, COMPRESSIONS)}{listed(COMPRESSIONS)}"
        )
    found, said = COMPRESSIONS[name], f"{where}.compression '{name}'"
    known = [field for field in dataclasses.fields(found) if field.name != "facts"]
    names = [field.name for field in known]
    for field in fields:
        if field not in names:
            raise InputError(f"{said}: no field '{field}'{nearest(field, names)}{listed(names)}")
    for field in known:
        if field.default is dataclasses.MISSING and field.name not in fields:
            raise InputError(f"{said}: the field '{field.name}' is missing")
    try:
        return found(facts=facts, **fields)
    except InputError as error:
        raise InputError(f"{said}: {error}") from error
