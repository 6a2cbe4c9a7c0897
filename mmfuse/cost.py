"""What a model costs, from abstract shapes alone: parameters, FLOPs, and stored activations.

FLOPs are counted from the jaxpr because XLA's own cost analysis counts the body of a scan once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core
from jax.interpreters import partial_eval

# fmt: off
# Primitives that only move, build or reinterpret data, or draw random bits: no FLOPs.
_FREE = frozenset(
    {
        "broadcast_in_dim", "broadcast_to", "reshape", "squeeze", "transpose", "rev",
        "concatenate", "split", "stack", "unstack", "tile", "pad", "slice", "gather",
        "dynamic_slice", "dynamic_update_slice", "scatter", "convert_element_type",
        "bitcast_convert_type", "reduce_precision", "copy", "stop_gradient",
        "optimization_barrier", "sharding_constraint", "layout_constraint", "reshard",
        "device_put", "name", "iota", "empty", "empty2", "real", "imag", "complex",
        "threefry2x32", "axis_index", "pvary", "pbroadcast", "all_gather", "all_to_all",
        "ppermute"
    }
)
# Of these, the ones that give their input in another form.
_VIEWS = frozenset({"reshape", "squeeze", "transpose", "convert_element_type", "copy"})
# Primitives with one operation per element of their (first) input.
_REDUCTIONS = frozenset(
    {
        "reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or",
        "reduce_xor", "reduce", "argmax", "argmin", "cumsum", "cumprod", "cummax", "cummin",
        "cumlogsumexp", "sort", "top_k", "psum", "psum_invariant", "pmax", "pmin"
    }
)
# Primitives whose cost is not one per element; there is no rule for them here.
_REFUSED = frozenset(
    {
        "cholesky", "eig", "eigh", "svd", "qr", "geqrf", "householder_product", "lu", "schur",
        "hessenberg", "tridiagonal_solve", "triangular_solve", "custom_linear_solve",
        "ragged_dot_general", "scaled_dot", "ffi_call", "pure_callback", "io_callback"
    }
)
# fmt: on


def count_parameters(tree: Any) -> int:
    """Number of scalars in a tree of arrays or ``ShapeDtypeStruct``."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def count_flops(fn: Callable, *args: Any) -> int:
    """FLOPs of ``fn(*args)``; the arguments may be ``ShapeDtypeStruct``, nothing is computed.

    Rules: a product [M, K] x [K, N] is 2 M N K, times its batch dimensions; a convolution is 2
    per output element and kernel tap that it meets, padding and dilation included; every other
    arithmetic operation, transcendental functions too, is 1 per output element; reductions and
    cumulative operations are 1 per input element, windowed ones 1 per element and window that
    meet; adding scatters 1 per update; an FFT of N complex numbers is 5 N log2 N, of N real ones
    half of that, as is usual. Moving data, converting types and drawing random bits are
    free. A scan is its body times its length, a ``cond`` the largest of its branches, and
    ``shard_map`` what one device does. What the result does not depend on is not counted.

    Convolutions count in the form they are traced in (``mmfuse.convolution``), so a figure to
    compare between machines is counted inside ``with products(False):``.

    Raises:
      ValueError: ``fn`` holds a ``while`` loop, whose number of turns is not known beforehand, or
        an operation without a rule (decompositions, calls out of XLA).
    """
    closed = jax.make_jaxpr(fn)(*args)
    jaxpr, _ = partial_eval.dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars))
    return _flops(jaxpr)


def activation_bytes(loss_fn: Callable, params: Any, *args: Any) -> int:
    """Bytes that the backward pass of ``loss_fn(params, *args)`` needs from the forward pass.

    The residuals of ``jax.vjp`` with respect to ``params``, each counted once, without the
    parameters and arguments themselves, in another shape or dtype neither: a reshaped kernel is no
    activation and does not grow with the batch. Arguments may be ``ShapeDtypeStruct``. XLA may keep
    less, by fusing or by computing again.
    """

    def residuals(params: Any, *args: Any) -> list[jax.Array]:
        return jax.tree.leaves(jax.vjp(lambda p: loss_fn(p, *args), params)[1])

    jaxpr = jax.make_jaxpr(residuals)(params, *args).jaxpr
    given = {*jaxpr.invars, *jaxpr.constvars}
    for equation in jaxpr.eqns:
        if equation.primitive.name in _VIEWS and equation.invars[0] in given:
            given.update(equation.outvars)
    kept = {var for var in jaxpr.outvars if not isinstance(var, core.Literal)} - given
    return sum(_size(var) * var.aval.dtype.itemsize for var in kept)


def _size(var: Any) -> int:
    return math.prod(var.aval.shape)


def _flops(jaxpr: core.Jaxpr) -> int:
    return sum(_equation_flops(equation) for equation in jaxpr.eqns)


def _equation_flops(equation: core.JaxprEqn) -> int:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        return _dot_flops(equation)
    if name == "conv_general_dilated":
        return _conv_flops(equation)
    if name == "fft":
        return _fft_flops(equation)
    if name == "scan":
        return params["length"] * _flops(params["jaxpr"].jaxpr)
    if name == "while":
        raise ValueError("count_flops: the number of turns of a while loop is unknown; use a scan")
    if name in _REFUSED:
        raise ValueError(f"count_flops: no rule for {name!r}")
    inner = [_flops(jaxpr) for jaxpr in _inner_jaxprs(params)]
    if name == "cond":
        return max(inner)
    if name in _REDUCTIONS:
        return _size(equation.invars[0])
    if "window_dimensions" in params:
        small = equation.outvars if name.startswith("reduce") else equation.invars
        return _size(small[0]) * math.prod(params["window_dimensions"])
    if name.startswith("scatter") and name != "scatter":
        return _size(equation.invars[2])
    if inner:
        return sum(inner)
    if name in _FREE or name.startswith("random_"):
        return 0
    return sum(_size(var) for var in equation.outvars)


def _inner_jaxprs(params: dict[str, Any]) -> Iterator[core.Jaxpr]:
    """The programs inside a call: jit, remat, custom derivatives, the branches of a cond."""
    for value in params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, core.ClosedJaxpr):
                yield item.jaxpr
            elif isinstance(item, core.Jaxpr):
                yield item


def _dot_flops(equation: core.JaxprEqn) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    return 2 * _size(equation.outvars[0]) * math.prod(left[axis] for axis in contracted)


def _conv_flops(equation: core.JaxprEqn) -> int:
    kernel = equation.invars[1].aval.shape
    features = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
    return 2 * _size(equation.outvars[0]) * math.prod(kernel) // features


def _fft_flops(equation: core.JaxprEqn) -> int:
    sides = [*equation.invars, *equation.outvars]
    real = [var for var in sides if not jnp.issubdtype(var.aval.dtype, jnp.complexfloating)]
    numbers = _size((real or sides)[0])  # of all transforms together
    length = math.prod(equation.params["fft_lengths"])
    return round((2.5 if real else 5) * numbers * math.log2(length))
