"""A finished model as three files that JAX alone can run, without this package.

``program.bin``  the forward pass, serialised by ``jax.export`` (StableHLO) and deflated by zlib
``weights.npz``  its parameters by name, as they are stored: int8 stays int8, factors stay factors
``about.json``   what goes in and out: shapes, preprocessing, what the numbers of the output mean

::

    program = jax.export.deserialize(bytearray(zlib.decompress(open("program.bin", "rb").read())))
    output = program.call(dict(np.load("weights.npz")), inputs, masks)

``inputs`` {modality: [B, ...]} and ``masks`` {modality: bool [B, T]} are preprocessed examples, of
any batch size B; a task that gives its head more has it as a third argument. The program runs on
CPUs, NVIDIA GPUs and TPUs.
"""

from __future__ import annotations

import io
import time
import zipfile
import zlib
from collections.abc import Callable
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
from mmfuse.record import dumps

PLATFORMS = ("cpu", "cuda", "tpu")
PROGRAM, WEIGHTS, ABOUT = "program.bin", "weights.npz", "about.json"
CALLS = 100  # of the measured latency


def forward(built: Built) -> Callable[..., jax.Array]:
    """The forward pass on stored parameters: ``(packed, inputs, masks, ...) -> output``."""

    def run(packed: Any, *inputs: Any) -> jax.Array:
        with in_parts():
            ready = forms.ready(packed)
            return built.model.apply({"params": ready}, *inputs, train=False)[0]

    return run


def packed(built: Built, params: Any) -> Any:
    """The parameters of one seed as they are stored."""
    return built.program.compression.packed(jax.tree.map(np.asarray, params))


def costs(built: Built, params: Any, example: dict) -> dict[str, Any]:
    """What the stored model costs, the same in every run: for the record.

    ``size_bytes`` of its stored parameters, ``sparsity``, the share of kernels' weights that are
    zero, and ``effective_flops`` of one example, without making stored parameters usable: these
    fall only where the model really computes less.
    """
    stored = packed(built, params)
    ready = jax.eval_shape(forms.ready, stored)
    run = forward(built)
    kernels = [x for x in jax.tree.leaves(params) if is_kernel(x)]
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
    return export.export(jax.jit(named), platforms=PLATFORMS)(weights, *inputs)


def files(built: Built, params: Any, dataset: Dataset, facts: dict[str, Any]) -> dict[str, bytes]:
    """The files of one seed's finished model by name; ``facts`` go into ``about.json`` too."""
    stored, example = packed(built, params), dataset.batch("train", range(1))
    content = bytes(program(built, stored, example).serialize())
    return {
        PROGRAM: zlib.compress(content, 9),
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
    """Deflated; equal arrays give equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, array, version=(1, 0), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content.getvalue())
    return buffer.getvalue()


def load(content: dict[str, bytes]) -> Callable[..., jax.Array]:
    """The model of the files: ``(inputs, masks, ...) -> output``, compiled for each batch size."""
    exported = export.deserialize(bytearray(zlib.decompress(content[PROGRAM])))
    with np.load(io.BytesIO(content[WEIGHTS]), allow_pickle=False) as archive:
        weights = jax.device_put({name: archive[name] for name in archive.files})
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
