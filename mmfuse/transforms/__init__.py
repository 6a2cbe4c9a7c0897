"""Missing, corrupted and augmented input, on purpose: ``config.data.train_transforms`` and
``config.data.eval_transforms`` list what is done to every example, in order.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

from mmfuse.errors import InputError, listed, nearest
from mmfuse.transforms.base import Example, OfModality, Transform
from mmfuse.transforms.missing import DropFrames, DropModality, Swap
from mmfuse.transforms.mixup import Mixup
from mmfuse.transforms.noise import Noise, Occlude
from mmfuse.transforms.picture import Colour, Crop, Cutout, Flip
from mmfuse.transforms.spectrogram import SpecAugment

TRANSFORMS = {
    "drop_modality": DropModality,
    "drop_frames": DropFrames,
    "swap": Swap,
    "noise": Noise,
    "occlude": Occlude,
    "flip": Flip,
    "crop": Crop,
    "colour": Colour,
    "cutout": Cutout,
    "spec_augment": SpecAugment,
    "mixup": Mixup,
}
LISTS = {"train_transforms": True, "eval_transforms": False}  # name: whether it is for training


def build_transforms(data: dict, which: str) -> tuple[Transform, ...]:
    """The transforms of ``data[which]``, a list of ``{"name": ..., fields}``.

    Raises:
      InputError: an unknown name, field or modality, or a value out of its range.
    """
    entries, where = data.get(which, []), f"config.data.{which}"
    if not isinstance(entries, list | tuple):
        raise InputError(f"{where} must be a list of entries with a name, got {entries!r}")
    made = tuple(
        _build(entry, tuple(data["preprocess"]), f"{where}[{number}]", training=LISTS[which])
        for number, entry in enumerate(entries)
    )
    if sum(isinstance(each, Mixup) for each in made) > 1:
        raise InputError(f"{where} has 'mixup' twice: a label can be mixed once")
    return made


def _build(entry: Any, modalities: tuple[str, ...], where: str, *, training: bool) -> Transform:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise InputError(f"{where} must be a section with a name, got {entry!r}")
    fields = dict(entry)
    name = fields.pop("name")
    if name not in TRANSFORMS:
        raise InputError(
            f"unknown transform '{name}' in {where}{nearest(name, TRANSFORMS)}{listed(TRANSFORMS)}"
        )
    transform, said = TRANSFORMS[name], f"{where} '{name}'"
    if transform.training_only and not training:
        raise InputError(f"{said}: only for training, not for evaluation")
    _check_fields(transform, fields, said)
    if "modality" in fields and fields["modality"] not in modalities:
        raise InputError(
            f"{said}: no modality '{fields['modality']}' in config.data.preprocess"
            f"{nearest(fields['modality'], modalities)}{listed(modalities)}"
        )
    try:
        return transform(**fields)
    except InputError as error:
        raise InputError(f"{said}: {error}") from error


def _check_fields(transform: type[Transform], fields: dict, said: str) -> None:
    known = dataclasses.fields(transform)
    names = [field.name for field in known]
    for name in fields:
        if name not in names:
            raise InputError(f"{said}: no field '{name}'{nearest(name, names)}{listed(names)}")
    for field in known:
        if field.default is dataclasses.MISSING and field.name not in fields:
            raise InputError(f"{said}: the field '{field.name}' is missing")


def check_shapes(transforms: tuple[Transform, ...], batch: Example, which: str) -> None:
    """Refuses transforms that examples like those of ``batch`` (leaves [B, ...]) cannot have."""
    example = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), batch)
    for number, transform in enumerate(transforms):
        try:
            transform.check(example)
        except InputError as error:
            name = next(n for n, kind in TRANSFORMS.items() if isinstance(transform, kind))
            raise InputError(f"config.data.{which}[{number}] '{name}': {error}") from error


__all__ = ["LISTS", "TRANSFORMS", "OfModality", "Transform", "build_transforms", "check_shapes"]
