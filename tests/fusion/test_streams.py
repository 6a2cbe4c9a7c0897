"""Linked streams against their equations, and what is left when the links are cut."""

import jax
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
    softmax,
)

batch = pytest.fixture(scope="module")(make_batch)


def applied(fusion, p, batch, **kwargs):
    return jax.jit(lambda p: fusion.apply({"params": p}, *batch, **kwargs))(p)


def centralnet(p, batch, b, layers):
    """The result, and the last layer of every stream (None if the modality is absent)."""
    there = [v is not None for v in means(batch, b).values()]
    us, c = filled(batch, b), None
    for layer in range(1, layers + 1):
        a = p[f"weights_{layer}"]
        us = {m: relu(linear(p[f"stream_{m}_{layer}"], u)) for m, u in us.items()}
        total = sum(a[n] * there[n] * us[m] for n, m in enumerate(ORDER))
        total = total if c is None else total + a[3] * c
        c = linear(p[f"central_{layer}"], total)
        c = c if layer == layers else relu(c)
    return c, {m: us[m] if on else None for m, on in zip(ORDER, there, strict=True)}


def test_centralnet_is_its_equation_with_losses_by_label(batch):
    fields = {"hidden": 5, "layers": 3, "outputs": 4, "auxiliary": 0.5}
    fusion = build_fusion("centralnet", features=F, **fields)
    fused, p = run(fusion, batch)
    expect(fused, [*(centralnet(p, batch, b, 3)[0] for b in range(3)), None])
    for n, m in enumerate(ORDER):
        rows = np.array([[p[f"weights_{layer}"][n] for layer in (1, 2, 3)]] * B)
        rows[~batch[1][m].any(axis=(1, 2))] = 0
        np.testing.assert_allclose(fused.weights[m], rows, atol=1e-6)
    assert fused.losses == {}
    losses = applied(fusion, p, batch, train=True).losses
    assert set(losses) == {f"unimodal_{m}" for m in ORDER}
    for b in range(B):
        for m, u in centralnet(p, batch, b, 3)[1].items():
            loss = np.zeros(4)
            if u is not None:
                loss = -0.5 * np.log(softmax(linear(p[f"classify_{m}"], u)))
            np.testing.assert_allclose(losses[f"unimodal_{m}"][b], loss, atol=1e-5)


def test_centralnet_with_all_weight_on_one_stream_is_unimodal(batch):
    """Whatever the depth, if the central stream then takes over."""
    fusion = build_fusion("centralnet", features=F, hidden=F, layers=1)
    _, p = run(fusion, batch)
    assert set(p) == {"central_1", "weights_1", *(f"stream_{m}_1" for m in ORDER)}
    single = build_fusion("unimodal", features=F, modality="text")
    copied = {"text": {"hidden": p["stream_text_1"], "out": p["central_1"]}}
    expected = single.apply({"params": copied}, *batch, train=False).tokens
    one_hot = p | {"weights_1": np.array([float(m == "text") for m in ORDER])}
    got = applied(fusion, one_hot, batch, train=False).tokens
    np.testing.assert_allclose(got[:3], expected[:3], atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"auxiliary": -1.0}, "must not be negative"), ({"auxiliary": 1.0, "outputs": 1}, "got 1")],
)
def test_centralnet_checks_what_its_losses_need(batch, fields, message):
    with pytest.raises(InputError, match=message):
        run(build_fusion("centralnet", features=F, hidden=3, **fields), batch)


def mmtm(p, batch, b, layers, rectified):
    """The result, and the gates of every layer by modality."""
    tokens, masks = batch
    xs = {m: tokens[m][b][masks[m][b]] for m in ORDER}
    gates = {m: [] for m in ORDER}
    for layer in range(1, layers + 1):
        xs = {m: relu(linear(p[f"stream_{m}_{layer}"], x)) for m, x in xs.items()}
        squeeze = [x.mean(axis=0) if len(x) else np.zeros(x.shape[1]) for x in xs.values()]
        z = linear(p[f"squeeze_{layer}"], np.concatenate(squeeze))
        z = relu(z) if rectified else z
        for m, x in xs.items():
            gate = 2 * sigmoid(linear(p[f"gate_{m}_{layer}"], z))
            xs[m] = gate * x
            gates[m].append(gate if len(x) else np.zeros_like(gate))
    outs = [linear(p[f"out_{m}"], x.mean(axis=0)) if len(x) else None for m, x in xs.items()]
    return average(outs), gates


@pytest.mark.parametrize("rectified", [False, True])
def test_mmtm_is_its_equation(batch, rectified):
    fields = {"hidden": 6, "layers": 2, "reduction": 3, "rectified": rectified}
    fused, p = run(build_fusion("mmtm", features=F, **fields), batch)
    assert p["squeeze_2"]["kernel"].shape == (3 * 6, 3 * 6 // 3)
    rows = [mmtm(p, batch, b, 2, rectified) for b in range(B)]
    expect(fused, [row for row, _ in rows])
    for m in ORDER:
        gates = [np.stack(gate[m]) for _, gate in rows]
        np.testing.assert_allclose(fused.weights[m], gates, atol=1e-5)


def test_mmtm_without_excitation_is_late_average(batch):
    """One token a modality, so that the mean over tokens and the relu cannot change places."""
    one = tuple({m: x[:, :1, :1] for m, x in part.items()} for part in batch)
    fusion = build_fusion("mmtm", features=F, hidden=F, layers=1)
    _, p = run(fusion, one)
    still = p | {f"gate_{m}_1": jax.tree.map(np.zeros_like, p[f"gate_{m}_1"]) for m in ORDER}
    fused = applied(fusion, still, one, train=False)
    late = {m: {"hidden": p[f"stream_{m}_1"], "out": p[f"out_{m}"]} for m in ORDER}
    expected = build_fusion("late_average", features=F).apply({"params": late}, *one, train=False)
    np.testing.assert_allclose(fused.tokens[:3], expected.tokens[:3], atol=1e-5)
    for m in ORDER:
        there = one[1][m].any(axis=(1, 2))
        assert np.all(fused.weights[m] == there[:, None, None])


def test_mmtm_and_progressive_check_their_fields(batch):
    with pytest.raises(InputError, match="reduction=0"):
        run(build_fusion("mmtm", features=F, hidden=3, reduction=0), batch)
    with pytest.raises(InputError, match="iterations=0"):
        run(build_fusion("progressive", features=F, hidden=3, iterations=0), batch)


def progressive(p, batch, b, iterations):
    tokens, masks = batch
    s = np.zeros(F)
    for _ in range(iterations):
        parts = []
        for m in ORDER:
            drive = linear(p[f"stream_{m}"], tokens[m][b][masks[m][b]])
            u = relu(drive + s @ p[f"feedback_{m}"]["kernel"])
            parts.append(u.mean(axis=0) if len(u) else np.zeros(u.shape[1]))
        s = mlp(p["base"], np.concatenate(parts))
    return s


def test_progressive_is_its_equation_and_without_feedback_its_base(batch):
    fusion = build_fusion("progressive", features=F, hidden=6, iterations=3)
    fused, p = run(fusion, batch)
    expect(fused, [*(progressive(p, batch, b, 3) for b in range(3)), None])

    cut = p | {f"feedback_{m}": {"kernel": np.zeros((F, 6))} for m in ORDER}
    got = applied(fusion, cut, batch, train=False).tokens
    tokens = {m: relu(linear(p[f"stream_{m}"], batch[0][m])).astype(np.float32) for m in ORDER}
    concat = build_fusion("concat", features=F, hidden=6)
    base = concat.apply({"params": p["base"]}, tokens, batch[1], train=False).tokens
    np.testing.assert_allclose(got[:3], base[:3], atol=1e-5)
    assert np.abs(got[:3] - fused.tokens[:3]).max() > 1e-2

    # One iteration is the base too, and has no feedback to train.
    once = build_fusion("progressive", features=F, hidden=6, iterations=1)
    kept = {k: x for k, x in p.items() if not k.startswith("feedback")}
    assert set(jax.eval_shape(lambda: once.init(jax.random.key(0), *batch, train=False))["params"]
               ) == set(kept)  # fmt: skip
    np.testing.assert_allclose(applied(once, kept, batch, train=False).tokens, got, atol=1e-6)
