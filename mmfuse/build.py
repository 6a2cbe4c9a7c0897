"""From a row of the config and a dataset to a model, its costs, and its compiled programs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmfuse import cost, metrics
from mmfuse.ablation import Ablation, Row
from mmfuse.convolution import products
from mmfuse.data.loader import Dataset
from mmfuse.decoders import HEADS
from mmfuse.encoders import build_encoder
from mmfuse.errors import InputError, listed, nearest
from mmfuse.fusion import build_fusion, find_fusion
from mmfuse.model import FusionModel, modalities_read
from mmfuse.parallel import Compiled, Devices
from mmfuse.train import Program, TrainSettings, make_program, split_epoch


def build_model(row: Row, dataset: Dataset) -> FusionModel:
    """The model of a row; fields that depend on the data (vocabulary, outputs) are filled in."""
    encoders = {}
    for name in dataset.modalities:
        if name not in row.encoders:
            raise InputError(
                f"config.encoders has none for modality '{name}'{listed(row.encoders)}"
            )
        fields = dict(row.encoders[name])
        if hasattr(dataset.preprocessors[name], "vocab_size"):
            fields.setdefault("vocab_size", dataset.preprocessors[name].vocab_size)
        encoders[name] = build_encoder(fields.pop("name"), **fields)
    for name in row.encoders:
        if name not in dataset.modalities:
            raise InputError(
                f"config.encoders.{name}: the data has no such modality"
                f"{nearest(name, dataset.modalities)}{listed(dataset.modalities)}"
            )
    fields = dict(row.fusion)
    name = fields.pop("name")
    if "outputs" in (f.name for f in dataclasses.fields(find_fusion(name))):
        fields.setdefault("outputs", dataset.outputs)
    fusion = build_fusion(name, **fields)
    return FusionModel(encoders, fusion, HEADS[dataset.card["task"]](dataset.outputs))


@dataclasses.dataclass(frozen=True)
class Built:
    """A row ready to compile: its model, pure functions, and exact costs (abstract shapes only).

    ``parameters`` is the number of trained scalars, ``flops`` the floating-point operations of one
    forward pass of one example, ``activation_bytes`` what the backward pass of one example keeps.
    """

    row: Row
    model: nn.Module
    program: Program
    steps_per_epoch: int
    parameters: int
    flops: int
    activation_bytes: int
    reads: tuple[str, ...]

    @property
    def settings(self) -> TrainSettings:
        """The training settings of the row."""
        return self.row.train


def check_divisible(row: Row, devices: Devices) -> None:
    """Batches must be divisible by the devices."""
    for key in ("batch", "eval_batch"):
        size = getattr(row.train, key)
        if size % devices.count:
            raise InputError(
                f"config.train.{key} {size} (row '{row.name}') is not divisible by "
                f"{devices.count} devices"
            )


def _check_batch(row: Row, dataset: Dataset) -> None:
    if row.train.batch > dataset.sizes["train"]:
        raise InputError(
            f"config.train.batch {row.train.batch} (row '{row.name}') is larger than the "
            f"{dataset.sizes['train']} training examples"
        )


def build(row: Row, dataset: Dataset, devices: Devices, ablation: Ablation) -> Built:
    """Builds a row and counts its costs; a model that cannot be built is an InputError."""
    check_divisible(row, devices)
    _check_batch(row, dataset)
    task = dataset.card["task"]
    for where, metric in (("metric", ablation.metric), ("train.select", row.train.select)):
        if metrics.METRICS[metric][0] not in (task, "any"):
            raise InputError(f"config.{where} '{metric}' is not a metric of {task}")
    model = build_model(row, dataset)
    batch = dataset.batch("train", range(1))
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), batch)
    params = _init_shapes(model, shapes, row)

    def forward(params, inputs, masks):
        return model.apply({"params": params}, inputs, masks, train=False)[0]

    steps = -(-dataset.sizes["train"] // row.train.batch)
    return Built(
        row=row,
        model=model,
        program=make_program(model, task, row.train, steps),
        steps_per_epoch=steps,
        parameters=cost.count_parameters(params),
        flops=forward_flops(forward, params, shapes["inputs"], shapes["masks"]),
        activation_bytes=cost.activation_bytes(
            lambda p, i, m: jnp.sum(forward(p, i, m)), params, shapes["inputs"], shapes["masks"]
        ),
        reads=modalities_read(model.fusion, dataset.modalities),
    )


def forward_flops(forward: Callable, *args: Any) -> int:
    """FLOPs of the method itself: the CPU form of a convolution spends more, for speed."""
    with products(False):
        return cost.count_flops(forward, *args)


def _init_shapes(model: FusionModel, shapes: dict, row: Row) -> Any:
    """Parameter shapes; whatever fails while tracing is reported as this row's mistake."""
    key = jax.ShapeDtypeStruct((), jax.random.key(0).dtype)
    try:
        variables = jax.eval_shape(
            lambda k, i, m: model.init(k, i, m, train=False), key, shapes["inputs"], shapes["masks"]
        )
    except InputError as error:
        raise InputError(f"row '{row.name}': {error}") from error
    except Exception as error:
        line = " ".join(str(error).split())[:200]
        raise InputError(
            f"row '{row.name}' cannot be built: {type(error).__name__}: {line}"
        ) from error
    extra = sorted(set(variables) - {"params"})
    if extra:
        raise InputError(
            f"row '{row.name}' keeps state in {', '.join(extra)}; only parameters are allowed "
            "(no batch statistics inside a fusion)"
        )
    return variables["params"]


@dataclasses.dataclass(frozen=True)
class Executables:
    """The compiled programs of a row for a group of seeds: one each, however long it trains."""

    init: Compiled
    train: Compiled
    evaluate: Compiled
    order_shape: tuple[int, int, int]  # [steps, R, B] of the order that ``train`` takes

    @property
    def seconds(self) -> float:
        """Time spent tracing and compiling."""
        return self.init.seconds + self.train.seconds + self.evaluate.seconds


def compile_row(built: Built, dataset: Dataset, devices: Devices, seeds: tuple[int, ...]):
    """Compiles the programs of a row; returns them and the initial state of the seeds."""
    settings, program = built.settings, built.program
    seeds = np.array(seeds, np.uint32)
    example = dataset.batch("train", range(1))
    init = devices.compile(program.init, (seeds, example), (None, None))
    state = init(seeds, example)
    _, length = split_epoch(built.steps_per_epoch, settings.steps_per_dispatch)
    order = np.zeros((length, len(seeds), settings.batch), np.int32)
    data = dataset.train_arrays() or _repeated(example, order.size)
    train = devices.compile(
        program.train_chunk, (state, data, order, np.ones(length, bool)), (None, None, 2, None)
    )
    batch = _repeated(example, settings.eval_batch)
    batch["weight"] = np.ones(settings.eval_batch, np.float32)
    evaluate = devices.compile(program.evaluate, (state.params, batch), (None, 0))
    return Executables(init, train, evaluate, order.shape), state


def _repeated(example: dict, n: int) -> dict:
    return jax.tree.map(lambda x: np.repeat(x, n, axis=0), example)
