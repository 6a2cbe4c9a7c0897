"""The points at which a finished run is scored: what befalls the test split at each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import jax
import jax.numpy as jnp

from mmfuse.transforms import OfModality, Transform
from mmfuse.transforms.base import kind
from mmfuse.transforms.missing import DropFrames, DropModality, Swap
from mmfuse.transforms.noise import Noise

SNRS = (-10.0, -5.0, 0.0, 5.0, 10.0, 20.0)  # dB, of what the model sees
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # probabilities of missing
AXES = {"noise": "SNR (dB)", "modality": "P(modality absent)", "steps": "P(step absent)"}


@dataclasses.dataclass(frozen=True)
class Zero(OfModality):
    """The modality is all zeros and still counts as present: the training mean, or padding words.

    A model that was told so by the mask may do better: see ``DropModality``.
    """

    def change(self, key: jax.Array, x: jax.Array, mask: jax.Array) -> tuple:
        return jnp.zeros_like(x), mask


# {change: (modality, strength) -> transform}; a strength may be an argument of a compiled program.
CHANGES: dict[str, Callable[[str, Any], Transform]] = {
    "removed": DropModality,
    "zeroed": lambda modality, _: Zero(modality),
    "shuffled": Swap,
    "noise": Noise,
    "modality": DropModality,
    "steps": DropFrames,
}
WHOLE = ("removed", "zeroed", "shuffled")  # what befalls every example


@dataclasses.dataclass(frozen=True)
class Point:
    """One score: ``change`` of ``modalities`` at ``strength`` (1 for what befalls all)."""

    change: str
    modalities: tuple[str, ...] = ()
    strength: float = 1.0

    def transforms(self, strength: Any) -> tuple[Transform, ...]:
        """What is done to an example, one transform a modality."""
        return tuple(CHANGES[self.change](m, strength) for m in self.modalities)


CLEAN = Point("clean")


def modality_points(modalities: Sequence[str]) -> list[Point]:
    """Each of ``WHOLE`` for each modality, and for each pair where there are three or more."""
    names = sorted(modalities)
    sets = [(m,) for m in names] + (list(combinations(names, 2)) if len(names) > 2 else [])
    return [Point(change, some) for change in WHOLE for some in sets]


def noise_points(example: dict[str, Any]) -> list[Point]:
    """White noise at each of ``SNRS``, for the modalities that can have it.

    ``example`` is one preprocessed example, without a batch axis.
    """
    return [Point("noise", (m,), snr) for m in _of_kinds(example, Noise.kinds) for snr in SNRS]


def missing_points(example: dict[str, Any]) -> list[Point]:
    """Each of ``SHARES`` above 0: the modality absent, or each of its steps where it has some."""
    whole = [("modality", m) for m in sorted(example["inputs"])]
    steps = [
        ("steps", m)
        for m in _of_kinds(example, DropFrames.kinds)
        if example["masks"][m].shape[0] > 1
    ]
    return [Point(name, (m,), p) for name, m in whole + steps for p in SHARES[1:]]


def _of_kinds(example: dict[str, Any], kinds: Sequence[str]) -> list[str]:
    inputs, masks = example["inputs"], example["masks"]
    return [m for m in sorted(inputs) if kind(inputs[m], masks[m]) in kinds]
