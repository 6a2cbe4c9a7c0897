"""Cross-attention between modalities against its equations, and its limits."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from mmfuse.errors import InputError
from mmfuse.fusion import build_fusion
from mmfuse.fusion.temporal.attention import with_positions
from mmfuse.fusion.temporal.cross import convolved, last_step
from tests.reference import (
    ORDER,
    SHAPES,
    F,
    applied,
    average,
    block,
    crossed,
    every,
    expect,
    linear,
    make_batch,
    norm,
    normed_mean,
    positioned,
    relu,
    run,
    silent,
)

batch = pytest.fixture(scope="module")(make_batch)
FIELDS = {"features": F, "heads": 2}
PAIRS = [(m, n) for m in ORDER for n in ORDER if n != m]


def stacked(p, x, source, name, layers):
    """``layers`` blocks of that name, from ``source`` into ``x``."""
    for layer in range(layers):
        x = crossed(p[f"{name}_{layer}"], x, source, 2)
    return x


@pytest.fixture(scope="module")
def pairwise(batch):
    return run(build_fusion("cross_pairwise", **FIELDS), batch)


def test_cross_pairwise_is_its_equation(batch, pairwise):
    fused, p = pairwise
    rows = []
    for b in range(3):
        xs, vectors = every(positioned(p, batch, b)), []
        for m, n in PAIRS:
            u = stacked(p, xs[m], xs[n], f"{m}_from_{n}", 1)
            vectors.append(normed_mean(p[f"norm_{m}_from_{n}"], u))
        rows.append(relu(linear(p["out"], np.concatenate(vectors))))
    expect(fused, [*rows, None])
    assert set(fused.weights) == {f"{m}<-{n}" for m, n in PAIRS}
    assert np.all(fused.weights["text<-audio"][2] == 0)


def test_cross_concat_is_its_equation(batch):
    fused, p = run(build_fusion("cross_concat", **FIELDS, layers=2, hidden=5), batch)
    rows = []
    for b in range(3):
        xs, vectors = every(positioned(p, batch, b)), []
        for m in ORDER:
            source = np.concatenate([xs[n] for n in ORDER if n != m])
            u = stacked(p, xs[m], source, f"{m}_from_others", 2)
            vectors.append(normed_mean(p[f"norm_{m}"], u))
        rows.append(relu(linear(p["out"], np.concatenate(vectors))))
    expect(fused, [*rows, None])
    assert p["text_from_others_1"]["up"]["kernel"].shape == (F, 5)
    # One softmax for all others: together they have a weight of one, the absent audio none of it.
    others = fused.weights["text<-audio"].sum(axis=-1), fused.weights["text<-image"].sum(axis=-1)
    np.testing.assert_allclose((others[0] + others[1])[:3], 1, rtol=1e-5)
    assert np.all(others[0][2] == 0)


def test_cross_concat_of_two_is_pairwise(batch, pairwise):
    two = tuple({m: part[m] for m in ("audio", "text")} for part in batch)
    p = {"out": {"kernel": pairwise[1]["out"]["kernel"][: 2 * F], "bias": np.ones(F)}}
    alike = dict(p)
    for m, n in (("audio", "text"), ("text", "audio")):
        own = {name: pairwise[1][name] for name in (f"project_{m}",)}
        layer, scale = pairwise[1][f"{m}_from_{n}_0"], pairwise[1][f"norm_{m}_from_{n}"]
        p |= own | {f"{m}_from_{n}_0": layer, f"norm_{m}_from_{n}": scale}
        alike |= own | {f"{m}_from_others_0": layer, f"norm_{m}": scale}
    a = applied(build_fusion("cross_pairwise", **FIELDS), p, two)
    b = applied(build_fusion("cross_concat", **FIELDS), alike, two)
    np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.fixture(scope="module")
def hierarchical(batch):
    return run(build_fusion("cross_hierarchical", **FIELDS), batch)


def test_cross_hierarchical_is_its_equation(batch, hierarchical):
    fused, p = hierarchical
    rows = []
    for b in range(3):
        xs = positioned(p, batch, b)
        ys = {m: x + sum(stacked(p, x, xs[n], f"{m}_from_{n}", 1) - x for n in xs if n != m)
              for m, x in xs.items()}  # fmt: skip
        joint = block(p["joint_0"], np.concatenate(list(ys.values())), None, 2)
        parts = np.split(joint, np.cumsum([len(y) for y in ys.values()])[:-1])
        rows.append(average([normed_mean(p["norm"], part) for part in parts]))
    expect(fused, [*rows, None])
    assert set(fused.weights) == {f"{m}<-{n}" for m, n in PAIRS} | {f"joint<-{m}" for m in ORDER}
    assert np.all(fused.weights["joint<-audio"][2] == 0)


def test_cross_hierarchical_with_silent_pairs_is_merged(batch, hierarchical):
    p = {name: silent(x) if "_from_" in name else x for name, x in hierarchical[1].items()}
    shared = {k: v for k, v in p.items() if "_from_" not in k}
    shared |= {f"mark_{m}": np.zeros(F) for m in ORDER}
    a = applied(build_fusion("cross_hierarchical", **FIELDS), p, batch)
    b = applied(build_fusion("merged_transformer", **FIELDS, layers=1), shared, batch)
    np.testing.assert_allclose(a[:3], b[:3], atol=1e-5)


def convolution(p, batch, b, m, kernel):
    """The convolved and positioned tokens, ``[T, S, F]``, one step and one tap at a time."""
    tokens, masks = batch
    length, places, width = SHAPES[m]
    taps = [j for j in range(-((kernel - 1) // 2), kernel // 2 + 1) if abs(j) < length]
    weights = p["kernel"].reshape(len(taps), width, F)
    t = np.arange(length)[:, None] / 30 ** (2 * np.arange(F // 2) / F)[None]
    y = np.sqrt(2) * np.stack([np.sin(t), np.cos(t)], axis=-1).reshape(length, 1, F) + p["bias"]
    y = np.repeat(y, places, axis=1)
    for t in range(length):
        for j, w in zip(taps, weights, strict=True):
            if 0 <= t + j < length:
                y[t] += np.where(masks[m][b, t + j][:, None], tokens[m][b, t + j], 0) @ w
    return y


@pytest.mark.parametrize(("pool", "kernel", "layers"), [("last", 3, 1), ("mean", 4, 2)])
def test_mult_is_its_equation(batch, pool, kernel, layers):
    fields = {"pool": pool, "kernel": kernel, "layers": layers}
    fused, p = run(build_fusion("mult", **FIELDS, **fields), batch)
    rows = []
    for b in range(3):
        masks, vectors = {m: batch[1][m][b] for m in ORDER}, []
        xs = {m: convolution(p[f"project_{m}"], batch, b, m, kernel)[masks[m]] for m in ORDER}
        for m in ORDER:
            if not len(xs[m]):
                vectors.append(np.zeros(2 * F))
                continue
            streams = [stacked(p, xs[m], xs[n], f"{m}_from_{n}", layers) for n in ORDER if n != m]
            y = np.concatenate(streams, axis=-1)
            for layer in range(layers):
                y = block(p[f"self_{m}_{layer}"], y, None, 2)
            at = np.nonzero(masks[m])[0]
            kept = at == at.max() if pool == "last" else np.ones_like(at, bool)
            vectors.append(norm(p[f"norm_{m}"], y)[kept].mean(axis=0))
        h = np.concatenate(vectors)
        h = h + linear(p["head_2"], relu(linear(p["head_1"], h)))
        rows.append(linear(p["out"], h))
    expect(fused, [*rows, None])
    assert p["self_text_0"]["attention"]["query"]["kernel"].shape == (2 * F, 2 * F)
    assert p["out"]["kernel"].shape == (6 * F, F)
    assert p["project_image"]["kernel"].shape == (7, F)
    assert set(fused.weights) == {f"{m}<-{n}" for m in ORDER for n in ORDER}
    assert np.all(fused.weights["text<-audio"][2] == 0)


def test_mult_of_one_modality_attends_to_itself(batch):
    text = tuple({"text": part["text"]} for part in batch)
    _, p = run(build_fusion("mult", **FIELDS, pool="mean"), text)
    # Without blocks and without the residual branch it is the mean of the normalised tokens.
    p = {k: silent(x) if k in ("text_from_text_0", "self_text_0") else x for k, x in p.items()}
    p["head_2"] = jax.tree.map(np.zeros_like, p["head_2"])
    rows = [convolution(p["project_text"], text, b, "text", 3)[text[1]["text"][b]]
            for b in range(3)]  # fmt: skip
    expected = [linear(p["out"], normed_mean(p["norm_text"], x)) for x in rows]
    got = applied(build_fusion("mult", **FIELDS, pool="mean"), p, text)
    np.testing.assert_allclose(got[:3], expected, atol=1e-5)


def test_a_convolution_of_one_tap_is_a_projection(batch):
    class Both(nn.Module):
        @nn.compact
        def __call__(self, x, mask):
            return convolved(x, mask, 1, F, "a"), with_positions(x, mask, F, "b")

    x, mask = batch[0]["text"], batch[1]["text"]
    variables = Both().init(jax.random.key(0), x, mask)
    variables["params"]["b"] = variables["params"]["a"]
    (a, kept), (b, _) = Both().apply(variables, x, mask)
    np.testing.assert_allclose(a[kept], b[kept], atol=1e-6)


def test_last_step():
    mask = np.zeros((3, 3, 2), bool)
    mask[0], mask[1, :2, 1] = True, True
    expected = np.array([[0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0]], bool)
    np.testing.assert_array_equal(last_step(mask), expected)


@pytest.mark.parametrize(
    ("fields", "message"), [({"pool": "first"}, "allowed: last, mean"), ({"kernel": 0}, "kernel=0")]
)
def test_mult_rejects(batch, fields, message):
    with pytest.raises(InputError, match=message):
        run(build_fusion("mult", **FIELDS, **fields), batch)
