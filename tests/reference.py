"""Numpy from the equations of the fusions, one example at a time, and the batch it is tried on."""

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
