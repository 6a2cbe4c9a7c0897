"""Late and spatial fusion against their equations, and their limits."""

import itertools

import numpy as np
import pytest

from mmfuse.errors import InputError
from mmfuse.fusion import build_fusion
from tests.reference import (
    ORDER,
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
    sigmoid,
)

batch = pytest.fixture(scope="module")(make_batch)


def test_late_average_is_its_equation_and_the_mean_of_its_unimodal_rows(batch):
    fused, p = run(build_fusion("late_average", features=F), batch)
    own = [{m: None if x is None else mlp(p[m], x) for m, x in means(batch, b).items()}
           for b in range(B)]  # fmt: skip
    expect(fused, [average(list(rows.values())) for rows in own])
    singles = []
    for m in ORDER:
        single = build_fusion("unimodal", features=F, modality=m)
        out = single.apply({"params": {m: p[m]}}, *batch, train=False)
        singles.append(np.asarray(out.tokens[:, 0, 0]))
        assert np.array_equal(out.mask[:, 0, 0], batch[1][m].any(axis=(1, 2)))
    there = [batch[1][m].any(axis=(1, 2)) for m in ORDER]
    rows = [average([s[b] if t[b] else None for s, t in zip(singles, there, strict=True)])
            for b in range(B)]  # fmt: skip
    expect(fused, rows)
    # The head is affine, so the logits are averaged too.
    w, c = np.random.default_rng(1).standard_normal((F, 3)), np.arange(3.0)
    logits = np.mean([s[0] @ w + c for s in singles], axis=0)
    np.testing.assert_allclose(fused.tokens[0, 0, 0] @ w + c, logits, atol=1e-5)


def test_unimodal_is_its_equation_and_reads_one_modality(batch):
    fusion = build_fusion("unimodal", features=F, modality="audio")
    fused, p = run(fusion, batch)
    rows = [None if v["audio"] is None else mlp(p["audio"], v["audio"])
            for v in (means(batch, b) for b in range(B))]  # fmt: skip
    expect(fused, rows)
    assert set(p) == {"audio"}
    assert fusion.reads(("text", "audio")) == ("audio",)
    with pytest.raises(InputError, match=r"modality='audio'.*allowed: image, text"):
        fusion.reads(("text", "image"))


def test_concat_is_its_equation(batch):
    fused, p = run(build_fusion("concat", features=F, hidden=5), batch)
    rows = [mlp(p, np.concatenate(list(filled(batch, b).values()))) for b in range(3)]
    expect(fused, [*rows, None])


def test_gmu_is_its_equation_for_three(batch):
    fused, p = run(build_fusion("gmu", features=F), batch)
    rows = []
    for b in range(3):
        h, row = filled(batch, b), np.zeros(F)
        joint = np.concatenate(list(h.values()))
        for m in ORDER:
            if means(batch, b)[m] is not None:
                gate = sigmoid(linear(p[f"gate_{m}"], joint))
                np.testing.assert_allclose(fused.weights[m][b], gate, atol=1e-6)
                row += gate * np.tanh(linear(p[f"value_{m}"], h[m]))
        rows.append(row)
    expect(fused, [*rows, None])
    assert np.all(fused.weights["audio"][2] == 0)


def test_gmu_ties_the_gates_of_two_and_has_one_for_one(batch):
    two = tuple({m: part[m] for m in ("audio", "text")} for part in batch)
    fused, p = run(build_fusion("gmu", features=F), two)
    h = filled(batch, 0)
    z = sigmoid(linear(p["gate_audio"], np.concatenate([h["audio"], h["text"]])))
    audio, text = (np.tanh(linear(p[f"value_{m}"], h[m])) for m in ("audio", "text"))
    np.testing.assert_allclose(fused.tokens[0, 0, 0], z * audio + (1 - z) * text, atol=1e-5)
    # Audio is absent in example 2: all of the gate is the text's.
    np.testing.assert_array_equal(fused.weights["text"][2], np.ones(F))
    alone = np.tanh(linear(p["value_text"], filled(batch, 2)["text"]))
    np.testing.assert_allclose(fused.tokens[2, 0, 0], alone, atol=1e-5)

    one = tuple({"text": part["text"]} for part in batch)
    fused, p = run(build_fusion("gmu", features=F), one)
    gate = sigmoid(linear(p["gate_text"], h["text"]))
    row = gate * np.tanh(linear(p["value_text"], h["text"]))
    np.testing.assert_allclose(fused.tokens[0, 0, 0], row, atol=1e-5)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_tfn_is_a_sum_over_subsets_of_modalities(batch, number):
    chosen = ORDER[:number]
    part = tuple({m: x[m] for m in chosen} for x in batch)
    fused, p = run(build_fusion("tfn", features=F, width=3), part)
    for b in range(3):
        u = [relu(linear(p[f"factor_{m}"], filled(batch, b)[m])) for m in chosen]
        there = [means(batch, b)[m] is not None for m in chosen]
        total = p["bias"].copy()
        for subset in itertools.product([False, True], repeat=number):
            if any(s and not t for s, t in zip(subset, there, strict=True)):
                continue  # A subset with an absent modality has no part in it.
            # Entry 0 of an axis is the one, entries 1.. are the vector.
            block = p["kernel"][tuple(slice(1, None) if s else 0 for s in subset)]
            for x in (x for x, s in zip(u, subset, strict=True) if s):
                block = np.tensordot(x, block, axes=(0, 0))
            total = total + block
        if fused.mask[b, 0, 0]:
            np.testing.assert_allclose(fused.tokens[b, 0, 0], relu(total), atol=1e-5)
