"""Recurrent fusion against its equations, and what it can and cannot combine."""

import jax
import numpy as np
import pytest

from mmfuse.fusion import build_fusion
from tests.reference import (
    ORDER,
    SHAPES,
    F,
    all_subsets,
    both_ways,
    counted,
    expect,
    interaction,
    linear,
    lstm_states,
    make_batch,
    own_steps,
    run,
    softmax,
)

batch = pytest.fixture(scope="module")(make_batch)


@pytest.fixture(scope="module")
def gapped(batch):
    """Only the picture has something at the first step of example 1: that is no step in time."""
    tokens, masks = batch
    masks = {m: x.copy() for m, x in masks.items()}
    masks["text"][1, 0] = masks["audio"][1, 0] = False
    masks["text"][1, 3] = True
    return tokens, masks


def without_time(p, name, x):
    return np.zeros(p[name]["bias"].size) if x is None else np.tanh(linear(p[name], x))


def test_late_lstm_is_its_equation(gapped):
    fused, p = run(build_fusion("late_lstm", features=F, hidden=3), gapped)
    rows = []
    for b in range(3):
        lasts = []
        for m in ORDER:
            steps = own_steps(gapped, m, b)
            if m == "image":
                lasts.append(without_time(p, "still_image", steps[0]))
            else:
                lasts.append(lstm_states(p[f"lstm_{m}"], steps)[-1][1])
        rows.append(linear(p["out"], np.concatenate(lasts)))
    expect(fused, [*rows, None])


def test_late_lstm_of_one_modality_is_an_lstm_and_of_two_a_sum(batch):
    two = tuple({m: part[m] for m in ("audio", "text")} for part in batch)
    whole, subsets = all_subsets(two)
    fused, p = run(build_fusion("late_lstm", features=F, hidden=3), whole)
    f = fused.tokens[:, 0, 0]
    np.testing.assert_allclose(interaction(f, subsets), 0, atol=1e-6)
    text = lstm_states(p["lstm_text"], own_steps(batch, "text", 0))[-1][1]
    alone = subsets.index((0, 1))
    np.testing.assert_allclose(f[alone], linear(p["out"], np.append(np.zeros(3), text)), atol=1e-5)


def test_bc_lstm_is_its_equation(gapped):
    fused, p = run(build_fusion("bc_lstm", features=F, hidden=3), gapped)
    rows = []
    for b in range(3):
        held = {}
        for m in ORDER:
            context = both_ways(p, f"context_{m}", own_steps(gapped, m, b))
            held[m] = [context[t * len(context) // 5] for t in range(5)]
        joint = []
        for t, counts in enumerate(counted(held)):
            parts = [np.zeros(6) if held[m][t] is None else held[m][t] for m in ORDER]
            joint.append(np.concatenate(parts) if counts else None)
        z = [x for x in both_ways(p, "joint", joint) if x is not None]
        rows.append(linear(p["out"], np.mean(z, axis=0)))
    expect(fused, [*rows, None])


def test_bc_lstm_run_backwards_is_itself_with_its_directions_swapped(batch):
    tokens = {"text": batch[0]["text"][:1]}
    masks = {"text": np.ones((1, 5, 1), bool)}
    fusion = build_fusion("bc_lstm", features=F, hidden=3)

    def halves(kernel):
        return np.concatenate(np.split(kernel, 2)[::-1])

    @jax.jit
    def both(p, swapped):
        turned = {"text": tokens["text"][:, ::-1]}
        ways = (p, tokens), (swapped, turned), (p, turned)
        return [fusion.apply({"params": q}, x, masks, train=False).tokens for q, x in ways]

    p = jax.device_get(fusion.init(jax.random.key(0), tokens, masks, train=False)["params"])
    swapped = {"out": {"kernel": halves(p["out"]["kernel"]), "bias": p["out"]["bias"]}}
    for name in ("context_text", "joint"):
        for way, other in (("forward", "backward"), ("backward", "forward")):
            swapped[f"{name}_{way}"] = dict(p[f"{name}_{other}"])
    for way in ("forward", "backward"):
        swapped[f"joint_{way}"]["input"] = halves(swapped[f"joint_{way}"]["input"])
    forward, mirrored, turned = both(p, swapped)
    np.testing.assert_allclose(forward, mirrored, atol=1e-6)
    assert np.abs(forward - turned).max() > 1e-3


def contextual(p, batch, b):
    """The output for one example, and the maps over steps."""
    xs = {}
    for m in ORDER:
        outputs = both_ways(p, f"context_{m}", own_steps(batch, m, b))
        rows = [np.tanh(linear(p[f"project_{m}"], x)) for x in outputs if x is not None]
        xs[m] = np.array(rows).reshape(-1, 4)
    means = [x.mean(axis=0) if len(x) else np.zeros(4) for x in xs.values()]
    maps = {}
    for m in ORDER:
        for n in (n for n in ORDER if n != m):
            if len(xs[m]) and len(xs[n]):
                maps[m, n] = softmax(xs[m] @ xs[n].T)
                means.append((xs[m] * (maps[m, n] @ xs[n])).mean(axis=0))
            else:
                means.append(np.zeros(4))
    return linear(p["out"], np.concatenate(means)), maps


def test_contextual_attention_is_its_equation(gapped):
    fused, p = run(build_fusion("contextual_attention", features=F, hidden=3, width=4), gapped)
    results = [contextual(p, gapped, b) for b in range(3)]
    expect(fused, [*(f for f, _ in results), None])
    assert set(fused.weights) == {f"{m}<-{n}" for m in ORDER for n in ORDER if m != n}
    for b, (_, maps) in enumerate(results):
        for (m, n), a in maps.items():
            mask = {k: gapped[1][k][b] for k in (m, n)}
            got = fused.weights[f"{m}<-{n}"][b].reshape(SHAPES[m][0], *SHAPES[n][:2])
            there = [mask[k].any(axis=1) for k in (m, n)]
            # A step's weight, in equal shares to its tokens and none to those that are masked.
            np.testing.assert_allclose(got.sum(axis=2)[there[0]][:, there[1]], a, atol=1e-6)
            assert np.all(got[:, ~mask[n]] == 0)
            share = got[:, mask[n]] * np.repeat(mask[n].sum(1), mask[n].sum(1))
            np.testing.assert_allclose(
                share, np.repeat(got.sum(axis=2), mask[n].sum(1), axis=1), atol=1e-6
            )


def test_contextual_attention_joins_two_modalities_but_not_three(batch):
    whole, subsets = all_subsets(batch)
    fusion = build_fusion("contextual_attention", features=F, hidden=3, width=4)
    fused, _ = run(fusion, whole)
    f = fused.tokens[:, 0, 0]
    np.testing.assert_allclose(interaction(f, subsets), 0, atol=1e-5)
    pair = [i for i, s in enumerate(subsets) if not s[1]]
    joined = interaction(f[pair], [(subsets[i][0], subsets[i][2]) for i in pair])
    assert np.abs(joined).max() > 1e-3
