"""Sum, product, set pooling and attention over modalities against their equations."""

import itertools

import jax
import numpy as np
import pytest

from mmfuse.errors import InputError
from mmfuse.fusion import build_fusion
from mmfuse.fusion.spatial.simple import unit
from tests.reference import (
    ORDER,
    F,
    expect,
    filled,
    linear,
    make_batch,
    means,
    mlp,
    run,
    softmax,
)

batch = pytest.fixture(scope="module")(make_batch)


def mapped(p, batch, b, name="project"):
    """``{m: W_m h_m + b_m}`` of the modalities present in example b."""
    return {m: linear(p[f"{name}_{m}"], x) for m, x in means(batch, b).items() if x is not None}


def again(fusion, p, batch):
    """The output with changed parameters, without another compilation."""
    return np.asarray(fusion.apply({"params": p}, *batch, train=False).tokens[:, 0, 0])


def test_sum_is_its_equation_and_one_linear_map_of_the_concatenation(batch):
    fused, p = run(build_fusion("sum", features=F), batch)
    rows = [sum(mapped(p, batch, b).values()) for b in range(3)]
    expect(fused, [*rows, None])
    w = np.concatenate([p[f"project_{m}"]["kernel"] for m in ORDER])
    bias = sum(p[f"project_{m}"]["bias"] for m in ORDER)
    joint = np.concatenate(list(filled(batch, 0).values()))
    np.testing.assert_allclose(fused.tokens[0, 0, 0], joint @ w + bias, atol=1e-5)


def test_product_is_its_equation_and_a_sum_over_subsets(batch):
    fused, p = run(build_fusion("product", features=F), batch)
    rows = [np.prod(list(mapped(p, batch, b, "factor").values()), axis=0) for b in range(3)]
    expect(fused, [*rows, None])
    h, total = means(batch, 0), 0
    for subset in itertools.product([False, True], repeat=3):
        term = np.ones(F)
        for m, inside in zip(ORDER, subset, strict=True):
            q = p[f"factor_{m}"]
            term = term * (h[m] @ q["kernel"] if inside else q["bias"])
        total = total + term
    np.testing.assert_allclose(fused.tokens[0, 0, 0], total, atol=1e-5)


@pytest.mark.parametrize(
    ("pool", "normalize"), [("mean", False), ("sum", False), ("max", False), ("mean", True)]
)
def test_deepset_is_its_equation(batch, pool, normalize):
    fusion = build_fusion("deepset", features=F, width=5, pool=pool, normalize=normalize)
    fused, p = run(fusion, batch)
    rows = []
    for b in range(3):
        u = list(mapped(p, batch, b).values())
        u = [x / np.sqrt(np.sum(x**2)) for x in u] if normalize else u
        rows.append(mlp(p["mlp"], getattr(np, pool)(u, axis=0)))
    expect(fused, [*rows, None])
    if pool == "sum":
        # The first layer of concatenation is the product of both matrices.
        w = np.concatenate([p[f"project_{m}"]["kernel"] for m in ORDER])
        bias = sum(p[f"project_{m}"]["bias"] for m in ORDER)
        first = p["mlp"]["hidden"]
        hidden = {"kernel": w @ first["kernel"], "bias": bias @ first["kernel"] + first["bias"]}
        concat = build_fusion("concat", features=F, hidden=F)
        rows = again(concat, {"hidden": hidden, "out": p["mlp"]["out"]}, batch)
        np.testing.assert_allclose(fused.tokens[:2, 0, 0], rows[:2], atol=1e-5)


def test_deepset_names_the_pools(batch):
    fusion = build_fusion("deepset", features=F, width=5, pool="maxx")
    with pytest.raises(InputError, match=r"pool='maxx'.*mean, sum, max; did you mean 'max'\?"):
        run(fusion, batch)


def test_modality_attention_is_its_equation(batch):
    fusion = build_fusion("modality_attention", features=F)
    fused, p = run(fusion, batch)
    rows = []
    for b in range(3):
        scores = linear(p["score"], np.concatenate(list(filled(batch, b).values())))
        values = mapped(p, batch, b)
        a = softmax(np.array([scores[ORDER.index(m)] for m in values]))
        for weight, m in zip(a, values, strict=True):
            np.testing.assert_allclose(fused.weights[m][b], weight, atol=1e-6)
        rows.append(a @ np.stack(list(values.values())))
    expect(fused, [*rows, None])
    assert fused.weights["audio"][2] == 0
    assert all(fused.weights[m][3] == 0 for m in ORDER)

    equal = p | {"score": jax.tree.map(np.zeros_like, p["score"])}
    rows = [np.mean(list(mapped(p, batch, b).values()), axis=0) for b in range(3)]
    np.testing.assert_allclose(again(fusion, equal, batch)[:3], rows, atol=1e-5)


def test_modality_attention_to_one_is_its_projection(batch):
    one = tuple({"text": part["text"]} for part in batch)
    fused, p = run(build_fusion("modality_attention", features=F), one)
    assert set(p) == {"project_text"}
    rows = [linear(p["project_text"], means(batch, b)["text"]) for b in range(3)]
    expect(fused, [*rows, None])
    np.testing.assert_array_equal(fused.weights["text"], [1, 1, 1, 0])


def test_unit_has_a_gradient_at_zero():
    x = np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)
    np.testing.assert_allclose(unit(x), [[0.6, 0.8], [0, 0]], rtol=1e-6)
    assert np.isfinite(jax.grad(lambda x: unit(x).sum())(x)).all()
