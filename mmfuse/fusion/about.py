"""What a fusion's docstring tells, in parts: for lists and for the gallery."""

from __future__ import annotations

import dataclasses
import inspect
import re

import flax.linen as nn


@dataclasses.dataclass(frozen=True)
class About:
    """A method in words.

    Attributes:
      family: late, spatial, temporal or deep; for a plug-in, the name of its package.
      title: the first line of the docstring: the method and, in brackets, the paper.
      equation: the first literal of the docstring, on one line.
      text: the rest of the docstring.
      needs_time: whether it needs a time axis (the attribute ``needs_time`` of the class).
    """

    family: str
    title: str
    equation: str
    text: str
    needs_time: bool


def about(kind: type[nn.Module]) -> About:
    """Takes the docstring of a fusion apart; parts that it lacks are empty."""
    title, _, text = inspect.cleandoc(kind.__doc__ or "").partition("\n\n")
    equation = re.search(r"``(.+?)``", text, re.DOTALL)
    module = kind.__module__.split(".")
    return About(
        family=module[2] if module[:2] == ["mmfuse", "fusion"] else module[0],
        title=" ".join(title.split()),
        equation=" ".join(equation[1].split()) if equation else "",
        text=text,
        needs_time=bool(getattr(kind, "needs_time", False)),
    )
