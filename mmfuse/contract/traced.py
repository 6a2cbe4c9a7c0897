"""The rules of the contract that need no numbers: shapes, dtypes, what a fusion keeps hidden."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmfuse.contract.subject import BATCH, Failure, Subject, Tree, raised
from mmfuse.fusion.base import Fused

TRACED = ("call", "jit", "shape", "dtype", "registered")


def check_trace(subject: Subject) -> list[Failure]:
    """The rules that need no numbers: it can be traced, shapes, dtypes, what it keeps to itself."""
    tokens, masks = subject.batch(0)
    params = subject.structure
    if subject.others:
        kept = ", ".join(subject.others)
        return [Failure("registered", f"keeps state in {kept}; only parameters are allowed")]
    messages = []
    for train in (True, False):
        try:
            fused = jax.eval_shape(
                lambda p, t, m, train=train: subject.apply(p, t, m, train=train),
                params, tokens, masks,
            )  # fmt: skip
        except Exception as error:
            return [raised("call", error, subject.fusion)]
        messages += _shape(fused, subject.fusion) if not messages else []
        if not train and not messages and fused.losses:
            messages.append("returns losses with train=False; only training has any")
    if messages:
        return [Failure("shape", message) for message in messages]
    return [
        *(Failure("dtype", message) for message in _dtype(subject, params, tokens, masks)),
        *(Failure("registered", message) for message in _registered(subject, params)),
    ]


def _shape(fused: Fused, fusion: nn.Module) -> Iterator[str]:
    """Tokens ``[B, T', S', D]``, a bool mask ``[B, T', S']``, dicts of weights and losses."""
    if not isinstance(fused, Fused):
        yield f"must return mmfuse.fusion.Fused, got {type(fused).__name__}"
        return
    shape = fused.tokens.shape
    if len(shape) != 4 or shape[0] != BATCH:
        yield (
            f"tokens must be [B, T', S', D] with B={BATCH}, got {shape}"
            "; one vector an example is x[:, None, None, :]"
        )
    elif fused.mask.shape != shape[:3] or fused.mask.dtype != bool:
        yield (f"mask must be bool of shape {shape[:3]}, got {fused.mask.dtype} {fused.mask.shape}")
    for name in ("weights", "losses"):
        if not isinstance(getattr(fused, name), dict):
            found = type(getattr(fused, name)).__name__
            yield f"{name} must be a dict of arrays, got {found}"
            return
    classes = getattr(fusion, "outputs", None)
    if fused.decided and len(shape) == 4 and (*shape[1:3], classes or shape[3]) != (1, 1, shape[3]):
        yield (
            "a fusion that has decided returns the scores of the classes as one token an example"
            f", [B, 1, 1, C] with C={classes or 'the classes'}, got {shape}"
        )
    for name, loss in fused.losses.items():
        by_label = loss.ndim == 2 and loss.shape[1] == (classes or loss.shape[1])
        if not (loss.ndim == 1 or by_label) or loss.shape[0] != BATCH:
            yield (
                f"losses['{name}'] must be [B] or, by label, [B, C] with B={BATCH}"
                f" and C={classes or 'the classes'}, got {loss.shape}; the trainer takes the mean"
            )


def _dtype(subject: Subject, params: dict, tokens: Tree, masks: Tree) -> Iterator[str]:
    for dtype in (jnp.float32, jnp.bfloat16):
        cast = {m: jax.ShapeDtypeStruct(x.shape, dtype) for m, x in tokens.items()}
        got = jax.eval_shape(subject.apply, params, cast, masks).tokens.dtype
        if got != dtype:
            yield (
                f"tokens go in as {jnp.dtype(dtype).name} and come out as {got.name}; give"
                " dtype=x.dtype to layers and numpy constants, or cast the result"
            )
    yield from _wide(subject, params, tokens, masks)


def _wide(subject: Subject, params: dict, tokens: Tree, masks: Tree) -> Iterator[str]:
    """What is float64 as soon as JAX allows it; otherwise it is cut to float32 without a word."""
    advice = "; give dtype=x.dtype to new arrays and numpy constants"
    try:
        with jax.enable_x64(True):
            fused = jax.eval_shape(subject.apply, params, tokens, masks)
    except Exception as error:
        cause = raised("dtype", error, subject.fusion).message
        yield f"fails where JAX allows float64 (jax_enable_x64): {cause}{advice}"
        return
    results = {"tokens": fused.tokens, "weights": fused.weights, "losses": fused.losses}
    wide = [name for name, tree in results.items() if jnp.float64 in _dtypes(tree)]
    if wide:
        yield f"{wide[0]} are float64 where JAX allows it (jax_enable_x64){advice}"


def _dtypes(tree: Any) -> list[Any]:
    return [leaf.dtype for leaf in jax.tree.leaves(tree)]


def _registered(subject: Subject, params: dict) -> Iterator[str]:
    """Everything trainable is a parameter: no other state, no hidden arrays, no hidden draws."""
    batch, evaluate = subject.batch(0), partial(subject.apply, train=False)
    for where in untracked_arrays(evaluate, params, *batch):
        yield f"the array in {where} is not a parameter and would never be trained; use self.param"
    drawn = random_primitives(jax.make_jaxpr(evaluate)(params, *batch).jaxpr)
    if drawn:
        yield f"draws random numbers with train=False ({drawn[0]}); weights belong in self.param"


def untracked_arrays(apply: Callable, *args: Any) -> list[str]:
    """``["Class.attribute"]`` of float arrays that the modules hold and that no parameter made."""
    found: dict[str, None] = {}

    def look(call: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
        result = call(*args, **kwargs)
        for name, value in vars(context.module).items():
            held = isinstance(value, list | tuple | Mapping | np.ndarray | jax.Array)
            if held and any(_is_constant(leaf) for leaf in jax.tree.leaves(value)):
                found[f"{type(context.module).__name__}.{name}"] = None
        return result

    def traced(*args: Any) -> Any:
        # What does not depend on the traced arguments is then computed, and so shows as a number.
        with nn.intercept_methods(look), jax.ensure_compile_time_eval():
            return apply(*args)

    jax.eval_shape(traced, *args)
    return list(found)


def _is_constant(leaf: Any) -> bool:
    array = isinstance(leaf, np.ndarray | jax.Array) and not isinstance(leaf, jax.core.Tracer)
    return array and leaf.ndim > 0 and jnp.issubdtype(leaf.dtype, jnp.floating)


def random_primitives(jaxpr: Any) -> list[str]:
    """The names of all random primitives in a jaxpr and in those nested in it."""
    found = []
    for eqn in jaxpr.eqns:
        if eqn.primitive.name.startswith(("random_", "threefry")):
            found.append(eqn.primitive.name)
        for inner in jax.tree.leaves(
            list(eqn.params.values()), is_leaf=lambda x: _inner(x) is not None
        ):
            if _inner(inner) is not None:
                found += random_primitives(_inner(inner))
    return found


def _inner(value: Any) -> Any:
    """The open jaxpr in a primitive's parameter, or None."""
    closed = getattr(value, "jaxpr", None)
    return closed if hasattr(closed, "eqns") else value if hasattr(value, "eqns") else None
