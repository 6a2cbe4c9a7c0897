"""The rules of the contract that are tried on numbers: a small batch, changed in one way a time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.interpreters import partial_eval

from mmfuse.contract.subject import BATCH, Subject, Tree, raised
from mmfuse.fusion.base import Fused

DRAWS, TOLERANCE = 3, 1e-5
# Another program rounds differently, and a root near zero enlarges that; a mistake is of order one.
ROUNDING = 1e-4


def check_gradient(subject: Subject) -> Iterator[str]:
    """Every parameter and every modality gets a finite gradient, not zero in all of a few draws.

    Attention to a single token has the weight one whatever its queries and keys are: what has no
    gradient is looked at once more with at least two tokens in every modality.
    """
    dead = None
    for draw in range(DRAWS):
        _, grads = subject.run(subject.params(draw), *subject.batch(draw))
        leaves = _by_name(*grads)
        broken = [name for name, g in leaves.items() if not np.isfinite(g).all()]
        if broken:
            yield f"the gradient of {broken[0]} is not finite on a generic batch"
            return
        zero = {name for name, g in leaves.items() if not np.any(g)}
        dead = zero if dead is None else dead & zero
        if not dead:
            return
    if subject.has_single:
        longer = subject.longer()
        _, grads = longer.run(longer.params(), *longer.batch(0))
        dead = {name for name in dead if not np.any(_by_name(*grads).get(name, 0))}
    for name in sorted(dead):
        yield f"the gradient of {name} is zero in {DRAWS} draws: {_why_dead(subject, name)}"


def _by_name(params: dict, tokens: Tree) -> dict[str, np.ndarray]:
    """``{"layer/kernel": .., "tokens['text']": ..}``."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    named = {"/".join(str(part.key) for part in path): x for path, x in leaves}
    return named | {f"tokens['{m}']": x for m, x in tokens.items()}


def _why_dead(subject: Subject, name: str) -> str:
    """Whether anything depends on what gets no gradient, tried by moving it."""
    params, (tokens, masks) = subject.params(), subject.batch(0)
    rng = np.random.default_rng(subject.seed)

    def moved(leaves: dict[str, np.ndarray], wanted: str) -> dict[str, np.ndarray]:
        noise = 3 * rng.standard_normal(leaves[wanted].shape, np.float32)
        return leaves | {wanted: leaves[wanted] + noise}

    if name.startswith("tokens"):
        m = name.split("'")[1]
        other = subject.run(params, moved(tokens, m), masks)[0]
        unread = "the modality is never read; say so by a method reads(modalities)"
    else:
        leaves, treedef = jax.tree.flatten(params)
        changed = moved(dict(zip(_by_name(params, {}), leaves, strict=True)), name)
        other = subject.run(jax.tree.unflatten(treedef, changed.values()), tokens, masks)[0]
        unread = "it is unused and never trained"
    if _change(subject.run(params, tokens, masks)[0], other):
        return "the result depends on it, but stop_gradient, argmax or the like lets none through"
    return unread


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
    change, lost = _token_change(fused, fused2), _change(fused, fused2)
    hidden = [np.where(mask[..., None], 0, g[m]) for g in (g_tokens, g_tokens2)]
    leak = float(np.abs(hidden).max())
    pairs = zip(jax.tree.leaves(g_params), jax.tree.leaves(g_params2), strict=True)
    if change:
        yield f"{what} '{m}' change the output by {change:.2g}, expected 0; leave them out by masks"
    elif lost:
        yield f"{what} '{m}' change the losses by {lost:.2g}, expected 0; leave them out by masks"
    elif leak:
        yield f"{what} '{m}' get a gradient of {leak:.2g}, expected exactly 0"
    elif any(np.any(a != b) for a, b in pairs):
        yield f"{what} '{m}' change the gradient of the parameters; leave them out by masks"


def _change(a: Fused, b: Fused) -> float:
    """The largest difference between two results, in tokens that count and in auxiliary losses."""
    if set(a.losses) != set(b.losses):
        return float("inf")
    gaps = [_gap(a.losses[name], b.losses[name]) for name in a.losses]
    return max(_token_change(a, b), *gaps, 0.0)


def _token_change(a: Fused, b: Fused, rows: slice = slice(None)) -> float:
    """The largest difference over the tokens that count; inf if the masks differ."""
    if np.any(a.mask[rows] != b.mask[rows]):
        return float("inf")
    counts = a.mask[rows][..., None]
    return _gap(*(np.where(counts, x.tokens[rows], 0) for x in (a, b)))


def _gap(a: np.ndarray, b: np.ndarray) -> float:
    """``max |a - b|``; NaN counts as a difference."""
    gap = np.abs(a.astype(np.float32) - b.astype(np.float32))
    return float(np.where(np.isnan(gap), np.inf, gap).max(initial=0))


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
    change = _token_change(a, b, slice(1, None))
    if change > TOLERANCE:
        yield f"changing example 0 changes the others by {change:.2g}: no statistics over the batch"


def check_repeat(subject: Subject) -> Iterator[str]:
    """Same key, same bits: initialised twice, run twice, and traced twice."""
    params, batch = subject.params(), subject.batch(0)
    first, again = _by_name(subject.structure, {}), _by_name(params, {})
    drawn = [name for name in first if not np.array_equal(first[name], again[name])]
    if drawn:
        yield (
            f"two initialisations of {drawn[0]} with the same key differ: its initialiser must"
            " draw from the key that it is given, not from global state (np.random?)"
        )
    pairs = zip(*(jax.tree.leaves(subject.run(params, *batch)) for _ in range(2)), strict=True)
    if any(np.any(a != b) for a, b in pairs):
        yield "two runs with the same key differ"
    elif not _same_trace(subject.apply, subject.apply, (params, *batch)):
        yield (
            "two traces differ: it draws from global Python or numpy state (np.random?)"
            ", not from self.make_rng"
        )


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
    if change > ROUNDING:
        yield f"a replica under vmap differs by {change:.2g} from the same replica alone"


def check_evaluation(subject: Subject) -> Iterator[str]:
    """In evaluation too: nothing comes from padding, from what is absent, or from other examples.

    A table's numbers are evaluation's. Where its program is that of training, as it is for most
    fusions, what was found in training holds for it.
    """
    params, (tokens, masks) = subject.params(), subject.batch(0)
    if _text(subject, True, params, tokens, masks) == _text(subject, False, params, tokens, masks):
        return
    step, late = jax.jit(lambda *x: subject.apply(*x, train=False)), "with train=False"

    def run(tokens: Tree, masks: Tree) -> Fused:
        return jax.device_get(step(params, tokens, masks))

    noisy, absent = subject.batch(0, fill=30.0)[0], jax.tree.map(np.zeros_like, masks)
    for m, x in tokens.items():
        for what, left, zeros in (
            (f"{late} masked tokens of", masks, x),
            (f"{late} the absent modality", {**masks, m: absent[m]}, np.zeros_like(x)),
        ):
            noise = np.where(left[m][..., None], x, 30 + noisy[m])
            fused, other = (run({**tokens, m: at}, left) for at in (zeros, noise))
            missing = list(_finite((fused, {}), f"'{m}' is absent and train=False"))
            change = 0.0 if missing else _token_change(fused, other)
            yield from missing
            if change:
                yield f"{what} '{m}' change the output by {change:.2g}, expected 0"
            yield from _attended(fused, m, left[m], what)
    yield from _finite((run(tokens, absent), {}), "all modalities are absent and train=False")
    changed = {m: np.concatenate([3 * x[:1] + 1, x[1:]]) for m, x in tokens.items()}
    change = _token_change(run(tokens, masks), run(changed, masks), slice(1, None))
    if change > TOLERANCE:
        yield f"{late} changing example 0 changes the others by {change:.2g}"


def _text(subject: Subject, train: bool, *args: Any) -> tuple[str, list[bytes]]:
    """The program that makes the output, without what only the losses need, and its constants."""

    def output(*args: Any) -> tuple:
        fused = subject.apply(*args, train=train)
        return fused.tokens, fused.mask, fused.weights

    trace = jax.make_jaxpr(output)(*args)
    jaxpr, _ = partial_eval.dce_jaxpr(trace.jaxpr, [True] * len(trace.jaxpr.outvars))
    text = re.sub(r"0x[0-9a-f]+", "", str(jaxpr))
    return text, [np.asarray(x).tobytes() for x in trace.consts]


COMPUTED: dict[str, Callable[[Subject], Iterator[str]]] = {
    "gradient": check_gradient,
    "mask": check_mask,
    "absent": check_absent,
    "batch": check_batch,
    "evaluation": check_evaluation,
    "repeat": check_repeat,
    "order": check_order,
    "vmap": check_vmap,
}
