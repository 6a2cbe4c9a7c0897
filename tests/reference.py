"""Numpy from the equations of the fusions, one example at a time, and the batch it is tried on."""

import itertools

import jax
import numpy as np

from mmfuse.fusion import Fused

B, F = 4, 8
SHAPES = {"text": (5, 1, 6), "image": (1, 4, 7), "audio": (3, 2, 5)}
ORDER = sorted(SHAPES)


def make_batch():
    """Example 0 is whole, 1 and 2 are partly masked, in 2 audio is absent, in 3 everything is."""
    rng = np.random.default_rng(0)
    tokens = {m: rng.standard_normal((B, *s), np.float32) for m, s in SHAPES.items()}
    masks = {m: rng.random((B, *s[:2])) < 0.7 for m, s in SHAPES.items()}
    for m in SHAPES:
        masks[m][0], masks[m][1:3, 0, 0], masks[m][3] = True, True, False
    masks["audio"][2] = False
    return tokens, masks


def run(fusion, batch):
    """Output, and the parameters in float64."""
    variables = jax.jit(lambda key: fusion.init(key, *batch, train=False))(
        jax.random.key(0, impl="unsafe_rbg")  # Compiles faster.
    )
    # Biases start at zero: move everything, so that no parameter hides.
    params = jax.tree.map(
        lambda x: x + 0.1 * np.cos(np.arange(x.size)).reshape(x.shape), variables["params"]
    )
    fused = jax.jit(lambda p: fusion.apply({"params": p}, *batch, train=False))(params)
    assert isinstance(fused, Fused)
    return jax.device_get(fused), jax.tree.map(lambda x: np.asarray(x, float), params)


def expect(fused, rows):
    """One pooled token an example; None where everything is absent."""
    present = np.array([row is not None for row in rows])
    np.testing.assert_array_equal(fused.mask[:, 0, 0], present)
    assert fused.tokens.shape == (B, 1, 1, F)
    for got, row in zip(
        fused.tokens[present, 0, 0], [r for r in rows if r is not None], strict=True
    ):
        np.testing.assert_allclose(got, row, atol=1e-5)
    assert np.isfinite(fused.tokens).all()


def means(batch, b):
    """The masked mean of every modality of example ``b``; None where it is absent."""
    tokens, masks = batch
    return {
        m: tokens[m][b][masks[m][b]].mean(axis=0).astype(float) if masks[m][b].any() else None
        for m in ORDER
    }


def filled(batch, b):
    """As ``means``, with zeros for what is absent."""
    return {m: np.zeros(SHAPES[m][2]) if v is None else v for m, v in means(batch, b).items()}


def linear(p, x):
    return x @ p["kernel"] + p["bias"]


def relu(x):
    return np.maximum(x, 0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def mlp(p, x):
    return linear(p["out"], relu(linear(p["hidden"], x)))


def average(rows):
    rows = [row for row in rows if row is not None]
    return np.mean(rows, axis=0) if rows else None


def norm(p, x):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    return x * p["scale"] + p["bias"]


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def block(p, x, source, heads):
    """A transformer block on the unmasked rows of one example."""
    q = norm(p["norm_query"], x)
    kv = q if source is None else norm(p["norm_source"], source)
    a, out = p["attention"], []
    for part in np.split(np.arange(x.shape[-1]), heads):
        query, key, value = (y @ a[n]["kernel"][:, part]
                             for n, y in (("query", q), ("key", kv), ("value", kv)))  # fmt: skip
        out.append(softmax(query @ key.T / np.sqrt(len(part))) @ value)
    y = x + linear(a["out"], np.concatenate(out, axis=-1))
    h = linear(p["up"], norm(p["norm_mlp"], y))
    h = 0.5 * h * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3)))
    return y + linear(p["down"], h)


def positioned(p, batch, b):
    """The projected, positioned and unmasked tokens of the modalities present in example b."""
    tokens, masks = batch
    rows = {}
    for m in (m for m in ORDER if masks[m][b].any()):
        t = np.arange(SHAPES[m][0])[:, None] / 30 ** (2 * np.arange(F // 2) / F)[None]
        positions = np.sqrt(2) * np.stack([np.sin(t), np.cos(t)], axis=-1).reshape(-1, 1, F)
        rows[m] = (linear(p[f"project_{m}"], tokens[m][b]) + positions)[masks[m][b]]
    return rows


def again(fusion, params, batch):
    """The tokens with parameters that ``run`` gave, or a test has changed."""
    params = jax.tree.map(np.float32, params)
    return np.asarray(
        jax.jit(lambda p: fusion.apply({"params": p}, *batch, train=False).tokens)(params)
    )


def own_steps(batch, m, b):
    """The mean of each step's unmasked tokens, None where there is none."""
    tokens, masks = batch
    pairs = zip(tokens[m][b].astype(float), masks[m][b], strict=True)
    return [x[keep].mean(axis=0) if keep.any() else None for x, keep in pairs]


def held_steps(batch, b, length=5):
    """``own_steps`` of every modality, held over ``length`` steps, and which steps count."""
    held = {}
    for m in ORDER:
        own = own_steps(batch, m, b)
        held[m] = [own[t * len(own) // length] for t in range(length)]
    return held, counted(held)


def counted(held):
    """Where a modality with a time axis has a step; without any such step, the first one."""
    length = len(held["image"])
    moving = [any(held[m][t] is not None for m in ORDER if m != "image") for t in range(length)]
    if any(moving):
        return moving
    return [t == 0 and held["image"][0] is not None for t in range(length)]


def lstm_states(p, steps):
    """``(c, h)`` of an LSTM after each step; a step that is None changes nothing."""
    c = h = np.zeros(p["recurrent"].shape[0])
    states = []
    for x in steps:
        if x is not None:
            i, f, g, o = np.split(x @ p["input"] + h @ p["recurrent"] + p["bias"], 4)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        states.append((c, h))
    return states


def both_ways(p, name, steps):
    """The outputs of a bidirectional LSTM, None where the step is; one step has a layer instead."""
    if len(steps) == 1:
        return [None if x is None else np.tanh(linear(p[name], x)) for x in steps]
    forward = lstm_states(p[f"{name}_forward"], steps)
    backward = lstm_states(p[f"{name}_backward"], steps[::-1])[::-1]
    pairs = zip(steps, forward, backward, strict=True)
    return [None if x is None else np.concatenate([a[1], b[1]]) for x, a, b in pairs]


def all_subsets(batch):
    """One whole example, once for every subset of the modalities: the batch and the subsets."""
    tokens, _ = batch
    subsets = list(itertools.product([0, 1], repeat=len(tokens)))
    repeated = {m: np.repeat(x[:1], len(subsets), axis=0) for m, x in tokens.items()}
    masks = {m: np.array([[[s[i]]] for s in subsets], bool) & np.ones(repeated[m].shape[:3], bool)
             for i, m in enumerate(sorted(tokens))}  # fmt: skip
    return (repeated, masks), subsets


def interaction(values, subsets):
    """What no sum of functions of fewer modalities can give: ``sum_A (-1)^|A| f(A)``."""
    return sum((-1) ** sum(s) * v for s, v in zip(subsets, np.asarray(values, float), strict=True))


def every(rows):
    """``positioned`` rows of all modalities: no rows for an absent one."""
    return {m: rows.get(m, np.zeros((0, F))) for m in ORDER}


def crossed(p, x, source, heads):
    """As ``block`` from ``source``, which may have no rows: then ``x`` takes up the bias alone."""
    if len(source):
        return block(p, x, source, heads)
    value = {"value": {"kernel": np.zeros_like(p["attention"]["value"]["kernel"])}}
    return block(p | {"attention": p["attention"] | value}, x, np.zeros((1, x.shape[-1])), heads)


def normed_mean(p, x):
    """The mean of the normalised rows, zero over none."""
    return norm(p, x).mean(axis=0) if len(x) else np.zeros(x.shape[-1])


def silent(p):
    """The parameters of a block that returns its input."""
    zero = jax.tree.map(np.zeros_like, {"out": p["attention"]["out"], "down": p["down"]})
    return p | {"attention": p["attention"] | {"out": zero["out"]}, "down": zero["down"]}


def applied(fusion, params, batch, **fields):
    """The fused tokens ``[B, F]`` of these parameters."""
    step = jax.jit(lambda p: fusion.apply({"params": p}, *batch, train=False, **fields).tokens)
    return np.asarray(step(jax.tree.map(np.float32, params)))[:, 0, 0]
