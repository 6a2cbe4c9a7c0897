"""The tasks by name. ``TASKS`` is the only list; the card of a dataset names its entry."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from mmfuse.data.judge import load_judge
from mmfuse.errors import InputError, listed, nearest
from mmfuse.tasks.base import AUXILIARY, Sums, Task
from mmfuse.tasks.choice import Matching, Pointing
from mmfuse.tasks.classification import Classification
from mmfuse.tasks.judged import RECOGNISED, Judged
from mmfuse.tasks.links import Links, Triples
from mmfuse.tasks.multilabel import Multilabel
from mmfuse.tasks.picture import PictureOf
from mmfuse.tasks.ranking import Ranking, Recommendation
from mmfuse.tasks.regression import Regression, Sentiment
from mmfuse.tasks.sequences import Sound, Words
from mmfuse.tasks.vector import Vector

TASKS: dict[str, type[Task]] = {
    "classification": Classification,
    "regression": Regression,
    "sentiment": Sentiment,
    "vector": Vector,
    "multilabel": Multilabel,
    "ranking": Ranking,
    "recommendation": Recommendation,
    "links": Links,
    "triples": Triples,
    "pointing": Pointing,
    "matching": Matching,
    "words": Words,
    "picture": PictureOf,
    "sound": Sound,
}
METRICS = {"loss": False, RECOGNISED: True}  # every metric: True where higher is better
for _task in TASKS.values():
    METRICS |= _task.metrics


def make_task(card: Mapping[str, Any], folder: str | os.PathLike = "") -> Task:
    """The task that a dataset's card names, with the sizes that the card holds.

    ``folder`` is that of the dataset: there lies the judge, where the card tells of one.

    Raises:
      InputError: there is no such task, or the card lacks one of its sizes.
    """
    name = card["task"]
    if name not in TASKS:
        raise InputError(f"unknown task '{name}' of a dataset{nearest(name, TASKS)}{listed(TASKS)}")
    fields = {field.name: field for field in dataclasses.fields(TASKS[name])}
    for field in fields.values():
        if field.default is dataclasses.MISSING and field.name not in card:
            raise InputError(
                f"a dataset with the task '{name}' must say '{field.name}' in its card"
            )
    task = TASKS[name](**{field: card[field] for field in fields if field in card})
    return Judged(task, load_judge(folder, card["judge"])) if "judge" in card else task


def measures(metric: str, task: Task) -> bool:
    """Whether the metric is one of this task."""
    return metric == "loss" or metric in task.metrics


__all__ = [
    "AUXILIARY", "METRICS", "TASKS", "Classification", "Regression", "Sums", "Task", "make_task",
    "measures",
]  # fmt: skip
