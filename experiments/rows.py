"""Which rows of a config a command is about, and whether their fusions can be trained."""

from __future__ import annotations

import dataclasses
import re

from mmfuse.ablation import Ablation, Row
from mmfuse.errors import InputError, listed
from mmfuse.fusion import FUSIONS, build_fusion, find_fusion, headed


def matching(ablation: Ablation, pattern: str) -> list[Row]:
    """The rows whose name matches ``--rows``; none is an InputError."""
    try:
        rows = [row for row in ablation.rows if re.search(pattern, row.name)]
    except re.error as error:
        raise InputError(f"--rows='{pattern}' is not a regular expression: {error}") from error
    if not rows:
        raise InputError(
            f"--rows='{pattern}' matches no row{listed(r.name for r in ablation.rows)}"
        )
    return rows


def check_fusion(row: Row, modalities: tuple[str, ...]) -> None:
    """Builds the row's fusion; one that is not shipped with mmfuse must pass the contract kit."""
    fields = dict(row.fusion)
    name = fields.pop("name")
    if "outputs" in (field.name for field in dataclasses.fields(find_fusion(name))):
        fields.setdefault("outputs", 2)  # the task tells the real number once the data is there
    fusion = build_fusion(name, **fields)
    if type(fusion) in FUSIONS.values():
        width, heads = headed(type(fusion)), getattr(fusion, "heads", 1)
        if getattr(fusion, width, 0) % heads:  # the module says so too, once the data is there
            raise InputError(
                f"fusion '{row.fusion['name']}' of row '{row.name}': {width} "
                f"{getattr(fusion, width)} is not divisible by heads {heads}"
            )
        return
    from mmfuse.contract import check_fusion

    failures = check_fusion(fusion, modalities=modalities)
    if failures:
        more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        first = " ".join(failures[0].message.split())
        raise InputError(
            f"fusion '{row.fusion['name']}' of row '{row.name}' breaks the contract: "
            f"{failures[0].check}: {first}{more}"
        )
