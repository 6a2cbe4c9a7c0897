"""A finished model as three files that JAX alone can run, without this package.

``program.xz``   the forward pass, serialised by ``jax.export`` (StableHLO)
``weights.npz``  its parameters by name, as they are stored: int8 stays int8, factors stay factors
``about.json``   what goes in and out: shapes, preprocessing, what the numbers of the output mean

::

    program = jax.export.deserialize(bytearray(lzma.open("program.xz").read()))
    stored = np.load("weights.npz")["weights"]
    weights = {name: stored[name] for name in stored.dtype.names}
    output = program.call(weights, inputs, masks)

``inputs`` {modality: [B, ...]} and ``masks`` {modality: bool [B, T]} are preprocessed examples, of
any batch size B; a task that gives its head more has it as a third argument. The program runs on
CPUs, NVIDIA GPUs and TPUs.
"""

from __future__ import annotations

import contextlib
import io
import lzma
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax import export

from mmfuse.build import Built, forward_flops
from mmfuse.compression import forms
from mmfuse.compression.base import is_kernel
from mmfuse.compression.layers import in_parts
from mmfuse.data.loader import Dataset
from mmfuse.model import model_inputs
from mmfuse.objectives.apply import PARAMS
from mmfuse.record import dumps

PLATFORMS = ("cpu", "cuda", "tpu")
PROGRAM, WEIGHTS, ABOUT = "program.xz", "weights.npz", "about.json"
CALLS = 100  # of the measured latency


def forward(built: Built) -> Callable[..., jax.Array]:
    """The forward pass on stored parameters: ``(packed, inputs, masks, ...) -> output``."""

    def run(packed: Any, *inputs: Any) -> jax.Array:
        with in_parts():
            ready = forms.ready(packed)
            return built.model.apply({"params": ready}, *inputs, train=False)[0]

    return run


def packed(built: Built, params: Any) -> Any:
    """The parameters of one seed's model as they are stored, without those of objectives."""
    model = {name: tree for name, tree in params.items() if name != PARAMS}
    return built.program.compression.packed(jax.tree.map(np.asarray, model))


def costs(built: Built, params: Any, example: dict) -> dict[str, Any]:
    """What the stored model costs, the same in every run: for the record.

    ``size_bytes`` of its stored parameters, ``sparsity``, the share of kernels' weights that are
    zero, and ``effective_flops`` of one example, without making stored parameters usable: these
    fall only where the model really computes less.
    """
    stored = packed(built, params)
    ready = jax.eval_shape(forms.ready, stored)
    run = forward(built)
    model = {name: tree for name, tree in params.items() if name != PARAMS}
    kernels = [x for x in jax.tree.leaves(model) if is_kernel(x)]
    return {
        "size_bytes": forms.stored_bytes(stored),
        "sparsity": float(sum(np.sum(x == 0) for x in kernels) / sum(x.size for x in kernels)),
        "effective_flops": forward_flops(run, ready, *model_inputs(example)),
    }


def program(built: Built, stored: Any, example: dict) -> export.Exported:
    """The exported forward pass, of any batch size; ``example`` is a batch of the data."""
    names, treedef = list(forms.stored(stored)), jax.tree.structure(stored)
    run = forward(built)

    def named(weights: dict[str, jax.Array], *inputs: Any) -> jax.Array:
        return run(jax.tree.unflatten(treedef, [weights[name] for name in names]), *inputs)

    (size,) = export.symbolic_shape("b")
    inputs = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype), model_inputs(example)
    )
    weights = {
        name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in forms.stored(stored).items()
    }
    with _nameless():
        return export.export(jax.jit(named), platforms=PLATFORMS)(weights, *inputs)


@contextlib.contextmanager
def _nameless() -> Iterator[None]:
    """Inside, no program says in which file and line of this machine it was written."""
    before = jax.config.jax_traceback_in_locations_limit
    jax.config.update("jax_traceback_in_locations_limit", 0)
    try:
        yield
    finally:
        jax.config.update("jax_traceback_in_locations_limit", before)


def files(built: Built, params: Any, dataset: Dataset, facts: dict[str, Any]) -> dict[str, bytes]:
    """The files of one seed's finished model by name; ``facts`` go into ``about.json`` too."""
    stored, example = packed(built, params), dataset.batch("train", range(1))
    content = bytes(program(built, stored, example).serialize())
    return {
        PROGRAM: lzma.compress(content),
        WEIGHTS: _npz(forms.stored(stored)),
        ABOUT: dumps(facts | _about(dataset, example)).encode(),
    }


def _about(dataset: Dataset, example: dict) -> dict[str, Any]:
    card = dataset.card
    shapes = jax.tree.map(lambda x: [str(x.dtype), *x.shape[1:]], model_inputs(example))
    return {
        "data": card["name"],
        "task": card["task"],
        "class_names": list(card.get("class_names", [])),
        "inputs": dict(zip(("inputs", "masks", "given"), shapes, strict=False)),
        "learned": {name: p.state() for name, p in dataset.preprocessors.items()},
    }


def _npz(arrays: dict[str, np.ndarray]) -> bytes:
    """One deflated array whose fields are the arrays: a file for each would cost 200 bytes more."""
    whole = np.zeros((), [(name, x.dtype, x.shape) for name, x in arrays.items()])
    for name, array in arrays.items():
        whole[name] = array
    buffer = io.BytesIO()
    np.savez_compressed(buffer, weights=whole)
    return buffer.getvalue()


def load(content: dict[str, bytes]) -> Callable[..., jax.Array]:
    """The model of the files: ``(inputs, masks, ...) -> output``, compiled for each batch size."""
    exported = export.deserialize(bytearray(lzma.decompress(content[PROGRAM])))
    with np.load(io.BytesIO(content[WEIGHTS]), allow_pickle=False) as archive:
        stored = archive["weights"]
    weights = jax.device_put({name: stored[name] for name in stored.dtype.names})
    call = jax.jit(exported.call)
    return lambda *inputs: call(weights, *inputs)


def latency(content: dict[str, bytes], dataset: Dataset) -> float:
    """Seconds of one call of the reloaded model on one example: the least of ``CALLS``."""
    run = load(content)
    inputs = jax.device_put(model_inputs(dataset.batch("valid", range(1))))
    times = []
    for _ in range(CALLS + 1):  # the first one compiles
        start = time.perf_counter()
        jax.block_until_ready(run(*inputs))
        times.append(time.perf_counter() - start)
    return min(times[1:])
