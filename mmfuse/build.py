"""From a row of the config and a dataset to a model and its costs."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmfuse import cost
from mmfuse.ablation import Ablation, Row
from mmfuse.compression import Compression, Facts, build_compression
from mmfuse.compression.layers import layer_paths
from mmfuse.convolution import products
from mmfuse.data.loader import Dataset
from mmfuse.decoders import tie
from mmfuse.encoders import build_encoder
from mmfuse.errors import InputError, listed, nearest
from mmfuse.fusion import build_fusion, find_fusion
from mmfuse.model import FusionModel, modalities_read, model_inputs, shipped
from mmfuse.objectives import Objectives, build_objectives, check_fit
from mmfuse.objectives.apply import PARAMS, counted
from mmfuse.parallel import Devices
from mmfuse.settings import LAST, TrainSettings
from mmfuse.store import Store, shapes_of
from mmfuse.tasks import Classification, Task, measures
from mmfuse.train import Program, make_program
from mmfuse.transforms import LISTS, build_transforms, check_shapes


def build_model(row: Row, dataset: Dataset) -> FusionModel:
    """The model of a row; fields that depend on the data (vocabulary, outputs) are filled in."""
    encoders, head = {}, dataset.task.head(row.head)
    skip = row.head.get("skip")
    if skip and skip not in dataset.modalities:
        raise InputError(
            f"config.head.skip: the data has no modality '{skip}'"
            f"{nearest(skip, dataset.modalities)}{listed(dataset.modalities)}"
        )
    for name in row.modalities:
        if name not in dataset.modalities:
            raise InputError(
                f"config.rows['{row.name}'].modalities: the data has no '{name}'"
                f"{nearest(name, dataset.modalities)}{listed(dataset.modalities)}"
            )
    for name in row.modalities or dataset.modalities:
        if name not in row.encoders:
            raise InputError(
                f"config.encoders has none for modality '{name}'{listed(row.encoders)}"
            )
        known = _from_data(dataset.preprocessors[name])
        fields = known | row.encoders[name]
        if fields["name"] == "tied":
            fields["head"] = tie(head, fields["vocab_size"])
        _check_vocabulary(name, known.get("vocab_size"), fields.get("vocab_size"))
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
        fields.setdefault("outputs", dataset.task.decides)
    fusion = build_fusion(name, **fields)
    return FusionModel(encoders, fusion, head)


def _from_data(preprocessor: Any) -> dict[str, Any]:
    """The fields of an encoder that its preprocessor determines."""
    fields = {}
    if hasattr(preprocessor, "vocab_size"):
        fields["vocab_size"] = preprocessor.vocab_size
    vectors = getattr(preprocessor, "pretrained", None)
    if vectors is not None:
        fields |= {"vectors": vectors, "embed": vectors.values.shape[1]}
    return fields


def _check_vocabulary(modality: str, needed: int | None, given: int | None) -> None:
    """An id beyond the table would be NaN: no encoder may have fewer rows than there are ids."""
    if needed is not None and given < needed:
        raise InputError(
            f"config.encoders.{modality}.vocab_size {given} is less than the {needed} ids of the "
            "vocabulary; leave it out"
        )


@dataclasses.dataclass(frozen=True)
class Built:
    """A row ready to compile: its model, pure functions, and exact costs (abstract shapes only).

    ``parameters`` is the number of trained scalars, ``objective_parameters`` those among them that
    only the objectives have and evaluation does not use, ``flops`` the floating-point operations of
    one forward pass of one example, ``activation_bytes`` what its backward pass keeps.
    """

    row: Row
    model: nn.Module
    program: Program
    steps_per_epoch: int
    parameters: int
    flops: int
    activation_bytes: int
    reads: tuple[str, ...]
    objective_parameters: int = 0

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


def build(
    row: Row,
    dataset: Dataset,
    devices: Devices,
    ablation: Ablation,
    own: Mapping[str, tuple[float, ...]] | None = None,
) -> Built:
    """Builds a row and counts its costs; a model that cannot be built is an InputError.

    ``own`` are settings that differ between the replicas, as ``make_program`` takes them.
    """
    check_divisible(row, devices)
    _check_batch(row, dataset)
    task = dataset.task
    for where, metric in (("metric", ablation.metric), ("train.select", row.train.select)):
        if metric != LAST and not measures(metric, task):
            raise InputError(f"config.{where} '{metric}' is not a metric of {dataset.card['task']}")
    model = build_model(row, dataset)
    batch = dataset.batch("train", range(1))
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), batch)
    transforms = {which: build_transforms(ablation.data, which) for which in LISTS}
    for which, those in transforms.items():
        check_shapes(those, shapes, which)
    steps = -(-dataset.sizes["train"] // row.train.batch)
    with _mistakes_of(row):
        reads = modalities_read(model.fusion, tuple(model.encoders))
    objectives = build_objectives(row.objectives, f"row '{row.name}'", steps)
    transforms["train_transforms"] += objectives.transforms(reads)
    check_fit(objectives, f"row '{row.name}'", reads, transforms["train_transforms"])
    facts = {"model": repr(model), "products": products.value, "shapes": shapes_of(shapes)}
    facts |= {"objectives": repr(objectives), "task": repr(task)} if objectives else {}
    store = devices.store if shipped(model) and objectives.shipped else Store()
    costs = store.cached(facts, lambda: _costs(model, shapes, row, task, objectives))
    rest = {
        "objectives": objectives,
        "compression": _compression(row, model, dataset, shapes, row.train.epochs * steps),
    }
    return Built(
        row=row,
        model=model,
        program=make_program(model, task, row.train, steps, own, **rest, **transforms),
        steps_per_epoch=steps,
        reads=reads,
        **costs,
    )


def _compression(
    row: Row, model: FusionModel, dataset: Dataset, shapes: dict, steps: int
) -> Compression:
    """How the row is compressed, with what that must know of its model."""
    where = f"config.rows['{row.name}']"
    compression = build_compression(row.compression, where, Facts(steps))
    if compression.taught and not isinstance(dataset.task, Classification):
        raise InputError(
            f"{where}.compression: a teacher's answers are classes; this task is "
            f"{dataset.card['task']}"
        )
    if not compression.of_layers:
        return compression
    facts = Facts(steps, *layer_paths(model, *model_inputs(shapes)))
    return build_compression(row.compression, where, facts)


def state_bytes(built: Built, replicas: int) -> int:
    """Bytes of parameters, their best copy, gradients and the optimiser's state (float32)."""
    moments = 1 if built.settings.optimizer == "sgd" else 2
    return 4 * built.parameters * (3 + moments) * replicas


def check_memory(built: Built, devices: Devices, replicas: int) -> None:
    """Refuses a row whose state and kept activations are more than a device holds."""
    shards = devices.count if devices.devices[0].platform != "cpu" else 1  # simulated ones share
    state = state_bytes(built, replicas)
    kept = built.activation_bytes * built.settings.batch * replicas // shards
    if state + kept > devices.memory_bytes:
        raise InputError(
            f"row '{built.row.name}' needs {_gigabytes(state + kept)} to train {replicas} seeds at "
            f"once with batch {built.settings.batch} ({_gigabytes(kept)} of it activations), but "
            f"the device has {_gigabytes(devices.memory_bytes)}; make the fusion narrower, or lower"
            " config.train.batch or config.parallel.replicas"
        )


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"


def _costs(
    model: FusionModel, shapes: dict, row: Row, task: Task, objectives: Objectives
) -> dict[str, int]:
    params, inputs = _init_shapes(model, shapes, row), model_inputs(shapes)
    key, batch = jax.random.key(0), counted(shapes)
    whole, kept = params, {}
    if objectives:
        with _mistakes_of(row):
            whole, kept, _ = jax.eval_shape(
                lambda p, b: objectives.init(model, task, p, b, key), params, batch
            )

    def forward(params, *inputs):
        return model.apply({"params": params}, *inputs, train=False)[0]

    def trained(params, kept, batch):  # the losses and the dropout of training keep values too
        output, losses, _ = objectives.forward(model, task, params, kept, batch, batch, key)
        return sum(map(jnp.sum, losses.values()), jnp.sum(output))

    return {
        "parameters": cost.count_parameters(whole),
        "objective_parameters": cost.count_parameters(whole.get(PARAMS, {})),
        "flops": forward_flops(forward, params, *inputs),
        "activation_bytes": cost.activation_bytes(trained, whole, kept, batch),
    }


def forward_flops(forward: Callable, *args: Any) -> int:
    """FLOPs of the method itself: the CPU form of a convolution spends more, for speed."""
    with products(False):
        return cost.count_flops(forward, *args)


@contextlib.contextmanager
def _mistakes_of(row: Row) -> Iterator[None]:
    """Whatever fails while tracing is reported as this row's mistake."""
    try:
        yield
    except InputError as error:
        raise InputError(f"row '{row.name}': {error}") from error
    except Exception as error:
        line = " ".join(str(error).split())[:200]
        raise InputError(
            f"row '{row.name}' cannot be built: {type(error).__name__}: {line}"
        ) from error


def _init_shapes(model: FusionModel, shapes: dict, row: Row) -> Any:
    """The shapes of the model's parameters."""
    key = jax.ShapeDtypeStruct((), jax.random.key(0).dtype)
    with _mistakes_of(row):
        variables = jax.eval_shape(
            lambda k, *i: model.init(k, *i, train=False), key, *model_inputs(shapes)
        )
    extra = sorted(set(variables) - {"params"})
    if extra:
        raise InputError(
            f"row '{row.name}' keeps state in {', '.join(extra)}; only parameters are allowed "
            "(no batch statistics inside a fusion)"
        )
    return variables["params"]
