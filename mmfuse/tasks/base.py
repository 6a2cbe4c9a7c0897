"""What a task is: labels, a head, a loss, and metrics, over the same ``encoders -> fusion``.

Metrics are sums: every batch adds to them, they are merged by addition and divided once.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmfuse.decoders.fields import check_field
from mmfuse.errors import InputError, RowError, listed, nearest

Sums = dict[str, jax.Array]
Columns = Mapping[str, list]  # of the dataset, one value an example
AUXILIARY = "auxiliary/"  # Prefix of the sums, and means, of a fusion's auxiliary losses.


@dataclasses.dataclass(frozen=True)
class Task(abc.ABC):
    """The base of all. Fields are keys of a dataset's card, which has ``task``, the task's name.

    A label is an array, or a tree of arrays, with a leading example axis B; all methods get it
    whole. ``weight`` [B] is 0 for padding.
    """

    metrics: ClassVar[dict[str, bool]]  # {name: True where higher is better}
    heads: ClassVar[dict[str, type[nn.Module]]]  # by name; the first is the default

    @property
    def decides(self) -> int:
        """Between how many classes a fusion may decide by itself (late fusion); 1 means none."""
        return 1

    @abc.abstractmethod
    def sizes(self) -> dict[str, Any]:
        """The fields of the head that the task determines."""

    @abc.abstractmethod
    def labels(self, columns: Columns) -> Any:
        """The labels, numpy. Raises a RowError for one that is out of range."""

    def given(self, columns: Columns) -> Any:
        """What the head is given besides the fused tokens: a tree of numpy arrays, or None."""
        del columns

    @abc.abstractmethod
    def loss(self, output: jax.Array, label: Any, *, smoothing: float = 0.0) -> jax.Array:
        """The loss of each example, [B]; ``smoothing`` of labels, where that has a meaning."""

    @abc.abstractmethod
    def sums(self, output: jax.Array, label: Any, weight: jax.Array) -> Sums:
        """What the metrics need, summed over examples; ``loss`` and ``count`` are added to it."""

    @abc.abstractmethod
    def scores(self, sums: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """All ``metrics`` from the sums of one replica, None where one is undefined; and more."""

    def kept_output(self, output: jax.Array, label: Any) -> Any:
        """What a finished run keeps of the output for each test example, leaves [B, ...].

        Where it is a dict, an entry with the name of a metric is that metric of each example, whose
        mean is that of the split: tables compare rows by it.
        """
        del label
        return output

    def kept_label(self, label: Any) -> Any:
        """What it keeps of the labels."""
        return label

    def rendered(self, output: jax.Array) -> jax.Array:
        """What the output shows, in the unit of the labels."""
        return output

    def head(self, fields: Mapping[str, Any]) -> nn.Module:
        """The head with these fields of ``config.head``, among them its ``name`` (or the default).

        Raises:
          InputError: no such head for this task, no such field, or a value out of its range.
        """
        fields = dict(fields)
        name, sizes = fields.pop("name", next(iter(self.heads))), self.sizes()
        if name not in self.heads:
            raise InputError(
                f"config.head.name: this task has no head '{name}'"
                f"{nearest(name, self.heads)}{listed(self.heads)}"
            )
        declared = [field.name for field in dataclasses.fields(self.heads[name])]
        allowed = [field for field in declared if field not in ("parent", "name", *sizes)]
        for field, value in fields.items():
            if field not in allowed:
                raise InputError(
                    f"config.head: '{name}' has no field '{field}' to be set"
                    f"{nearest(field, allowed)}{listed(allowed)}"
                )
            check_field(field, value)
        return self.heads[name](**sizes, **fields)

    def finalise(self, sums: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """All metrics of one replica from its summed ``loss``, ``count``, task and other sums."""
        count = float(sums["count"])
        metrics = {
            name: float(value) / count
            for name, value in sums.items()
            if name == "loss" or name.startswith(AUXILIARY)
        }
        return metrics | self.scores(sums)


def finite(columns: Columns, name: str = "label") -> np.ndarray:
    """A column of numbers, or of arrays of one shape, as float32; a RowError for NaN or Inf."""
    values = np.array(columns[name], np.float32)
    bad = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if bad.any():
        row = int(np.argmax(bad))
        raise RowError(row, f"{values[row]} is not finite" if values.ndim == 1 else "NaN or Inf")
    return values


def whole_numbers(columns: Columns, limit: int, name: str = "label", low: int = 0) -> np.ndarray:
    """A column of numbers, or arrays of one shape, as int32; a RowError beyond low..limit - 1."""
    values = np.array(columns[name])
    wrong = ((values < low) | (values >= limit)).reshape(len(values), -1)
    if wrong.any():
        row = int(np.argmax(wrong.any(axis=1)))
        value = values.reshape(len(values), -1)[row, int(np.argmax(wrong[row]))]
        raise RowError(row, f"{value} is outside {low}..{limit - 1}")
    return values.astype(np.int32)


def mean_where(x: jax.Array, mask: jax.Array) -> jax.Array:
    """The mean of ``x`` [B, N] over what ``mask`` [B, N] marks, [B]; 0 where that is nothing."""
    return jnp.sum(jnp.where(mask, x, 0), axis=-1) / jnp.maximum(jnp.sum(mask, axis=-1), 1)


def masked(columns: Columns, shape: tuple[int, ...], masked_by: tuple[int, ...]) -> dict:
    """``{"value", "mask"}`` of the columns ``label`` and ``label_mask``; undefined values are 0."""
    mask = np.array(columns["label_mask"], bool)
    for name, found, wanted in (
        ("label", np.shape(columns["label"][0]), shape),
        ("label_mask", mask.shape[1:], masked_by),
    ):
        if tuple(found) != tuple(wanted):
            raise RowError(0, f"{name} has shape {tuple(found)}, but the card says {tuple(wanted)}")
    spread = mask.reshape(*mask.shape, *[1] * (len(shape) - len(masked_by)))
    value = finite({"label": np.where(spread, np.array(columns["label"], np.float32), 0)})
    return {"value": value, "mask": mask}
