"""The contract kit: what every fusion, shipped or plugged in, has to satisfy (``check_fusion``)."""

from __future__ import annotations

import dataclasses

import flax.linen as nn

from mmfuse.contract.computed import COMPUTED
from mmfuse.contract.subject import Failure, Subject, raised
from mmfuse.contract.traced import TRACED, check_trace

__all__ = ["CHECKS", "Failure", "Report", "check_fusion", "examine"]

CHECKS = (*TRACED, *COMPUTED)


@dataclasses.dataclass(frozen=True)
class Report:
    """What the kit found: failures, the names of the checks that passed, and a parameter count."""

    failures: list[Failure]
    passed: list[str]
    parameters: int


def check_fusion(
    fusion: nn.Module, *, modalities: int | tuple[str, ...] = 3, seed: int = 0
) -> list[Failure]:
    """Runs the contract kit on one fusion; an empty list means that it may be used in a table.

    Args:
      fusion: the module, with its fields filled in.
      modalities: how many modalities to try it with, or their names.
      seed: of the parameters and the small random batch.

    Returns:
      The failures, one per broken rule. The checks that only trace (``TRACED``) come first; if one
      of them fails, those that compute (``COMPUTED``) are not run.
    """
    return examine(fusion, modalities=modalities, seed=seed).failures


def examine(fusion: nn.Module, *, modalities: int | tuple[str, ...] = 3, seed: int = 0) -> Report:
    """As ``check_fusion``, with the checks that passed and the number of parameters."""
    failures: list[Failure] = []
    try:
        subject = Subject(fusion, modalities, seed)
        failures += check_trace(subject)
    except Exception as error:  # The fusion's own code runs here and may raise anything.
        return Report([raised("call", error, fusion)], [], 0)
    if not failures:
        for name in COMPUTED:
            try:
                failures += [Failure(name, message) for message in COMPUTED[name](subject)]
            except Exception as error:
                failures.append(raised(name, error, fusion))
    broken = {failure.check for failure in failures}
    traced = next((i for i, name in enumerate(TRACED) if name in broken), len(CHECKS))
    passed = [name for name in CHECKS[:traced] if name not in broken]
    return Report(failures, passed, subject.count)
