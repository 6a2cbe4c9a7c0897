"""Recurrent networks with a memory between the modalities: their equations and their limits."""

import itertools

import numpy as np
import pytest

from mmfuse.errors import InputError
from mmfuse.fusion import build_fusion
from tests.reference import (
    ORDER,
    B,
    F,
    again,
    expect,
    held_steps,
    linear,
    lstm_states,
    make_batch,
    relu,
    run,
    sigmoid,
    softmax,
)

H, W = 3, 4
SHUT = -1e4  # A bias that closes a sigmoid completely.


@pytest.fixture(scope="module")
def batch():
    """Only the picture has something at the first step of example 1: that is no step in time."""
    tokens, masks = make_batch()
    masks["text"][1, 0] = masks["audio"][1, 0] = False
    masks["text"][1, 3] = True
    return tokens, masks


def network(p, name, x):
    return linear(p[name], relu(linear(p[f"{name}_hidden"], x)))


def lstm_of(p, i, m):
    """The LSTM of modality number i, as one of its own."""
    system = p["system"]
    return {"input": system[f"input_{m}"], "recurrent": system["recurrent"][i],
            "bias": system["bias"][i]}  # fmt: skip


def viewed(batch, b):
    """What each modality has at the steps that count, None elsewhere."""
    held, counts = held_steps(batch, b)
    return {m: [x if c else None for x, c in zip(held[m], counts, strict=True)] for m in ORDER}


def system(p, batch, b):
    """The delta memories ``{m: [c_(t-1); c_t]}`` of the steps that count, and the last states."""
    views, zero = viewed(batch, b), np.zeros(H)
    states = {m: [(zero, zero), *lstm_states(lstm_of(p, i, m), views[m])]
              for i, m in enumerate(ORDER)}  # fmt: skip
    deltas = {}
    for t in range(5):
        if any(views[m][t] is not None for m in ORDER):
            deltas[t] = {m: np.append(s[t][0], s[t + 1][0]) for m, s in states.items()}
    return deltas, np.concatenate([states[m][-1][1] for m in ORDER])


def remember(p, inputs, recall):
    """The gated memory over the steps that count."""
    u = np.zeros(W)
    for x in inputs:
        hidden = linear(p["gates_hidden"], x) + (u @ p["recall"] if recall else 0)
        keep, write = (sigmoid(relu(part) @ p["gates"][i] + p["gates_bias"][i])
                       for i, part in enumerate(np.split(hidden, 2)))  # fmt: skip
        u = keep * u + write * np.tanh(network(p, "content", x))
    return u


def present(batch, b):
    return [m for m in ORDER if batch[1][m][b].any()]


def finish(p, last, memory):
    return linear(p["out"], np.append(last, memory))


@pytest.mark.parametrize("recall", [False, True])
def test_mfn_is_its_equation(batch, recall):
    fused, p = run(build_fusion("mfn", features=F, hidden=H, width=W, recall=recall), batch)
    assert ("recall" in p["memory"]) == recall
    rows = []
    for b in range(3):
        deltas, last = system(p, batch, b)
        there = np.repeat([m in present(batch, b) for m in ORDER], 2 * H)
        inputs = []
        for t, delta in deltas.items():
            flat, a = np.concatenate(list(delta.values())), np.zeros(6 * H)
            a[there] = softmax(network(p, "attention", flat)[there])
            inputs.append(a * flat)
            shown = np.concatenate([fused.weights[m][b, t] for m in ORDER])
            np.testing.assert_allclose(shown, a, atol=1e-6)
        rows.append(finish(p, last, remember(p["memory"], inputs, recall)))
        skipped = [t for t in range(5) if t not in deltas]
        assert all(np.all(fused.weights[m][b, skipped] == 0) for m in ORDER)
    expect(fused, [*rows, None])
    assert np.all(fused.weights["audio"][2] == 0)


def graph(p, delta, there, largest):
    """The output vertex and the efficacies of the sets for it."""
    sets = [s for r in range(1, largest + 1) for s in itertools.combinations(range(3), r)]
    alphas = iter(sigmoid(network(p, "efficacy", np.concatenate(list(delta.values())))))
    vertices, seen = {}, {1: 0, 2: 0, 3: 0}
    for s in sets:
        i, size = seen[len(s)], len(s)
        seen[size] += 1
        if size == 1:
            inputs, name = [delta[ORDER[s[0]]]], "single"
        else:
            below = [v for v in sets if set(v) < set(s)]
            inputs, name = [next(alphas) * vertices[v] for v in below], f"sets_{size}"
        y = sum(x @ w for x, w in zip(inputs, p[name][i], strict=True))
        vertices[s] = relu(y + p[f"{name}_bias"][i])
    top = {s: next(alphas) * all(ORDER[j] in there for j in s) for s in sets}
    assert next(alphas, None) is None
    return relu(linear(p["top"], np.concatenate([a * vertices[s] for s, a in top.items()]))), top


@pytest.mark.parametrize(("largest", "recall"), [(3, False), (2, True)])
def test_graph_mfn_is_its_equation(batch, largest, recall):
    fields = {"hidden": H, "width": W, "largest": largest, "recall": recall}
    fused, p = run(build_fusion("graph_mfn", features=F, **fields), batch)
    rows = []
    for b in range(3):
        deltas, last = system(p, batch, b)
        inputs = []
        for t, delta in deltas.items():
            out, alphas = graph(p["graph"], delta, present(batch, b), largest)
            inputs.append(out)
            for s, alpha in alphas.items():
                name = "+".join(ORDER[j] for j in s)
                np.testing.assert_allclose(fused.weights[name][b, t], alpha, atol=1e-6)
        rows.append(finish(p, last, remember(p["memory"], inputs, recall)))
    expect(fused, [*rows, None])
    assert len(fused.weights) == {2: 6, 3: 7}[largest]
    assert np.all(fused.weights["audio+text"][2] == 0)
    assert np.all(fused.weights["audio"][2] == 0)


def test_graph_mfn_with_all_efficacies_shut_remembers_only_how_many_steps_there_were(batch):
    fusion = build_fusion("graph_mfn", features=F, hidden=H, width=W)
    fused, p = run(fusion, batch)
    p["graph"]["efficacy"]["bias"] = np.full(19, SHUT)
    shut = again(fusion, p, batch)
    top = relu(p["graph"]["top"]["bias"])
    for b in range(3):
        deltas, last = system(p, batch, b)
        row = finish(p, last, remember(p["memory"], [top] * len(deltas), False))
        np.testing.assert_allclose(shut[b, 0, 0], row, atol=1e-5)
    assert np.abs(shut - fused.tokens).max() > 1e-3


def test_graph_mfn_needs_a_vertex(batch):
    with pytest.raises(InputError, match="largest=0 must be at least 1"):
        run(build_fusion("graph_mfn", features=F, hidden=H, width=W, largest=0), batch)


def multi_attention(p, h, there, heads):
    """z, and the attention ``[K, M]`` to each modality."""
    flat, kept = np.concatenate(h), np.repeat(there, H)
    scores = (flat @ p["attention"] + p["attention_bias"]).reshape(heads, -1)
    a = np.zeros_like(scores)
    a[:, kept] = softmax(scores[:, kept])
    parts = (a * flat).reshape(heads, 3, H)
    s = [relu(parts[:, i].ravel() @ p["reduce"][i] + p["reduce_bias"][i]) for i in range(3)]
    z = np.tanh(np.concatenate(s) @ p["join"] + p["join_bias"])
    return z, a.reshape(heads, 3, H).sum(axis=2)


def test_marn_is_its_equation(batch):
    fused, p = run(build_fusion("marn", features=F, hidden=H, width=W, heads=2), batch)
    rows = []
    for b in range(3):
        views, there = viewed(batch, b), [m in present(batch, b) for m in ORDER]
        c, h, z = np.zeros((3, H)), np.zeros((3, H)), np.zeros(W)
        for t in range(5):
            if all(views[m][t] is None for m in ORDER):
                assert all(np.all(fused.weights[m][b, t] == 0) for m in ORDER)
                continue
            for i, m in enumerate(ORDER):
                if views[m][t] is not None:
                    # One step of an LSTM whose bias has what z adds.
                    one = lstm_of(p, i, m)
                    gates = (views[m][t] @ one["input"] + h[i] @ one["recurrent"]
                             + z @ p["hybrid"][i] + one["bias"])  # fmt: skip
                    i_, f, g, o = np.split(gates, 4)
                    c[i] = sigmoid(f) * c[i] + sigmoid(i_) * np.tanh(g)
                    h[i] = sigmoid(o) * np.tanh(c[i])
            z, a = multi_attention(p, h, there, 2)
            for i, m in enumerate(ORDER):
                np.testing.assert_allclose(fused.weights[m][b, t], a[:, i], atol=1e-6)
        rows.append(finish(p, h.ravel(), z))
    expect(fused, [*rows, None])
    assert np.all(fused.weights["audio"][2] == 0)


@pytest.mark.parametrize("name", ["mfn", "graph_mfn", "marn"])
def test_without_its_memory_it_is_a_late_lstm(name):
    """The write gate shut, or what z does cut: then nothing meets before the last states."""
    rng = np.random.default_rng(1)
    tokens = {m: rng.standard_normal((B, 4, 1, 5), np.float32) for m in ("text", "audio")}
    masks = {m: rng.random((B, 4, 1)) < 0.7 for m in tokens}
    batch = tokens, masks
    fusion = build_fusion(name, features=F, hidden=H, width=W)
    fused, p = run(fusion, batch)
    if name == "marn":
        p["hybrid"] *= 0
        p["out"]["kernel"][2 * H :] = 0
    else:
        p["memory"]["gates_bias"][1] = SHUT
    late = {f"lstm_{m}": lstm_of(p, i, m) for i, m in enumerate(("audio", "text"))}
    late["out"] = {"kernel": p["out"]["kernel"][: 2 * H], "bias": p["out"]["bias"]}
    reference = again(build_fusion("late_lstm", features=F, hidden=H), late, batch)
    np.testing.assert_allclose(again(fusion, p, batch), reference, atol=1e-6)
    assert np.abs(fused.tokens - reference).max() > 1e-3
