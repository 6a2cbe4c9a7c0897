"""Temporal and deep fusion against their equations, and their limits."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmfuse.errors import InputError
from mmfuse.fusion import build_fusion
from mmfuse.fusion.temporal.alignment import align
from mmfuse.fusion.temporal.attention import with_positions
from tests.reference import (
    ORDER,
    SHAPES,
    F,
    applied,
    average,
    block,
    expect,
    linear,
    make_batch,
    means,
    norm,
    positioned,
    relu,
    run,
    sigmoid,
    silent,
    softmax,
)

batch = pytest.fixture(scope="module")(make_batch)


def lstm(p, steps):
    """Numpy, one step at a time."""
    width = p["recurrent"].shape[0]
    c = h = np.zeros(width)
    for x in steps:
        i, f, g, o = np.split(x @ p["input"] + h @ p["recurrent"] + p["bias"], 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
    return h


def test_early_lstm_is_its_equation(batch):
    tokens, masks = batch
    masks = {m: x.copy() for m, x in masks.items()}
    # Only the picture has something at the first step of example 1: that is no step in time.
    masks["text"][1, 0] = masks["audio"][1, 0] = False
    masks["text"][1, 3] = True
    fused, p = run(build_fusion("early_lstm", features=F), (tokens, masks))
    rows = []
    for b in range(3):
        steps = []
        for t in range(5):
            parts, counts = [], False
            for m in ORDER:
                source = t * SHAPES[m][0] // 5
                keep = masks[m][b, source]
                width = SHAPES[m][2]
                mean = tokens[m][b, source][keep].mean(axis=0) if keep.any() else np.zeros(width)
                parts.append(np.append(mean, float(keep.any())))
                counts |= keep.any() and m != "image"
            if counts:
                steps.append(np.concatenate(parts))
        rows.append(lstm(p["lstm"], steps))
    expect(fused, [*rows, None])


def test_early_lstm_of_a_picture_alone_is_one_step(batch):
    tokens, masks = batch
    only = masks | {m: np.zeros_like(masks[m]) for m in ("text", "audio")}
    fused, p = run(build_fusion("early_lstm", features=F), (tokens, only))
    x = np.zeros(6 + 1 + 7 + 1 + 5 + 1)
    x[6:13], x[13] = means(batch, 0)["image"], 1
    np.testing.assert_allclose(fused.tokens[0, 0, 0], lstm(p["lstm"], [x]), atol=1e-5)


def test_align():
    x = jnp.arange(4.0)[None, :, None]
    np.testing.assert_array_equal(align(x, 4), x)
    np.testing.assert_array_equal(align(x, 8)[0, :, 0], [0, 0, 1, 1, 2, 2, 3, 3])
    np.testing.assert_array_equal(align(x[:, :1], 3)[0, :, 0], [0, 0, 0])


def test_crossmodal_is_its_equation(batch):
    fusion = build_fusion("crossmodal", features=F, heads=2, layers=2)
    fused, p = run(fusion, batch)
    rows = []
    for b in range(3):
        xs, targets = positioned(p, batch, b), []
        for m, x in xs.items():
            y = x
            for n in (n for n in xs if n != m):
                u = x
                for layer in range(2):
                    u = block(p[f"{m}_from_{n}_{layer}"], u, xs[n], 2)
                y = y + u - x
            targets.append(norm(p[f"norm_{m}"], block(p[f"self_{m}"], y, None, 2).mean(axis=0)))
        rows.append(average(targets))
    expect(fused, [*rows, None])
    assert set(fused.weights) == {f"{m}<-{n}" for m in ORDER for n in ORDER}
    for m in ORDER:
        assert np.all(fused.weights[f"{m}<-audio"][2] == 0)
        sums = fused.weights[f"{m}<-text"][0].sum(axis=-1)
        np.testing.assert_allclose(sums, 1, rtol=1e-5)


def test_crossmodal_with_silent_crossings_is_the_mean_of_single_modalities(batch):
    fusion = build_fusion("crossmodal", features=F, heads=2)
    _, p = run(fusion, batch)
    quiet = {name: silent(x) if "_from_" in name else x for name, x in p.items()}
    own = {}
    for m in ORDER:
        alone = {name: p[f"{name}_{m}"] for name in ("project", "self", "norm")}
        params = {f"{name}_{m}": x for name, x in alone.items()}
        own[m] = applied(fusion, params, tuple({m: part[m]} for part in batch))
    rows = applied(fusion, quiet, batch)
    for b in range(3):
        there = [own[m][b] for m in ORDER if batch[1][m][b].any()]
        np.testing.assert_allclose(rows[b], average(there), atol=1e-5)
    assert np.abs(applied(fusion, p, batch) - rows).max() > 1e-3


def test_positions_tell_neighbours_apart():
    """A step's position is nearest to itself by far, so that the same step can be attended to."""

    class Positions(nn.Module):
        @nn.compact
        def __call__(self, x, mask):
            return with_positions(x, mask, 32, "p")

    x, mask = np.zeros((1, 16, 1, 3), np.float32), np.ones((1, 16, 1), bool)
    (p, _), _ = Positions().init_with_output(jax.random.key(0), x, mask)
    products = np.asarray(p[0] @ p[0].T) / 32
    np.testing.assert_allclose(np.diag(products), 1, rtol=1e-5)
    assert np.all(products[~np.eye(16, dtype=bool)] < 0.93)


@pytest.mark.parametrize("name", ["crossmodal", "mbt"])
def test_attention_over_time_sees_the_order_of_steps(batch, name):
    tokens = {"text": batch[0]["text"], "audio": batch[0]["audio"]}
    masks = {m: np.ones(x.shape[:3], bool) for m, x in tokens.items()}
    fusion = build_fusion(name, features=4, heads=1)

    @jax.jit
    def both(key):
        variables = fusion.init(key, tokens, masks, train=False)
        turned = tokens | {"text": tokens["text"][:, ::-1]}
        return [fusion.apply(variables, t, masks, train=False).tokens for t in (tokens, turned)]

    a, b = both(jax.random.key(0))
    assert np.abs(a - b).max() > 1e-3


def self_cross(p, batch, b, theta):
    tokens, masks = batch
    c = {m: linear(p[f"project_{m}"], tokens[m][b][masks[m][b]])
         for m in ORDER if masks[m][b].any()}  # fmt: skip
    total = np.zeros(F)
    for m, x in c.items():
        s = softmax(theta * x @ x.T) @ x
        crossed = [softmax(theta * s @ c[n].T) @ c[n] for n in c if n != m]
        total += s.mean(axis=0) + np.mean([y.mean(axis=0) for y in crossed], axis=0)
    return relu(linear(p["decode"], total))


def test_self_cross_is_its_equation(batch):
    fused, p = run(build_fusion("self_cross", features=F, theta=0.4), batch)
    assert p["theta"].shape == ()
    rows = [self_cross(p, batch, b, float(p["theta"])) for b in range(3)]
    expect(fused, [*rows, None])
    assert np.all(fused.weights["text<-audio"][2] == 0)
    assert np.all(fused.weights["audio<-audio"][2] == 0)


def test_self_cross_with_theta_zero_is_a_mean(batch):
    fused, p = run(build_fusion("self_cross", features=F, theta=0.0, learned=False), batch)
    assert "theta" not in p
    rows = []
    for b in range(3):
        v = {m: linear(p[f"project_{m}"], x) for m, x in means(batch, b).items() if x is not None}
        total = sum(v[m] + np.mean([v[n] for n in v if n != m], axis=0) for m in v)
        rows.append(relu(linear(p["decode"], total)))
    expect(fused, [*rows, None])


@pytest.mark.parametrize("bottlenecks", [0, 2])
def test_mbt_is_its_equation(batch, bottlenecks):
    """Without bottlenecks this is the late average of one transformer a modality."""
    layers = 3 if bottlenecks else 2
    fields = {"heads": 2, "layers": layers, "fusion_layer": 1, "bottlenecks": bottlenecks}
    fused, p = run(build_fusion("mbt", features=F, **fields), batch)
    rows = []
    for b in range(3):
        xs, z = positioned(p, batch, b), p.get("bottlenecks", np.zeros((0, F)))
        for layer in range(layers):
            written = []
            for m, x in xs.items():
                shared = z if layer >= 1 else z[:0]
                y = block(p[f"{m}_{layer}"], np.concatenate([x, shared]), None, 2)
                xs[m] = y[: len(x)]
                written.append(y[len(x) :])
            z = np.mean(written, axis=0) if layer >= 1 else z
        rows.append(average([norm(p[f"norm_{m}"], x).mean(axis=0) for m, x in xs.items()]))
    expect(fused, [*rows, None])
    assert ("bottlenecks" in p) == ("text<-bottleneck" in fused.weights) == (bottlenecks > 0)
    assert np.all(fused.weights["audio<-audio"][2] == 0)
    if bottlenecks:
        assert np.all(fused.weights["bottleneck<-audio"][2] == 0)


def test_mbt_needs_two_layers_with_bottlenecks(batch):
    with pytest.raises(InputError, match=r"fusion_layer=1 with layers=2"):
        run(build_fusion("mbt", features=F, layers=2, fusion_layer=1), batch)
