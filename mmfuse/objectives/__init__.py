"""What training aims at besides the task, by name. ``OBJECTIVES`` is the only list of those.

``config.objectives``, or a row's own, is ``{name: fields}``. A field ``name`` says which objective
it is where the key does not: ``{"hot": {"name": "contrastive", "temperature": 1.0}}``, or
``{"mine": {"name": "my_pkg.mod:Class"}}`` for a class of elsewhere, derived from ``Objective``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from mmfuse.errors import InputError, listed, nearest
from mmfuse.fusion.plugins import imported
from mmfuse.objectives.alignment import Contrastive, DeepCCA
from mmfuse.objectives.apply import Objectives
from mmfuse.objectives.base import Objective, Seen, Told
from mmfuse.objectives.gradients import OGMGE
from mmfuse.objectives.missing import ModalityDropout
from mmfuse.objectives.reconstruction import MFM, MVAE, Reconstruction
from mmfuse.objectives.unimodal import GradientBlending, UnimodalHeads
from mmfuse.transforms import Transform

OBJECTIVES: dict[str, type[Objective]] = {
    "contrastive": Contrastive,
    "deep_cca": DeepCCA,
    "reconstruction": Reconstruction,
    "mfm": MFM,
    "mvae": MVAE,
    "unimodal_heads": UnimodalHeads,
    "gradient_blending": GradientBlending,
    "ogm_ge": OGMGE,
    "modality_dropout": ModalityDropout,
}


def find_objective(name: str) -> type[Objective]:
    """The class of an objective: a name in ``OBJECTIVES``, or ``"pkg.mod:Class"``.

    Raises:
      InputError: there is none (with the list and the nearest match), or it is no objective.
    """
    if ":" in str(name):
        found = imported(f"objective '{name}'", name)
        if not (isinstance(found, type) and issubclass(found, Objective)):
            raise InputError(
                f"objective '{name}' is not a class derived from mmfuse.objectives.Objective"
            )
        return found
    if name not in OBJECTIVES:
        raise InputError(
            f"unknown objective '{name}'; allowed: {', '.join(OBJECTIVES)} or, as the field 'name',"
            f" 'pkg.mod:Class'{nearest(str(name), OBJECTIVES)}"
        )
    return OBJECTIVES[name]


def build_objectives(
    entries: Mapping[str, Mapping[str, Any]], where: str, steps_per_epoch: int = 1
) -> Objectives:
    """The objectives of ``entries``; ``where`` is what a mistake is told of.

    Raises:
      InputError: an unknown name or field, a missing one, or a value out of its range.
    """
    named = []
    for key, fields in entries.items():
        try:
            named.append((key, _build(key, dict(fields))))
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
    return Objectives(tuple(named), steps_per_epoch)


def _build(key: str, fields: dict[str, Any]) -> Objective:
    if "/" in key:
        raise InputError(f"objective '{key}': its name must not hold '/'")
    found = find_objective(fields.pop("name", key))
    known = {f.name: f for f in dataclasses.fields(found) if f.name not in ("parent", "name")}
    for field in fields:
        if field not in known:
            raise InputError(
                f"objective '{key}' has no field '{field}'{nearest(field, known)}{listed(known)}"
            )
    for field, about in known.items():
        nothing = dataclasses.MISSING
        if field not in fields and about.default is nothing and about.default_factory is nothing:
            raise InputError(f"objective '{key}' needs the field '{field}'")
    lists = {name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()}
    made = found(**lists)
    try:
        made.check()
    except InputError as error:
        raise InputError(f"objective '{key}': {error}") from error
    return made


def check_fit(
    objectives: Objectives,
    where: str,
    modalities: tuple[str, ...],
    transforms: tuple[Transform, ...],
) -> None:
    """Refuses objectives that have no meaning for a row that reads these modalities.

    ``transforms`` are all that its training examples go through; ``where`` names the row.
    """
    for key, made in objectives.named:
        try:
            made.fits(modalities, transforms)
        except InputError as error:
            raise InputError(f"{where}: objective '{key}': {error}") from error


__all__ = [
    "OBJECTIVES", "Objective", "Objectives", "Seen", "Told", "build_objectives", "check_fit",
    "find_objective",
]  # fmt: skip
