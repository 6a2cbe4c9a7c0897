"""The compiled programs of a row: made once, and taken over by later launches."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import logging
from typing import Any

import jax
import numpy as np

from mmfuse.build import Built
from mmfuse.convolution import products
from mmfuse.data.loader import STREAMED_BYTES, Dataset
from mmfuse.dispatches import split_epoch
from mmfuse.model import shipped
from mmfuse.parallel import Compiled, Devices, compiled_here
from mmfuse.processes import part
from mmfuse.store import Store, shapes_of
from mmfuse.train import TrainState


@dataclasses.dataclass(frozen=True)
class Executables:
    """The compiled programs of a row for a group of seeds: one each, however long it trains."""

    train: Compiled  # on (state, data, order, live)
    evaluate: Compiled
    compress: Compiled | None  # on the parameters; None where nothing is compressed
    order_shape: tuple[int, int, int]  # [steps, R, B] of the order that ``train`` takes here
    seconds: float  # spent tracing and compiling, or loading what was kept

    def measured(self, params: Any) -> Any:
        """The parameters [R, ...] that are evaluated and kept: compressed, if the row is."""
        return params if self.compress is None else self.compress(params)


def forget() -> None:
    """Frees the compiled programs that nobody holds any more.

    Each row leaves about a thousand memory mappings behind, and Linux gives a process 65,530: after
    some sixty rows of one ablation nothing could be compiled.
    """
    jax.clear_caches()
    gc.collect()


def steps_at_once(built: Built, dataset: Dataset, replicas: int) -> int:
    """How many steps a dispatch may have: no more than the memory for streamed examples allows."""
    limit, step = built.settings.steps_per_dispatch, built.settings.batch * replicas
    if dataset.resident:
        return limit
    return max(1, min(limit, STREAMED_BYTES // (step * dataset.example_bytes)))


def compile_row(
    built: Built, dataset: Dataset, devices: Devices, seeds: tuple[int, ...]
) -> tuple[Executables, TrainState]:
    """Compiles the programs of a row; returns them and the initial state of the seeds.

    What an earlier launch has kept of the same row is loaded instead.
    """
    settings = built.settings
    example = dataset.batch("train", range(1))
    _, length = split_epoch(built.steps_per_epoch, steps_at_once(built, dataset, len(seeds)))
    order = np.zeros((length, len(seeds), settings.batch // part()[1]), np.int32)
    data = dataset.train_arrays() or _streamed(example, order.shape)
    facts = _facts(built, devices) | {"seeds": seeds, "order": order.shape, "data": shapes_of(data)}
    own_code = shipped(built.model) and built.program.objectives.shipped
    store = devices.store if own_code else Store()
    kept = store.load(facts)
    if kept is not None:
        try:
            train, evaluate = (devices.revive(dumped) for dumped in kept["programs"])
        except Exception as error:  # The format is JAX's own, and it may refuse for any reason.
            logging.warning("a kept program cannot be loaded and is compiled again: %s", error)
        else:
            state = kept["state"]
            return _executables(train, evaluate, built, devices, order, state), state
    with compiled_here() if store.keeps else contextlib.nullcontext():
        made, state = _compile(built, devices, seeds, example, data, order, dataset.resident)
    if store.keeps:
        programs = [made.train.dump(), made.evaluate.dump()]
        store.save(facts, {"state": jax.device_get(state), "programs": programs})
    return made, state


def _compile(
    built: Built,
    devices: Devices,
    seeds,
    example: dict,
    data: dict,
    order: np.ndarray,
    resident: bool,
) -> tuple[Executables, TrainState]:
    settings, program = built.settings, built.program
    seeds = np.array(seeds, np.uint32)
    init = devices.compile(program.init, (seeds, example), (None, None))
    state = init(seeds, example)
    chunk, axis = (program.train_chunk, None) if resident else (program.train_batches, 2)
    train = devices.compile(
        chunk, (state, data, order, np.ones(len(order), bool)), (None, axis, 2, None)
    )
    size = settings.eval_batch // part()[1]
    batch = _repeated(example, size)
    batch["weight"] = np.ones(size, np.float32)
    batch["index"] = np.zeros(size, np.int32)
    evaluate = devices.compile(program.evaluate, (state.params, batch), (None, 0))
    return _executables(train, evaluate, built, devices, order, state, init.seconds), state


def _executables(
    train: Compiled,
    evaluate: Compiled,
    built: Built,
    devices: Devices,
    order: np.ndarray,
    state: TrainState,
    seconds: float = 0.0,
) -> Executables:
    """All programs of a row. What compresses is compiled in every launch.

    It calls LAPACK, and a program that does cannot be loaded again by another process.
    """
    compression, compress = built.program.compression, None
    if compression.active:
        compress = devices.compile(
            lambda params, axis_name: built.program.compressed(params), (state.params,), (None,)
        )
        seconds += compress.seconds
    seconds += train.seconds + evaluate.seconds
    return Executables(train, evaluate, compress, order.shape, seconds)


def _facts(built: Built, devices: Devices) -> dict:
    """What the programs of a row depend on, besides shapes and the code itself."""
    compression = built.program.compression
    return {
        "model": repr(built.model),
        "task": repr(built.program.task),
        "train": dataclasses.asdict(built.settings),
        "own": dict(built.program.own),
        "objectives": repr(built.program.objectives),
        "transforms": repr((built.program.train_transforms, built.program.eval_transforms)),
        "compression": repr(compression) if compression.trains else None,
        "teacher": list(built.program.teacher.sha256) if built.program.teacher else None,
        "steps_per_epoch": built.steps_per_epoch,
        "devices": [devices.mode, devices.kind, [device.id for device in devices.devices]],
        "products": products.value,
    }


def _repeated(example: dict, n: int) -> dict:
    return jax.tree.map(lambda x: np.repeat(x, n, axis=0), example)


def _streamed(example: dict, shape: tuple[int, ...]) -> dict:
    """The example at every place of an order of this shape."""
    return jax.tree.map(lambda x: np.broadcast_to(x[0], (*shape, *x.shape[1:])), example)
