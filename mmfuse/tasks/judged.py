"""A generating task whose output is also read by the dataset's judge."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmfuse.data.judge import Judge
from mmfuse.tasks.base import Columns, Sums, Task, whole_numbers

RECOGNISED = "recognised"


@dataclasses.dataclass(frozen=True)
class Judged(Task):
    """``task``, and the share of its outputs that ``judge`` reads as the class they should show.

    That class is the column ``label_class``; a label is ``{"target": that of the task, "class"}``.
    The loss is the task's: the judge has no part in it. It has one in the choice of the epoch where
    ``config.train.select`` is ``recognised``. Heads that are given the true beginning of what
    they make are not allowed, as they need not know the class.
    """

    task: Task
    judge: Judge

    @property
    def metrics(self) -> dict[str, bool]:
        """Those of the task, and ``recognised``."""
        return self.task.metrics | {RECOGNISED: True}

    @property
    def heads(self) -> dict[str, type[nn.Module]]:
        """Those of the task that generate without help."""
        found = self.task.heads.items()
        return {name: head for name, head in found if not getattr(head, "feedback", False)}

    def sizes(self) -> dict:
        return self.task.sizes()

    def labels(self, columns: Columns) -> dict[str, Any]:
        shown = whole_numbers(columns, self.judge.classes, "label_class")
        return {"target": self.task.labels(columns), "class": shown}

    def given(self, columns: Columns) -> Any:
        return self.task.given(columns)

    def loss(self, output: jax.Array, label: dict, *, smoothing: float = 0.0) -> jax.Array:
        return self.task.loss(output, label["target"], smoothing=smoothing)

    def sums(self, output: jax.Array, label: dict, weight: jax.Array) -> Sums:
        """Those of the task, and of outputs that are read right."""
        sums = self.task.sums(output, label["target"], weight)
        return sums | {RECOGNISED: weight @ self._recognised(output, label)}

    def scores(self, sums: Mapping[str, np.ndarray]) -> dict:
        """Those of the task, and the share that is read right."""
        share = float(sums[RECOGNISED]) / float(sums["count"])
        return self.task.scores(sums) | {RECOGNISED: share}

    def kept_output(self, output: jax.Array, label: dict) -> dict[str, jax.Array]:
        """What the task keeps, and whether each example is read right."""
        kept = self.task.kept_output(output, label["target"])
        return kept | {RECOGNISED: self._recognised(output, label)}

    def kept_label(self, label: dict) -> Any:
        return self.task.kept_label(label["target"])

    def rendered(self, output: jax.Array) -> jax.Array:
        return self.task.rendered(output)

    def _recognised(self, output: jax.Array, label: dict) -> jax.Array:
        return (self.judge(self.rendered(output)) == label["class"]).astype(jnp.float32)
