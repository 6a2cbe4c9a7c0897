"""Streams that attend to one another against their equations, and their limits."""

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
    block,
    expect,
    linear,
    make_batch,
    norm,
    positioned,
    run,
    softmax,
)

batch = pytest.fixture(scope="module")(make_batch)


def only(batch, *chosen):
    return tuple({m: part[m] for m in chosen} for part in batch)


def attention(p, x, source, heads):
    """``x + MHA(LN(x), LN(source))`` with one norm, and the maps of the heads."""
    q, kv, out, maps = norm(p["norm"], x), norm(p["norm"], source), [], []
    kernel = {n: p["attention"][n]["kernel"] for n in ("query", "key", "value")}
    for part in np.split(np.arange(x.shape[-1]), heads):
        query, key = q @ kernel["query"][:, part], kv @ kernel["key"][:, part]
        maps.append(softmax(query @ key.T / np.sqrt(len(part))))
        out.append(maps[-1] @ kv @ kernel["value"][:, part])
    return x + linear(p["attention"]["out"], np.concatenate(out, axis=-1)), np.stack(maps)


def apply(fusion, p, batch, train=False):
    params = jax.tree.map(np.float32, p)
    return jax.jit(lambda q: fusion.apply({"params": q}, *batch, train=train))(params)


def rest(xs, m):
    return np.concatenate([x for n, x in xs.items() if n != m])


def streams(p, batch, b):
    return {m: np.concatenate([p[f"cls_{m}"][None], x]) for m, x in positioned(p, batch, b).items()}


def read_out(p, xs):
    return average([norm(p[f"norm_{m}"], x[0]) for m, x in xs.items()])


def test_vilbert_is_its_equation(batch):
    fusion = build_fusion("vilbert", features=F, heads=2, layers=2, hidden=11)
    fused, p = run(fusion, batch)
    assert p["text_0"]["up"]["kernel"].shape == p["text_co_1"]["up"]["kernel"].shape == (F, 11)
    rows = []
    for b in range(3):
        xs = streams(p, batch, b)
        for layer in range(2):
            xs = {m: block(p[f"{m}_co_{layer}"], x, rest(xs, m), 2) for m, x in xs.items()}
            xs = {m: block(p[f"{m}_{layer}"], x, None, 2) for m, x in xs.items()}
        rows.append(read_out(p, xs))
    expect(fused, [*rows, None])
    assert set(fused.weights) == {f"{m}<-{n}" for m in ORDER for n in ORDER}
    assert np.all(fused.weights["text<-audio"][2] == 0)


@pytest.mark.parametrize("shared", [True, False])
def test_lxmert_is_its_equation(batch, shared):
    layers = 2 if shared else 1
    fusion = build_fusion("lxmert", features=F, heads=2, layers=layers, hidden=11, shared=shared)
    fused, p = run(fusion, batch)
    rows = []
    for b in range(3):
        xs = streams(p, batch, b)
        for layer in range(layers):
            cross = {m: p[f"cross_{layer}" if shared else f"{m}_cross_{layer}"] for m in xs}
            xs = {m: attention(cross[m], x, rest(xs, m), 2)[0] for m, x in xs.items()}
            xs = {m: block(p[f"{m}_{layer}"], x, None, 2) for m, x in xs.items()}
        rows.append(read_out(p, xs))
    expect(fused, [*rows, None])
    assert np.all(fused.weights["text<-audio"][2] == 0)
    assert ("cross_0" in p) == shared


def test_with_one_modality_all_are_a_plain_transformer(batch):
    one = only(batch, "text")
    fields = {"features": F, "heads": 2, "layers": 2}
    fused, p = run(build_fusion("vilbert", **fields), one)
    alone = batch[0], {m: x & (m == "text") for m, x in batch[1].items()}
    rows = []
    for b in range(3):
        x = streams(p, alone, b)["text"]
        for layer in range(2):
            x = block(p[f"text_{layer}"], x, None, 2)
        rows.append(norm(p["norm_text"], x[0]))
    expect(fused, [*rows, None])
    for name in ("lxmert", "albef"):
        other = apply(build_fusion(name, **fields), p, one)
        np.testing.assert_allclose(fused.tokens[:3], other.tokens[:3], atol=1e-6)
        assert set(other.weights) == {"text<-text"}


def test_shared_cross_attention_is_the_unshared_one_with_equal_weights(batch):
    two = only(batch, "audio", "text")
    fused, p = run(build_fusion("lxmert", features=F, heads=2), two)
    own = {f"{m}_cross_0": p["cross_0"] for m in ("audio", "text")}
    unshared = build_fusion("lxmert", features=F, heads=2, shared=False)
    params = {k: v for k, v in p.items() if k != "cross_0"} | own
    expected = apply(unshared, params, two)
    np.testing.assert_allclose(fused.tokens, expected.tokens, atol=1e-6)


def test_albef_is_its_equation(batch):
    fusion = build_fusion("albef", features=F, heads=2, layers=2, hidden=11, main="text")
    fused, p = run(fusion, batch)
    rows = []
    for b in range(3):
        xs = streams(p, batch, b)
        x = xs["text"]
        for layer in range(2):
            x, own = attention(p[f"self_{layer}"], x, x, 2)
            x = block(p[f"text_{layer}"], x, rest(xs, "text"), 2)
        rows.append(norm(p["norm_text"], x[0]))
        seen = fused.weights["text<-text"][b, :, 0][:, batch[1]["text"][b].ravel()]
        np.testing.assert_allclose(seen, own[:, 0, 1:], atol=1e-6)
    expect(fused, [*rows, None])
    assert set(fused.weights) == {"text<-audio", "text<-image", "text<-text"}
    assert fused.losses == {}
    assert np.all(fused.weights["text<-audio"][2] == 0)


def contrast(p, batch, scale):
    """``{(a, b)}``-wise cross-entropies of the batch, by loops."""
    vectors = {m: {} for m in ORDER}
    for b in range(B):
        for m, x in positioned(p, batch, b).items():
            u = linear(p["align"][m], x.mean(axis=0))
            vectors[m][b] = u / np.linalg.norm(u)
    losses = np.zeros(B)
    for m in ("audio", "image"):
        both = [b for b in range(B) if b in vectors[m] and b in vectors["text"]]
        s = np.array([[vectors["text"][i] @ vectors[m][j] for j in both] for i in both])
        s = s * np.exp(p["align"]["log_inverse_temperature"])
        for i, b in enumerate(both):
            losses[b] -= np.log(softmax(s[i])[i]) / 4 + np.log(softmax(s[:, i])[i]) / 4
    return scale * losses


def test_albef_aligns_within_the_batch(batch):
    fusion = build_fusion("albef", features=F, heads=2, main="text", align=0.5)
    _, p = run(fusion, batch)
    fused = apply(fusion, p, batch, train=True)
    np.testing.assert_allclose(fused.losses["align"], contrast(p, batch, 0.5), atol=1e-5)
    assert fused.losses["align"][3] == 0 < fused.losses["align"][2]
    # Off, the loss has no parameters and the result is the same.
    off = build_fusion("albef", features=F, heads=2, main="text", align=0)
    p.pop("align")
    other = apply(off, p, batch, train=True)
    np.testing.assert_allclose(fused.tokens, other.tokens, atol=1e-6)
    assert other.losses == {}


def test_albef_names_the_modalities_it_could_have(batch):
    with pytest.raises(InputError, match=r"fusion\.main='txt'.*allowed: audio, image, text"):
        run(build_fusion("albef", features=F, main="txt"), batch)
