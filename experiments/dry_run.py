"""What an ablation would cost: exact counts from shapes, and time from a few real steps."""

from __future__ import annotations

import time

import jax
import numpy as np

from mmfuse.ablation import Ablation
from mmfuse.build import Built, state_bytes
from mmfuse.cells import count
from mmfuse.cells import flops as quantity
from mmfuse.data.loader import Dataset
from mmfuse.parallel import Devices
from mmfuse.programs import compile_row
from mmfuse.teaching import with_blank_teacher


def data_bytes(dataset: Dataset) -> int:
    """Bytes of the training split when it is resident, else 0."""
    arrays = dataset.train_arrays()
    return 0 if arrays is None else sum(leaf.nbytes for leaf in jax.tree.leaves(arrays))


def expected_seconds(
    built: Built, dataset: Dataset, devices: Devices, seeds: tuple[int, ...]
) -> tuple[float, float]:
    """(compile seconds, training seconds) of one group of seeds, from timed steps on this machine.

    One dispatch is run twice: the first one warms up, the second is timed and scaled to the
    training budget. Evaluation is left out.
    """
    executables, state = compile_row(built, dataset, devices, seeds)
    shape = executables.order_shape
    rng = np.random.default_rng(0)
    order = rng.integers(dataset.sizes["train"], size=shape).astype(np.int32)
    data = dataset.train_arrays() or next(dataset.stream([order]))
    live = np.arange(shape[0]) < min(shape[0], 10)
    for _ in range(2):
        start = time.perf_counter()
        jax.block_until_ready(executables.train(state, data, order, live))
        seconds = (time.perf_counter() - start) / live.sum()
    return executables.seconds, seconds * built.steps_per_epoch * built.settings.epochs


def print_costs(ablation: Ablation, built: list[Built], dataset: Dataset, devices: Devices) -> int:
    """Prints one line per row, and the total time; writes nothing."""
    groups = ablation.groups()
    print(f"{len(built)} rows x {len(ablation.seeds)} seeds on {devices.count} x {devices.kind}, "
          f"training data {quantity(data_bytes(dataset))}B")  # fmt: skip
    print(f"{'row':28} {'parameters':>10} {'FLOPs':>8} {'memory':>9} {'compile':>8} {'train':>8}")
    total = 0.0
    for row in built:
        seeds = groups[0]
        memory = state_bytes(row, len(seeds))
        memory += row.activation_bytes * row.settings.batch * len(seeds)
        trained = with_blank_teacher(row, seeds, dataset, ablation)
        compiling, training = expected_seconds(trained, dataset, devices, seeds)
        total += compiling + training * len(groups)
        print(
            f"{row.row.name:28} {count(row.parameters):>10} {quantity(row.flops):>8} "
            f"{quantity(memory) + 'B':>9} {compiling:6.1f} s {training * len(groups):6.1f} s"
        )
    print(f"expected: {total:.0f} s, evaluation aside; memory: state and kept activations of one "
          "group of seeds")  # fmt: skip
    return 0
