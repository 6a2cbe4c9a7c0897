"""The rules of the contract that are tried on numbers: a small batch, changed in one way a time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import jax
import numpy as np

from mmfuse.contract.subject import BATCH, Subject, raised
from mmfuse.fusion.base import Fused

DRAWS, TOLERANCE = 3, 1e-5


def check_gradient(subject: Subject) -> Iterator[str]:
    """Every parameter gets a finite gradient that is not zero in each of a few draws."""
    unused: set[str] = set()
    for draw in range(DRAWS):
        _, (grads, _) = subject.run(subject.params(draw), *subject.batch(draw))
        leaves = {_path(p): x for p, x in jax.tree_util.tree_leaves_with_path(grads)}
        broken = [path for path, g in leaves.items() if not np.isfinite(g).all()]
        if broken:
            yield f"the gradient of {broken[0]} is not finite on a generic batch"
            return
        zero = {path for path, g in leaves.items() if not np.any(g)}
        unused = zero if draw == 0 else unused & zero
        if not unused:
            return
    for path in sorted(unused):
        yield f"the gradient of {path} is zero in {DRAWS} draws: it is unused and never trained"


def _path(path: tuple) -> str:
    return "/".join(str(part.key) for part in path)


def check_mask(subject: Subject) -> Iterator[str]:
    """What stands at masked positions changes no bit of the output or of any gradient."""
    params, (tokens, masks) = subject.params(), subject.batch(0)
    noisy, _ = subject.batch(0, fill=30.0)
    clean = subject.run(params, tokens, masks)
    for m in tokens:
        other = subject.run(params, {**tokens, m: noisy[m]}, masks)
        yield from _influence(clean, other, m, masks[m], "masked tokens of")
        yield from _attended(clean[0], m, masks[m], "masked tokens of")


def check_absent(subject: Subject) -> Iterator[str]:
    """An absent modality, or all of them, gives finite results and is given no weight."""
    params, (tokens, masks) = subject.params(), subject.batch(0)
    rng = np.random.default_rng(subject.seed)
    for m in tokens:
        gone = {**masks, m: np.zeros_like(masks[m])}
        noise = 30 * rng.standard_normal(tokens[m].shape, np.float32)
        clean = subject.run(params, {**tokens, m: np.zeros_like(tokens[m])}, gone)
        other = subject.run(params, {**tokens, m: noise}, gone)
        finite = list(_finite(clean, f"'{m}' is absent"))
        yield from finite or _influence(clean, other, m, gone[m], "the absent modality")
        yield from _attended(clean[0], m, gone[m], "the absent modality")
    nothing = jax.tree.map(np.zeros_like, (tokens, masks))
    yield from _finite(subject.run(params, *nothing), "all modalities are absent")


def _finite(result: tuple, when: str) -> Iterator[str]:
    fused, grads = result
    results = {"output": fused.tokens, "gradient": grads}
    for what, tree in (results | {"weights": fused.weights, "loss": fused.losses}).items():
        if not all(np.isfinite(x).all() for x in jax.tree.leaves(tree)):
            yield (
                f"the {what} is not finite when {when}; a mean over nothing needs max(count, 1)"
                ", a softmax over nothing jax.nn.softmax(x, where=mask)"
            )
            return


def _influence(clean: tuple, other: tuple, m: str, mask: np.ndarray, what: str) -> Iterator[str]:
    """Compares two results that may differ only in what stands where ``mask`` is False."""
    (fused, (g_params, g_tokens)), (fused2, (g_params2, g_tokens2)) = clean, other
    change = max(_change(fused, fused2), _loss_change(fused, fused2))
    hidden = [np.where(mask[..., None], 0, g[m]) for g in (g_tokens, g_tokens2)]
    leak = float(np.abs(hidden).max())
    pairs = zip(jax.tree.leaves(g_params), jax.tree.leaves(g_params2), strict=True)
    if change:
        yield f"{what} '{m}' change the output by {change:.2g}, expected 0; leave them out by masks"
    elif leak:
        yield f"{what} '{m}' get a gradient of {leak:.2g}, expected exactly 0"
    elif any(np.any(a != b) for a, b in pairs):
        yield f"{what} '{m}' change the gradient of the parameters; leave them out by masks"


def _change(a: Fused, b: Fused, rows: slice = slice(None)) -> float:
    """The largest difference between two results over the tokens that count; inf if masks differ.

    NaN counts as a difference.
    """
    if np.any(a.mask[rows] != b.mask[rows]):
        return float("inf")
    gap = np.where(a.mask[..., None], np.abs(a.tokens - b.tokens), 0)[rows]
    return float(np.where(np.isnan(gap), np.inf, gap).max(initial=0))


def _loss_change(a: Fused, b: Fused) -> float:
    """The largest difference between the auxiliary losses of two results; inf with NaN."""
    gaps = [np.abs(a.losses[name] - b.losses[name]).max() for name in a.losses]
    return float(max((np.inf if np.isnan(gap) else gap for gap in gaps), default=0.0))


def _attended(fused: Fused, m: str, mask: np.ndarray, what: str) -> Iterator[str]:
    """Maps named ``q<-m`` and gates named ``m`` must be zero over what is masked."""
    flat = mask.reshape(BATCH, -1)
    for name, a in fused.weights.items():
        if name == m and not np.any(mask) and np.any(a):
            yield f"weights['{name}'] gives {float(np.abs(a).max()):.2g} to {what} '{m}', not 0"
        if name.rpartition("<-")[1:] == ("<-", m) and a.shape[-1] == flat.shape[1]:
            on_masked = np.where(flat.reshape(BATCH, *[1] * (a.ndim - 2), -1), 0, a)
            if np.any(on_masked):
                high = float(np.abs(on_masked).max())
                yield f"weights['{name}'] gives {high:.2g} to {what} '{m}', expected exactly 0"


def check_batch(subject: Subject) -> Iterator[str]:
    """Another first example leaves the results of the others as they were."""
    params, (tokens, masks) = subject.params(), subject.batch(0)
    changed = {m: np.concatenate([3 * x[:1] + 1, x[1:]]) for m, x in tokens.items()}
    fewer = {m: np.concatenate([~x[:1], x[1:]]) for m, x in masks.items()}
    a, b = subject.run(params, tokens, masks)[0], subject.run(params, changed, fewer)[0]
    change = _change(a, b, slice(1, None))
    if change > TOLERANCE:
        yield f"changing example 0 changes the others by {change:.2g}: no statistics over the batch"


def check_repeat(subject: Subject) -> Iterator[str]:
    """Same key, same bits: run twice, and traced twice."""
    params, batch = subject.params(), subject.batch(0)
    pairs = zip(*(jax.tree.leaves(subject.run(params, *batch)) for _ in range(2)), strict=True)
    if any(np.any(a != b) for a, b in pairs):
        yield "two runs with the same key differ"
    elif not _same_trace(subject.apply, subject.apply, (params, *batch)):
        yield "two traces differ: it uses Python or numpy state (np.random?), not self.make_rng"


def _same_trace(f: Callable, g: Callable, args: tuple) -> bool:
    """Whether two functions are the same program, constants included (JAX caches no trace here)."""
    a, b = (jax.make_jaxpr(lambda *x, f=f: f(*x))(*args) for f in (f, g))
    texts = [re.sub(r"0x[0-9a-f]+", "", str(trace.jaxpr)) for trace in (a, b)]
    return texts[0] == texts[1] and all(
        np.array_equal(x, y) for x, y in zip(a.consts, b.consts, strict=True)
    )


def check_order(subject: Subject) -> Iterator[str]:
    """The order of the dicts does not matter."""
    params, batch = subject.params(), subject.batch(0)
    try:
        if _same_trace(subject.apply, subject.reversed, (params, *batch)):
            return
        backward = jax.device_get(jax.jit(subject.reversed)(params, *batch))
    except Exception as error:
        failure = raised("order", error, subject.fusion)
        yield f"fails on a dict in another order; iterate sorted names: {failure.message}"
        return
    change = _change(subject.run(params, *batch)[0], backward)
    if change > TOLERANCE:
        yield f"another order of the dict changes the output by {change:.2g}; iterate sorted names"


def check_vmap(subject: Subject) -> Iterator[str]:
    """Replicas: parameters with a leading axis R under vmap give what each gives alone."""
    params, batch = [subject.params(draw) for draw in range(2)], subject.batch(0)
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *params)
    lanes = jax.vmap(subject.apply, in_axes=(0, None, None), axis_size=2)
    lane = jax.tree.map(lambda x: np.asarray(x[1]), jax.jit(lanes)(stacked, *batch))
    change = _change(lane, subject.run(params[1], *batch)[0])
    if change > TOLERANCE:
        yield f"a replica under vmap differs by {change:.2g} from the same replica alone"


COMPUTED: dict[str, Callable[[Subject], Iterator[str]]] = {
    "gradient": check_gradient,
    "mask": check_mask,
    "absent": check_absent,
    "batch": check_batch,
    "repeat": check_repeat,
    "order": check_order,
    "vmap": check_vmap,
}
