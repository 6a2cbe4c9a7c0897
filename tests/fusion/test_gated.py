"""Gates and shifts against their equations, and their limits."""

import math

import jax
import numpy as np
import pytest

from mmfuse.errors import InputError
from mmfuse.fusion import build_fusion
from mmfuse.fusion.spatial.tokenwise import per_step
from tests.reference import (
    ORDER,
    SHAPES,
    B,
    F,
    expect,
    filled,
    linear,
    make_batch,
    means,
    norm,
    relu,
    run,
    sigmoid,
    softmax,
)

batch = pytest.fixture(scope="module")(make_batch)


def again(fusion, p, batch):
    """The output with changed parameters, without another compilation."""
    return np.asarray(fusion.apply({"params": p}, *batch, train=False).tokens)


def zeroed(p, *starts):
    """The parameters with zeros in the layers whose names start so."""
    return {
        name: jax.tree.map(np.zeros_like, q) if name.startswith(starts) else q
        for name, q in p.items()
    }


def only(batch, *modalities):
    """The same batch, in which all other modalities are absent."""
    tokens, masks = batch
    return tokens, {m: x if m in modalities else np.zeros_like(x) for m, x in masks.items()}


def expect_tokens(fused, rows, mask):
    """One row of tokens an example, compared where the mask is True."""
    np.testing.assert_array_equal(fused.mask, mask)
    assert fused.tokens.shape == (*mask.shape, F)
    assert np.isfinite(fused.tokens).all()
    for b, row in enumerate(rows):
        np.testing.assert_allclose(fused.tokens[b][mask[b]], row[mask[b]], atol=1e-5)


def test_film_is_its_equation(batch):
    fusion = build_fusion("film", features=F)
    fused, p = run(fusion, batch)
    rows = []
    for b in range(3):
        h = means(batch, b)
        c = h.pop("audio")  # The first by name is the condition; in example 2 it is absent.
        row = 0 if c is None else linear(p["shift"], c)
        for n, x in h.items():
            gamma = 1 if c is None else 1 + linear(p[f"scale_{n}"], c)
            row = row + gamma * linear(p[f"project_{n}"], x)
        rows.append(row)
    expect(fused, [*rows, None])

    # With gamma = 1 it is a sum.
    plain = {n: q for n, q in p.items() if n.startswith("project")} | {"project_audio": p["shift"]}
    summed = again(build_fusion("sum", features=F), plain, batch)
    np.testing.assert_allclose(again(fusion, zeroed(p, "scale"), batch), summed, atol=1e-5)


def test_film_by_another_condition(batch):
    fused, p = run(build_fusion("film", features=F, condition="text"), batch)
    assert set(p) == {"shift", "scale_audio", "scale_image", "project_audio", "project_image"}
    # Audio is absent in example 2: the picture is all that text modulates.
    h = means(batch, 2)
    gamma = 1 + linear(p["scale_image"], h["text"])
    row = gamma * linear(p["project_image"], h["image"]) + linear(p["shift"], h["text"])
    np.testing.assert_allclose(fused.tokens[2, 0, 0], row, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "field"), [("film", "condition"), ("nl_gate", "query"), ("mag", "main")]
)
def test_a_modality_that_is_not_there_is_named(batch, name, field):
    fields = {field: "texts"} | ({"width": 3} if name == "nl_gate" else {})
    message = rf"{field}='texts' .*allowed: audio, image, text; did you mean 'text'\?"
    with pytest.raises(InputError, match=message):
        run(build_fusion(name, features=F, **fields), batch)


def test_channel_attention_is_its_equation(batch):
    fusion = build_fusion("channel_attention", features=F, width=5)
    fused, p = run(fusion, batch)
    rows = []
    for b in range(3):
        h = filled(batch, b)
        squeezed = relu(linear(p["squeeze"], np.concatenate(list(h.values()))))
        gates = {m: 2 * sigmoid(linear(p[f"excite_{m}"], squeezed)) for m in ORDER}
        for m in ORDER:
            there = means(batch, b)[m] is not None
            np.testing.assert_allclose(fused.weights[m][b], gates[m] * there, atol=1e-6)
        rows.append(linear(p["out"], np.concatenate([gates[m] * h[m] for m in ORDER])))
    expect(fused, [*rows, None])

    # Gates of 2 sigmoid(0) = 1 change nothing: one linear map of the concatenation.
    rows = [linear(p["out"], np.concatenate(list(filled(batch, b).values()))) for b in range(3)]
    open_gates = again(fusion, zeroed(p, "excite"), batch)[:3, 0, 0]
    np.testing.assert_allclose(open_gates, rows, atol=1e-5)


def nl_gate(p, batch, b, query):
    """The query's tokens ``[T, S, F]`` of example b, and its map over the others' real tokens."""
    tokens, masks = batch
    x = linear(p["project"], tokens[query][b])
    there = {n: tokens[n][b][masks[n][b]] for n in ORDER if n != query}
    if not any(len(rows) for rows in there.values()):
        return x, {}
    keys = np.concatenate([rows @ p[f"key_{n}"]["kernel"] for n, rows in there.items()])
    values = np.concatenate([rows @ p[f"value_{n}"]["kernel"] for n, rows in there.items()])
    a = softmax(x @ p["query"]["kernel"] @ keys.T / np.sqrt(keys.shape[-1]))
    ends = np.cumsum([len(rows) for rows in there.values()])
    maps = dict(zip(there, np.split(a, ends[:-1], axis=-1), strict=True))
    return x + a @ values @ p["out"]["kernel"], maps


@pytest.mark.parametrize("query", ["", "text"])
def test_nl_gate_is_its_equation(batch, query):
    fusion = build_fusion("nl_gate", features=F, width=3, query=query)
    fused, p = run(fusion, batch)
    tokens, masks = batch
    m = query or "audio"
    references = [nl_gate(p, batch, b, m) for b in range(B)]
    expect_tokens(fused, [row for row, _ in references], masks[m])
    assert set(fused.weights) == {f"{m}<-{n}" for n in ORDER if n != m}
    for b, (_, maps) in enumerate(references):
        for n, a in maps.items():
            asks, keep = masks[m][b].reshape(-1), masks[n][b].reshape(-1)
            got = fused.weights[f"{m}<-{n}"][b]
            want = a.reshape(len(asks), -1)[asks]
            np.testing.assert_allclose(got[asks][:, keep], want, atol=1e-5)
            assert np.all(got[:, ~keep] == 0)

    # Nobody to ask: the projection of the query, as when it is the only modality.
    alone = again(fusion, p, only(batch, m))
    single = build_fusion("nl_gate", features=F, width=3)
    projected = again(single, {"project": p["project"]}, ({m: tokens[m]}, {m: masks[m]}))
    np.testing.assert_array_equal(alone, projected)


def test_nl_gate_with_one_token_to_ask_is_a_sum(batch):
    two = tuple({m: part[m] for m in ("audio", "image")} for part in only(batch, "audio", "image"))
    one_place = two[0], two[1] | {"image": np.eye(1, 4, dtype=bool)[None].repeat(B, axis=0)}
    fused, p = run(build_fusion("nl_gate", features=F, width=3), one_place)
    told = two[0]["image"][0, 0, 0] @ p["value_image"]["kernel"] @ p["out"]["kernel"]
    rows = linear(p["project"], two[0]["audio"][0]) + told[None, None]
    np.testing.assert_allclose(fused.tokens[0], rows, atol=1e-5)


def mag(p, batch, b, main, beta):
    """The main tokens ``[T, S, F]`` of example b, shifted, and the factors alpha."""
    tokens, masks = batch
    rows, factors = np.zeros((*SHAPES[main][:2], F)), np.ones(SHAPES[main][:2])
    length = SHAPES[main][0]
    for t, s in np.ndindex(*SHAPES[main][:2]):
        z = linear(p["project"], tokens[main][b, t, s])
        shift, anyone = np.zeros(F), False
        for n in (n for n in ORDER if n != main):
            first, end = t * SHAPES[n][0] / length, (t + 1) * SHAPES[n][0] / length
            steps = range(math.floor(first), math.ceil(end))
            if SHAPES[n][0] <= length:
                steps = [math.floor(first)]
            seen = [tokens[n][b, u][masks[n][b, u]] for u in steps if masks[n][b, u].any()]
            if seen:
                v = np.mean([x.mean(axis=0) for x in seen], axis=0)
                gate = relu(linear(p[f"gate_{n}"], z) + v @ p[f"by_{n}"]["kernel"])
                shift, anyone = shift + gate * (v @ p[f"value_{n}"]["kernel"]), True
        shift = shift + p["bias"] if anyone else shift
        if anyone:
            factors[t, s] = min(beta * np.linalg.norm(z) / np.linalg.norm(shift), 1)
        rows[t, s] = norm(p["norm"], z + factors[t, s] * shift)
    return rows, factors


@pytest.mark.parametrize(("main", "beta"), [("", 0.4), ("audio", 1.0), ("image", 0.2)])
def test_mag_is_its_equation(batch, main, beta):
    """Text is longer than the others, which are held; for audio and image text is averaged."""
    fusion = build_fusion("mag", features=F, main=main, beta=beta)
    fused, p = run(fusion, batch)
    tokens, masks = batch
    m = main or "text"
    references = [mag(p, batch, b, m, beta) for b in range(B)]
    expect_tokens(fused, [rows for rows, _ in references], masks[m])
    factors = np.concatenate([alpha[masks[m][b]] for b, (_, alpha) in enumerate(references)])
    assert factors.min() < 1  # Both sides of the cap are seen.
    assert main or factors.max() == 1
    for n in (n for n in ORDER if n != m):
        assert fused.weights[n].shape == (*masks[m].shape, F)
        assert np.all(fused.weights[n] >= 0)
        assert np.all(fused.weights[n][~masks[n].any(axis=(1, 2))] == 0)

    if not main:
        # No shift is allowed, or there is nothing that shifts: the main modality alone.
        own = {name: p[name] for name in ("project", "norm")}
        single = again(fusion, own, ({m: tokens[m]}, {m: masks[m]}))
        none = build_fusion("mag", features=F, beta=0.0)
        np.testing.assert_array_equal(again(none, p, batch), single)
        np.testing.assert_array_equal(again(fusion, p, only(batch, m)), single)


def test_mag_refuses_a_negative_beta(batch):
    with pytest.raises(InputError, match=r"beta=-0.5 must not be negative"):
        run(build_fusion("mag", features=F, beta=-0.5), batch)


def test_per_step_holds_the_slow_and_averages_the_fast():
    x = np.arange(6, dtype=np.float32).reshape(1, 6, 1, 1)
    mask = np.array([1, 1, 1, 0, 0, 0], bool).reshape(1, 6, 1)
    v, there = per_step(x, mask, 3)
    np.testing.assert_array_equal(v[0, :, 0], [0.5, 2, 0])
    np.testing.assert_array_equal(there[0], [True, True, False])
    v, there = per_step(x, mask, 12)
    np.testing.assert_array_equal(v[0, :, 0], [0, 0, 1, 1, 2, 2, *[0] * 6])
    np.testing.assert_array_equal(there[0], [True] * 6 + [False] * 6)
