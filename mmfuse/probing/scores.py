"""Scores of finished runs at many points, in one pass over the data."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np

from mmfuse.parallel import Compiled, Devices
from mmfuse.probing.points import CHANGES, Point
from mmfuse.restored import Finished
from mmfuse.tasks import Sums, Task
from mmfuse.transforms import Transform
from mmfuse.transforms.apply import EVALUATION, apply


class Changes:
    """What points do to a batch: one program for all strengths of a change, and for all rows.

    ``always`` are the evaluation transforms of the config: they come first, so their draws are
    those of the runs themselves. The key is that of every evaluation, and an example's draws depend
    on its place in the split alone: a curve can be drawn again, and is the same for every row.
    """

    def __init__(self, devices: Devices, always: tuple[Transform, ...]):
        self._devices, self._always = devices, always
        self._compiled: dict[Any, Compiled] = {}

    def __call__(self, point: Point, batch: dict) -> dict:
        """The batch (leaves [B, ...]) as it is at this point."""
        if not (self._always or point.modalities):
            return batch
        key = (CHANGES.get(point.change), point.modalities, len(batch["weight"]))
        args = (batch, np.float32(point.strength))
        if key not in self._compiled:

            def change(batch, strength, *, axis_name):
                transforms = (*self._always, *point.transforms(strength))
                key = jax.random.key(EVALUATION)
                return apply(transforms, key, batch, batch["index"], axis_name=axis_name)

            self._compiled[key] = self._devices.compile(change, args, (None, None))
        return self._compiled[key](*args)


def scores(
    row: Finished,
    points: Sequence[Point],
    batches: Iterable[dict],
    changes: Changes,
    devices: Devices,
) -> list[list[dict]]:
    """All metrics of each seed (inner) at each point (outer); the row compiles once."""
    program = dataclasses.replace(row.built.program, eval_transforms=())
    run, sums = None, [None] * len(points)
    for batch in batches:
        for place, point in enumerate(points):
            changed = changes(point, batch)
            if run is None:
                run = devices.compile(program.evaluate, (row.params, changed), (None, None))
                params = devices.replicate(row.params)
            found, _ = jax.device_get(run(params, changed))
            old = sums[place]
            sums[place] = found if old is None else jax.tree.map(np.add, old, found)
    return [finalised(program.task, total, len(row.seeds)) for total in sums]


def finalised(task: Task, sums: Sums, replicas: int) -> list[dict]:
    """The metrics of each replica from sums with a leading replica axis."""
    lanes = [jax.tree.map(lambda s, i=i: s[i], sums) for i in range(replicas)]
    return [task.finalise(lane) for lane in lanes]
