"""Hierarchical fusion against its equations, level by level."""

import itertools

import jax
import numpy as np
import pytest

from mmfuse.fusion import build_fusion
from tests.reference import ORDER, SHAPES, F, expect, linear, make_batch, run, sigmoid

batch = pytest.fixture(scope="module")(make_batch)


def context(p, unit, xs, there):
    """The outputs of LSTM number ``unit`` of a level, one step at a time; zero where masked."""
    c = h = np.zeros(F)
    out = np.zeros((len(xs), F))
    for t in np.flatnonzero(there):
        gates = xs[t] @ p["input"][unit] + h @ p["recurrent"][unit] + p["bias"][unit]
        i, f, g, o = np.split(gates, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        out[t] = h = sigmoid(o) * np.tanh(c)
    return out


def chfusion(p, batch, b):
    tokens, masks = batch
    length = 5
    source = {m: np.arange(length) * SHAPES[m][0] // length for m in ORDER}
    there = {m: masks[m][b].any(axis=1)[source[m]] for m in ORDER}
    valid = there["text"] | there["audio"]
    if not valid.any():
        valid = there["image"] & (np.arange(length) == 0)
    units = []
    for n, m in enumerate(ORDER):
        steps = np.zeros((length, SHAPES[m][2]))
        for t in np.flatnonzero(there[m]):
            keep = masks[m][b, source[m][t]]
            steps[t] = tokens[m][b, source[m][t]][keep].mean(axis=0)
        on = there[m] & valid
        units.append(
            (context(p["modalities"], n, np.tanh(linear(p[f"project_{m}"], steps)), on), on)
        )
    pairs = []
    for n, ((x, on_x), (y, on_y)) in enumerate(itertools.combinations(units, 2)):
        w = p["pairs_weight"][:, n]
        pair = np.tanh(w[0] * x + w[1] * y + p["pairs_bias"][n])
        pairs.append((context(p["context_pairs"], n, pair, on_x | on_y), on_x | on_y))
    top = sum(p["all_weight"][n, 0] * x for n, (x, _) in enumerate(pairs))
    top = context(p["context_all"], 0, np.tanh(top + p["all_bias"][0]), valid)
    return top[valid].mean(axis=0) if valid.any() else None


def test_chfusion_is_its_equation(batch):
    tokens, masks = batch
    # In example 1 there is only a picture: one step.
    masks = masks | {m: masks[m].copy() for m in ("text", "audio")}
    masks["text"][1] = masks["audio"][1] = False
    fused, p = run(build_fusion("chfusion", features=F), (tokens, masks))
    expect(fused, [chfusion(p, (tokens, masks), b) for b in range(4)])


def test_chfusion_treats_both_members_of_a_pair_alike(batch):
    """Two modalities that change places, with their weights, change nothing."""
    two = tuple({m: part[m] for m in ("audio", "text")} for part in batch)
    fusion = build_fusion("chfusion", features=F)
    fused, p = run(fusion, two)
    assert not any(name.startswith(("all", "context_all")) for name in p)
    swapped = p | {
        "project_a": p["project_text"],
        "project_b": p["project_audio"],
        "modalities": {k: x[::-1] for k, x in p["modalities"].items()},
        "pairs_weight": p["pairs_weight"][::-1],
    }
    del swapped["project_text"], swapped["project_audio"]
    renamed = tuple({"a": part["text"], "b": part["audio"]} for part in two)
    apply = jax.jit(lambda p, batch: fusion.apply({"params": p}, *batch, train=False).tokens)
    np.testing.assert_allclose(apply(swapped, renamed), fused.tokens, atol=1e-6)
    # With weight zero a member has no influence: the pair is the other one alone.
    alone = swapped | {
        "pairs_weight": swapped["pairs_weight"] * np.array([1.0, 0.0])[:, None, None]
    }
    noisy = renamed[0] | {"b": renamed[0]["b"] + 1}
    a, b = apply(alone, renamed), apply(alone, (noisy, renamed[1]))
    np.testing.assert_array_equal(a, b)
    assert np.abs(apply(swapped, (noisy, renamed[1])) - fused.tokens).max() > 1e-3


@pytest.mark.parametrize(
    ("number", "levels"), [(1, [1]), (2, [2, 1]), (3, [3, 3, 1]), (4, [4, 6, 1]), (6, [6, 15, 1])]
)
def test_chfusion_has_modalities_then_all_pairs_then_everything(number, levels):
    tokens = {f"m{n}": np.ones((2, 3, 1, n + 1), np.float32) for n in range(number)}
    masks = {m: np.ones((2, 3, 1), bool) for m in tokens}
    fusion = build_fusion("chfusion", features=F)
    params = jax.eval_shape(
        lambda key: fusion.init(key, tokens, masks, train=False), jax.random.key(0)
    )["params"]
    names = ["modalities", "context_pairs", "context_all"][: len(levels)]
    assert [params[name]["input"].shape for name in names] == [(u, F, 4 * F) for u in levels]
    for name, (below, units) in zip(["pairs", "all"], itertools.pairwise(levels), strict=False):
        members = 2 if name == "pairs" else below
        assert params[f"{name}_weight"].shape == (members, units, F)
    assert len(params) == number + len(levels) + 2 * (len(levels) - 1)
