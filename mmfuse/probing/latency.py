"""Seconds of a forward pass, by batch size."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import jax
import numpy as np

from mmfuse.data.loader import Dataset
from mmfuse.model import model_inputs
from mmfuse.parallel import Devices
from mmfuse.restored import Finished

BATCHES = (1, 8, 32, 128, 512)
Clock = Callable[[], float]


def forward_calls(row: Finished, dataset: Dataset, devices: Devices) -> list[Callable[[], None]]:
    """A call for each of ``BATCHES``: the compiled forward pass of the first seed, to its end.

    Validation examples, repeated as often as needed, already lie on the device.
    """
    params = devices.replicate(jax.tree.map(lambda x: x[0], row.params))
    whole = dataset.batch("valid", np.arange(max(BATCHES)) % dataset.sizes["valid"])

    def forward(params, *inputs, axis_name):
        return row.built.model.apply({"params": params}, *inputs, train=False)[0]

    calls = []
    for size in BATCHES:
        args = (params, *jax.tree.map(lambda x, n=size: x[:n], model_inputs(whole)))
        program = devices.compile(forward, args, (None,) * len(args))
        placed = program.place(*args)
        calls.append(lambda f=program, x=placed: jax.block_until_ready(f.run(x)))
    return calls


def take_turns(
    calls: Sequence[Callable[[], object]], repeats: int, clock: Clock = time.perf_counter
) -> list[list[float]]:
    """Seconds of each call in each repeat; they take turns, so that all see the same machine.

    Before each timed call it is made once untimed: its time is not that of caches which another
    call has filled.
    """
    times = [[] for _ in calls]
    for _ in range(repeats):
        for call, seconds in zip(calls, times, strict=True):
            call()
            start = clock()
            call()
            seconds.append(clock() - start)
    return times
