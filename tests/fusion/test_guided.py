"""Fusion led by one modality against its equations, and its limits."""

import jax
import numpy as np
import pytest

from mmfuse.attention import TransformerBlock
from mmfuse.errors import InputError
from mmfuse.fusion import build_fusion
from mmfuse.fusion.temporal.complement import GatedBlock
from mmfuse.fusion.temporal.guided import leader
from tests.reference import (
    ORDER,
    F,
    applied,
    block,
    both_ways,
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
    sigmoid,
    softmax,
)

batch = pytest.fixture(scope="module")(make_batch)
FIELDS = {"features": F, "heads": 2}


def gated(p, x, source, control):
    """A gated block: without gates it is ``crossed``, whose two halves are told apart by zeros."""
    zero = {"kernel": np.zeros_like(p["down"]["kernel"]), "bias": np.zeros(F)}
    update = crossed(p | {"down": zero}, x, source, 2) - x
    y = sigmoid(linear(p["retain"], control)) * x + sigmoid(linear(p["compound"], control)) * update
    quiet = p["attention"] | {"out": {"kernel": np.zeros((F, F)), "bias": np.zeros(F)}}
    return crossed(p | {"attention": quiet}, y, y[:0], 2)


def over_time(p, name, x, mask):
    """The mean over steps and directions of a recurrence over the mean of each step's tokens."""
    at = np.nonzero(mask)[0]
    steps = [x[at == t].mean(axis=0) if (at == t).any() else None for t in range(len(mask))]
    outputs = [z for z in both_ways(p, name, steps) if z is not None]
    return np.mean(outputs, axis=0).reshape(2, F).mean(axis=0) if outputs else np.zeros(F)


def bbfn(p, batch, b, layers):
    """The fused vector and the separation loss of one example, text being the main modality."""
    xs, mask = every(positioned(p, batch, b)), {m: batch[1][m][b] for m in ORDER}
    vectors, errors = [], []
    for n in ("audio", "image"):
        x, y = xs["text"], xs[n]
        for layer in range(layers):
            q = p[f"{n}_{layer}"]
            g = [over_time(q, "context_main", x, mask["text"]),
                 over_time(q, "context_other", y, mask[n])]  # fmt: skip
            x, y = (gated(q["block_main"], x, y, np.concatenate(g)),
                    gated(q["block_other"], y, x, np.concatenate(g)))  # fmt: skip
            hidden = [relu(linear(q["discriminate_hidden"], v)) for v in g]
            d = [linear(q["discriminate_out"], v)[0] for v in hidden]
            errors.append((len(x) > 0) * np.log1p(np.exp(d[0])) / 2)
            errors[-1] += (len(y) > 0) * np.log1p(np.exp(-d[1])) / 2
        vectors += [normed_mean(p[f"norm_main_{n}"], x), normed_mean(p[f"norm_other_{n}"], y)]
    h = np.concatenate(vectors)
    h = h + linear(p["head_2"], relu(linear(p["head_1"], h)))
    return linear(p["out"], h), np.sum(errors) / (2 * layers)


def test_bbfn_is_its_equation(batch):
    fusion = build_fusion("bbfn", **FIELDS, layers=2, separation=0.3, hidden=5)
    fused, p = run(fusion, batch)
    rows, losses = zip(*(bbfn(p, batch, b, 2) for b in range(4)), strict=True)
    expect(fused, [*rows[:3], None])
    assert fused.losses == {}
    assert set(fused.weights) == {"text<-audio", "audio<-text", "text<-image", "image<-text"}
    assert np.all(fused.weights["text<-audio"][2] == 0)
    assert p["audio_1"]["block_main"]["up"]["kernel"].shape == (F, 5)
    trained = jax.jit(lambda p: fusion.apply({"params": p}, *batch, train=True).losses)(p)
    np.testing.assert_allclose(trained["separation"], 0.3 * np.array(losses), atol=1e-5)
    assert trained["separation"][3] == 0


def test_bbfn_without_separation_has_no_discriminator(batch):
    two = tuple({m: part[m] for m in ("audio", "text")} for part in batch)
    fusion = build_fusion("bbfn", **FIELDS, separation=0.0)
    variables = jax.eval_shape(lambda key: fusion.init(key, *two, train=False), jax.random.key(0))
    assert set(variables["params"]["audio_0"]) == {
        "block_main", "block_other", "context_main_forward", "context_main_backward",
        "context_other_forward", "context_other_backward",
    }  # fmt: skip
    fused = jax.eval_shape(lambda p: fusion.apply(p, *two, train=True), variables)
    assert fused.losses == {}


def test_a_gated_block_is_a_transformer_block_when_open_and_deaf_when_closed():
    rng = np.random.default_rng(0)
    x, source, control = (
        rng.standard_normal(s, np.float32) for s in ((2, 3, F), (2, 5, F), (2, 4))
    )
    mask = rng.random((2, 5)) < 0.7
    gates = GatedBlock(heads=2)
    p = gates.init(jax.random.key(0), x, mask, source, control, train=False)["params"]
    shared = {k: v for k, v in p.items() if k not in ("retain", "compound")}

    def gate(bias):
        return {"kernel": np.zeros((4, F), np.float32), "bias": np.full(F, bias, np.float32)}

    def output(compound, source):
        params = {"params": shared | {"retain": gate(40), "compound": gate(compound)}}
        return gates.apply(params, x, mask, source, control, train=False)[0]

    expected, _ = TransformerBlock(heads=2).apply({"params": shared}, x, mask, source, train=False)
    np.testing.assert_allclose(output(40, source), expected, atol=1e-6)
    np.testing.assert_allclose(output(-80, source), output(-80, -source), atol=1e-6)


def guide(p, hyper, query, latents):
    """A layer of hyper-modality learning from the ``latents`` of those that are there."""
    q, total = norm(p["norm_query"], query) @ p["query"]["kernel"], np.zeros_like(hyper)
    for n in latents:
        x = norm(p[f"norm_{n}"], latents[n])
        k, v = (x @ p[f"{what}_{n}"]["kernel"] for what in ("key", "value"))
        for part in np.split(np.arange(F), 2):
            a = softmax(q[:, part] @ k[:, part].T / np.sqrt(len(part)))
            total[:, part] += a @ v[:, part]
    return hyper + linear(p["out"], total)


@pytest.mark.parametrize(("pool", "layers"), [("mean", 2), ("token", 1)])
def test_almt_is_its_equation(batch, pool, layers):
    fields = {"pool": pool, "layers": layers, "latents": 3, "fusion_layers": 2}
    fused, p = run(build_fusion("almt", **FIELDS, **fields), batch)
    rows = []
    for b in range(3):
        xs, latents = every(positioned(p, batch, b)), {}
        for m in ORDER:
            t = p[f"latent_{m}"]
            latents[m] = block(p[f"embed_{m}"], t, np.concatenate([t, xs[m]]), 2)
        query, hyper = latents["text"], p["hyper"]
        there = {n: latents[n] for n in ("audio", "image") if len(xs[n])}
        for layer in range(layers):
            query = block(p[f"scale_{layer}"], query, None, 2) if layer else query
            hyper = guide(p[f"guide_{layer}"], hyper, query, there)
        source = np.concatenate([p["start"], hyper])
        x = np.concatenate([p["start"], query])
        for layer in range(2):
            x = block(p[f"fuse_{layer}"], x, source, 2)
        rows.append(normed_mean(p["norm"], x if pool == "mean" else x[:1]))
    expect(fused, [*rows, None])
    assert fused.weights["latent_audio<-audio"].shape == (4, 2, 3, 6)
    assert np.all(fused.weights["latent_audio<-audio"][2] == 0)
    assert np.all(fused.weights["hyper<-latent_audio"][2] == 0)


def test_almt_by_token_knows_its_main_modality_by_attention_alone(batch):
    fusion = build_fusion("almt", **FIELDS, pool="token", layers=1, latents=2)
    _, p = run(fusion, batch)
    other = ({**batch[0], "text": -batch[0]["text"]}, batch[1])
    assert np.abs(applied(fusion, p, batch) - applied(fusion, p, other))[:3].max() > 1e-4
    query = p["guide_0"]["query"]
    query["kernel"] = np.zeros_like(query["kernel"])
    np.testing.assert_array_equal(applied(fusion, p, batch), applied(fusion, p, other))


def test_the_leader_is_the_text_or_the_first_or_the_one_named():
    assert leader("bbfn", "", ("audio", "image", "text")) == "text"
    assert leader("bbfn", "", ("audio", "image")) == "audio"
    assert leader("bbfn", "image", ("audio", "image", "text")) == "image"
    with pytest.raises(InputError, match=r"main='imgae'.*allowed: audio, image; did you mean 'im"):
        leader("almt", "imgae", ("audio", "image"))


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("almt", {"pool": "last"}, "allowed: mean, token"),
        ("almt", {"latents": 0}, "latents=0 must be at least 1"),
        ("bbfn", {"separation": -0.1}, "separation=-0.1 must not be negative"),
    ],
)
def test_bad_fields_are_one_clear_line(batch, name, fields, message):
    with pytest.raises(InputError, match=message):
        run(build_fusion(name, **FIELDS, **fields), batch)
