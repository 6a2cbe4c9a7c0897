"""Perceivers against their equations, and their limits."""

import itertools

import jax
import numpy as np
import pytest

from mmfuse.fusion import build_fusion
from mmfuse.fusion.deep.latent import fourier_positions
from tests.reference import ORDER, SHAPES, F, block, expect, linear, make_batch, run

batch = pytest.fixture(scope="module")(make_batch)
FIELDS = {"features": F, "heads": 2, "latents": 3, "bands": 2, "hidden": 11}
LONGEST, WIDEST = (5, 4), 7


def apply(fusion, params, batch):
    params = jax.tree.map(np.float32, params)
    return jax.jit(lambda q: fusion.apply({"params": q}, *batch, train=False))(params)


def place(i, size, longest):
    """The features of step ``i`` of ``size`` along one axis, with two frequencies."""
    x = -1 + 2 * i / (size - 1) if size > 1 else -1.0
    f = np.array([1, longest / 2])
    return np.concatenate([[x], np.sin(np.pi * f * x), np.cos(np.pi * f * x)])


def rows(batch, b, tails):
    """The unmasked rows ``[position; token; tail]`` of the modalities present in example b."""
    tokens, masks = batch
    out = {}
    for m in ORDER:
        T, S, _ = SHAPES[m]
        out[m] = [
            np.concatenate(
                [place(t, T, LONGEST[0]), place(s, S, LONGEST[1]), tokens[m][b, t, s], tails[m]]
            )
            for t in range(T)
            for s in range(S)
            if masks[m][b, t, s]
        ]
    return {m: np.array(x) for m, x in out.items() if x}


def read(p, z, array, repeats, layers=1, cross_heads=1):
    """The first stage has its own weights, all later ones share theirs."""
    for repeat in range(repeats):
        stage = min(repeat, 1)
        if array is None:
            z = unread(p[f"cross_{stage}"], z)
        else:
            z = block(p[f"cross_{stage}"], z, array, cross_heads)
        for layer in range(layers):
            z = block(p[f"latent_{stage}_{layer}"], z, None, 2)
    return z


def unread(p, z):
    """A cross-attention block with nothing to read: attention gives its bias alone."""
    blind = p | {"attention": p["attention"] | {"value": {"kernel": np.zeros((F, F))}}}
    return block(blind, z, np.zeros((1, F)), 2)


def everything(batch, b, p):
    tails = {m: p["array"][f"encoding_{m}"] for m in ORDER}
    return np.concatenate(list(rows(batch, b, tails).values()))


def test_perceiver_is_its_equation(batch):
    fused, p = run(build_fusion("perceiver", **FIELDS, layers=2, repeats=3), batch)
    assert {len(p["array"][f"encoding_{m}"]) + SHAPES[m][2] for m in ORDER} == {WIDEST + 4}
    assert set(p["reader"]) == {"cross_0", "cross_1"} | {
        f"latent_{stage}_{i}" for stage in range(2) for i in range(2)
    }
    z = p["latents"]
    out = [read(p["reader"], z, everything(batch, b, p), 3, 2).mean(axis=0) for b in range(3)]
    expect(fused, [*out, None])
    assert np.all(fused.weights["latent<-audio"][2] == 0)
    sums = sum(fused.weights[f"latent<-{m}"].sum(-1) for m in ORDER)
    np.testing.assert_allclose(sums[:3], 1, rtol=1e-5)


def test_perceiver_io_is_its_equation(batch):
    fused, p = run(build_fusion("perceiver_io", **FIELDS, cross_heads=2), batch)
    out = []
    for b in range(3):
        z = read(p["reader"], p["latents"], everything(batch, b, p), 1, 2, cross_heads=2)
        out.append(linear(p["out"], block(p["decode"], p["query"], z, 2))[0])
    expect(fused, [*out, None])
    assert fused.weights["output<-latent"].shape == (4, 2, 1, 3)
    np.testing.assert_allclose(fused.weights["output<-latent"].sum(-1), 1, rtol=1e-5)
    assert np.all(fused.weights["latent<-audio"][2] == 0)


def test_highmmt_is_its_equation(batch):
    fused, p = run(build_fusion("highmmt", **FIELDS, repeats=2), batch)
    tails = {
        m: np.concatenate([np.zeros(WIDEST - SHAPES[m][2]), p[f"embedding_{m}"]]) for m in ORDER
    }
    out = []
    for b in range(3):
        arrays = rows(batch, b, tails)
        zs = {m: read(p["unimodal"], p["latents"], x, 2) for m, x in arrays.items()}
        pairs = [
            read(p["crossmodal"], zs[m], zs.get(n), 2, cross_heads=2).mean(axis=0)
            if m in zs
            else np.zeros(F)
            for m, n in itertools.permutations(ORDER, 2)
        ]
        out.append(linear(p["out"], np.concatenate(pairs)))
    expect(fused, [*out, None])
    assert np.all(fused.weights["latent<-audio"][2] == 0)


def renamed(batch, names):
    return tuple({names[m]: x for m, x in part.items()} for part in batch)


NAMES = {"audio": "sound", "image": "picture", "text": "words"}  # In another order.


def test_perceiver_reads_a_set(batch):
    """The order of the rows does not matter: modalities in another order give the same."""
    fusion = build_fusion("perceiver", **FIELDS, repeats=1)
    fused, p = run(fusion, batch)
    p["array"] = {f"encoding_{NAMES[m]}": p["array"][f"encoding_{m}"] for m in ORDER}
    other = apply(fusion, p, renamed(batch, NAMES))
    np.testing.assert_allclose(fused.tokens[:3], other.tokens[:3], atol=1e-5)
    for m in ORDER:
        np.testing.assert_allclose(
            fused.weights[f"latent<-{m}"], other.weights[f"latent<-{NAMES[m]}"], atol=1e-6
        )


def test_highmmt_shares_everything_but_embeddings(batch):
    """Modalities in another order, with their embeddings and their pairs' rows of W: the same."""
    fusion = build_fusion("highmmt", **FIELDS)
    fused, p = run(fusion, batch)
    pairs = list(itertools.permutations(ORDER, 2))
    own = {f"embedding_{m}": p.pop(f"embedding_{m}") for m in ORDER}
    kernel = dict(zip(pairs, np.split(p["out"]["kernel"], len(pairs)), strict=True))
    back = {new: old for old, new in NAMES.items()}
    p["out"]["kernel"] = np.concatenate(
        [kernel[back[m], back[n]] for m, n in itertools.permutations(sorted(back), 2)]
    )
    # Nothing else is a modality's own.
    assert set(p) == {"latents", "unimodal", "crossmodal", "out"}
    p |= {f"embedding_{NAMES[m]}": own[f"embedding_{m}"] for m in ORDER}
    other = apply(fusion, p, renamed(batch, NAMES))
    np.testing.assert_allclose(fused.tokens[:3], other.tokens[:3], atol=1e-5)


def test_equal_latents_are_one(batch):
    """Latents differ only by where they start."""
    one = build_fusion("perceiver", **FIELDS | {"latents": 1}, repeats=1)
    fused, p = run(one, batch)
    p["latents"] = np.repeat(p["latents"], 5, axis=0)
    five = build_fusion("perceiver", **FIELDS | {"latents": 5}, repeats=1)
    other = apply(five, p, batch)
    np.testing.assert_allclose(fused.tokens, other.tokens, atol=1e-5)


def test_perceiver_io_with_one_latent_has_nothing_to_choose_from(batch):
    """The query attends to the only latent, whatever it asks."""
    fusion = build_fusion("perceiver_io", **FIELDS | {"latents": 1})
    fused, p = run(fusion, batch)
    assert np.all(fused.weights["output<-latent"] == 1)
    p["decode"]["attention"]["query"]["kernel"] *= -7
    other = apply(fusion, p, batch)
    np.testing.assert_allclose(fused.tokens, other.tokens, atol=1e-6)


def test_fourier_positions():
    p = fourier_positions((3, 1), (3, 1), 2)
    assert p.shape == (3, 1, 5)  # No modality has an axis of space.
    np.testing.assert_allclose(p[0, 0], [-1, 0, -np.sin(1.5 * np.pi), -1, 0], atol=1e-6)
    np.testing.assert_allclose(p[1, 0], [0, 0, 0, 1, 1], atol=1e-6)
    assert fourier_positions((1, 1), (1, 1), 6).shape == (1, 1, 0)
    # Neighbours among as many steps as the longest modality has look different.
    p = fourier_positions((16, 1), (16, 1), 6)[:, 0]
    unit = p / np.linalg.norm(p, axis=-1, keepdims=True)
    assert np.all((unit @ unit.T)[~np.eye(16, dtype=bool)] < 0.9)
