"""Experts chosen by the example against their equations, and their limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmfuse.errors import InputError
from mmfuse.fusion import build_fusion
from tests.reference import (
    ORDER,
    SHAPES,
    B,
    F,
    average,
    expect,
    filled,
    linear,
    make_batch,
    means,
    mlp,
    relu,
    run,
    softmax,
)

batch = pytest.fixture(scope="module")(make_batch)
ALL = "audio+image+text"
FIELDS = {"features": F, "hidden": 11, "width": 5}


def parts(p, batch, b):
    """The experts of example b that have something to read, and their logits."""
    h = filled(batch, b)
    joint = np.concatenate(list(h.values()))
    logits = linear(p["gate"], relu(linear(p["gate_hidden"], joint)))
    experts = {m: mlp(p[f"expert_{m}"], h[m]) for m in ORDER} | {ALL: mlp(p["joint"], joint)}
    gone = {m for m, v in means(batch, b).items() if v is None}
    kept = [i for i in experts if i not in gone]
    return {i: experts[i] for i in kept}, logits[[list(experts).index(i) for i in kept]]


@pytest.mark.parametrize("hard", [False, True])
def test_dynmm_is_its_equation(batch, hard):
    fused, p = run(build_fusion("dynmm", **FIELDS, temperature=0.5, hard=hard), batch)
    rows = []
    for b in range(3):
        experts, logits = parts(p, batch, b)
        gates = softmax(logits / 0.5)
        if hard:
            gates = np.eye(len(gates))[gates.argmax()]
        rows.append(gates @ np.array(list(experts.values())))
        for gate, i in zip(gates, experts, strict=True):
            np.testing.assert_allclose(fused.weights[i][b], gate, atol=1e-6)
    expect(fused, [*rows, None])
    assert fused.weights["audio"][2] == 0 == fused.weights[ALL][3]
    assert fused.losses == {}


def test_dynmm_pays_for_what_it_reads(batch):
    fusion = build_fusion("dynmm", **FIELDS, noise=0, resource=0.3)
    _, p = run(fusion, batch)
    params = jax.tree.map(np.float32, p)
    fused = jax.jit(lambda q: fusion.apply({"params": q}, *batch, train=True))(params)
    total = sum(np.prod(shape) for shape in SHAPES.values())
    cost = {m: np.prod(SHAPES[m]) / total for m in ORDER} | {ALL: 1}
    for b in range(B):
        experts, logits = parts(p, batch, b)
        paid = [cost[i] for i in experts] if b < 3 else 0
        expected = 0.3 * np.sum(softmax(logits) * paid)
        np.testing.assert_allclose(fused.losses["resource"][b], expected, atol=1e-6)


def test_dynmm_at_a_high_temperature_is_the_mean_of_its_experts(batch):
    fused, p = run(build_fusion("dynmm", **FIELDS, temperature=1e6), batch)
    rows = [average(list(parts(p, batch, b)[0].values())) for b in range(3)]
    expect(fused, [*rows, None])


def test_gumbel_noise_samples_experts_by_their_softmax(batch):
    """The largest of logits with Gumbel noise is a draw from their softmax, without noise not."""
    fusion = build_fusion("dynmm", **FIELDS, hard=True)
    _, p = run(fusion, batch)
    params = jax.tree.map(np.float32, p)

    @jax.jit
    @jax.vmap
    def gates(key):
        fused = fusion.apply({"params": params}, *batch, train=True, rngs={"dropout": key})
        return jnp.stack([fused.weights[i][0] for i in (*ORDER, ALL)])

    drawn = gates(jax.random.split(jax.random.key(0), 4000)).mean(axis=0)
    np.testing.assert_allclose(drawn, softmax(parts(p, batch, 0)[1]), atol=0.03)


def test_dynmm_of_one_modality_is_its_expert(batch):
    one = tuple({"text": part["text"]} for part in batch)
    fused, p = run(build_fusion("dynmm", **FIELDS), one)
    single = build_fusion("unimodal", features=F, modality="text")
    params = {"text": jax.tree.map(np.float32, p["expert_text"])}
    other = jax.jit(lambda q: single.apply({"params": q}, *one, train=False))(params)
    np.testing.assert_allclose(fused.tokens, other.tokens, atol=1e-6)
    assert set(p) == {"expert_text"}


def test_dynmm_needs_a_positive_temperature(batch):
    with pytest.raises(InputError, match="temperature=0 must be positive"):
        run(build_fusion("dynmm", **FIELDS, temperature=0), batch)
