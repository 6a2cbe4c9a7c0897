"""Layers whose kernels come in parts: `forms.Factors` and `forms.Columns` are used as they are.

Flax lets a function stand in for a module's call. So a model need not know that it was compressed:
``with in_parts(): model.apply({"params": parameters with forms}, ...)``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmfuse.compression.base import Path
from mmfuse.compression.forms import Columns, Factors
from mmfuse.convolution import conv2d, conv_relu_pool, max_pool
from mmfuse.encoders.pictures import ConvBlock, PlaceDense, pooled_rows
from mmfuse.model import FusionModel


def in_parts():
    """A context in which layers take kernels in parts."""
    return nn.intercept_methods(_stand_in)


def _stand_in(call: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
    layer = LAYERS.get(type(context.module)) if context.method_name == "__call__" else None
    if layer is None:
        return call(*args, **kwargs)
    params = context.module.variables.get("params", {})
    if not isinstance(params.get("kernel"), Factors | Columns):
        return call(*args, **kwargs)
    return layer(params["kernel"], params.get("bias"), *args, **kwargs)


def layer_paths(model: FusionModel, *inputs: Any) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """The paths of a model's layers, in the order of their first call, and of those that answer.

    These are the layers of the head, and where the fusion decides by itself, those of the fusion
    that are as wide as the output. Nothing is computed.
    """
    widths: dict[Path, int] = {}

    def note(call: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
        if type(context.module) in LAYERS and context.method_name == "__call__":
            widths[tuple(context.module.path)] = context.module.features
        return call(*args, **kwargs)

    def run(*x: Any) -> Any:
        return model.init_with_output(jax.random.key(0), *x, train=False)[0]

    with nn.intercept_methods(note):
        output, fused = jax.eval_shape(run, *inputs)
    width = output.shape[-1] if fused.decided else 0
    answers = [
        path
        for path in widths
        if path[0] == "head" or (path[0] == "fusion" and widths[path] == width)
    ]
    return tuple(widths), tuple(answers)


def _dense(kernel: Any, bias: Any, x: jax.Array) -> jax.Array:
    if isinstance(kernel, Factors):
        return _shifted((x @ kernel.left) @ kernel.right, bias)
    return _spread(_shifted(x @ kernel.kept, bias), kernel)


def _places(kernel: Any, bias: Any, x: jax.Array) -> jax.Array:
    product = "btsc,tscd->btsd"
    if isinstance(kernel, Factors):
        return _shifted(jnp.einsum(product, x, kernel.left) @ kernel.right, bias)
    return _spread(_shifted(jnp.einsum(product, x, kernel.kept), bias), kernel)


def _conv(kernel: Any, bias: Any, x: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    mask = pooled_rows(mask, x.shape[1] // 2)
    if isinstance(kernel, Columns):
        return _spread(conv_relu_pool(x, kernel.kept, bias, mask), kernel), mask
    y = max_pool(conv2d(x, kernel.left) @ kernel.right)
    return jnp.where(mask[:, :, None, None], jax.nn.relu(_shifted(y, bias)), 0), mask


LAYERS: dict[type[nn.Module], Callable] = {nn.Dense: _dense, PlaceDense: _places, ConvBlock: _conv}


def _shifted(y: jax.Array, bias: Any) -> jax.Array:
    return y if bias is None else y + bias.reshape((1,) * (y.ndim - 1) + bias.shape)


def _spread(y: jax.Array, kernel: Columns) -> jax.Array:
    """The outputs [..., k] of the kept channels at their places among all [..., O]."""
    zero = jnp.zeros((*y.shape[:-1], 1), y.dtype)
    whole = jnp.concatenate([y, zero], axis=-1)
    # Unsigned and promised places are taken as they are; others would be checked in every call.
    return whole.at[..., kernel.places.astype(jnp.uint32)].get(mode="promise_in_bounds")
