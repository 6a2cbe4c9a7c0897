"""Bilinear maps and multiplicative interactions against their equations, and their limits."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmfuse.fusion import build_fusion
from tests.reference import ORDER, SHAPES, B, F, expect, filled, linear, make_batch, means, run

NAMES = ("bilinear", "mi_matrix", "mi_vector", "mi_scalar", "mi_three_way")

batch = pytest.fixture(scope="module")(make_batch)


@pytest.fixture(scope="module")
def results(batch):
    """Outputs and parameters, with three modalities of unequal widths."""
    return {name: run(build_fusion(name, features=F), batch) for name in NAMES}


def part(batch, *chosen):
    return tuple({m: x[m] for m in chosen} for x in batch)


def apply(name, params, batch, **fields):
    fused = build_fusion(name, features=F, **fields).apply({"params": params}, *batch, train=False)
    return jax.device_get(fused)


def pair_products(p, h):
    total = np.zeros(F)
    for n, i in enumerate(ORDER[:-1], start=1):
        later = ORDER[n:]
        ends = np.cumsum([SHAPES[j][2] for j in later])[:-1]
        for j, w in zip(later, np.split(p[f"{i}_with_rest"], ends, axis=1), strict=True):
            total = total + np.einsum("i,ijf,j->f", h[i], w, h[j])
    return total


def gated(p, h):
    """The sum over j of ``(v_j + sum_{i<j} W_ij h_i) * (U_j h_j)``, and the gates."""
    row, gates = p["bias"].copy(), {}
    for n, j in enumerate(ORDER):
        value = h[j] @ p[f"value_{j}"]["kernel"]
        if n:
            gates[j] = linear(p[f"gate_{j}"], np.concatenate([h[i] for i in ORDER[:n]]))
            value = gates[j] * value
        row = row + value
    return row, gates


def by_subset(kernel, h):
    """``sum_A W_A (x)_{m in A} h_m``: entry 0 of an axis is the one, entries 1.. the vector."""
    total = np.zeros(kernel.shape[-1])
    for subset in itertools.product([False, True], repeat=len(h)):
        block = kernel[tuple(slice(1, None) if s else 0 for s in subset)]
        for x in (x for x, s in zip(h, subset, strict=True) if s):
            block = np.tensordot(x, block, axes=(0, 0))
        total = total + block
    return total


def test_bilinear_is_its_equation(batch, results):
    fused, p = results["bilinear"]
    rows = [p["bias"] + pair_products(p["pairs"], filled(batch, b)) for b in range(3)]
    expect(fused, [*rows, None])
    # One modality: linear.
    fused, p = run(build_fusion("bilinear", features=F), part(batch, "text"))
    expect(fused, [*(linear(p["linear"], means(batch, b)["text"]) for b in range(3)), None])


def test_mi_matrix_is_its_equation(batch, results):
    fused, p = results["mi_matrix"]
    rows = []
    for b in range(3):
        h = filled(batch, b)
        row = linear(p["linear"], np.concatenate(list(h.values())))
        rows.append(row + pair_products(p["pairs"], h))
    expect(fused, [*rows, None])


@pytest.mark.parametrize(("name", "size"), [("mi_vector", F), ("mi_scalar", 1)])
def test_mi_vector_and_scalar_are_their_equations(batch, results, name, size):
    fused, p = results[name]
    rows = [gated(p["sum"], filled(batch, b)) for b in range(3)]
    expect(fused, [*(row for row, _ in rows), None])
    assert set(fused.weights) == {"image", "text"}
    for m in ("image", "text"):
        assert fused.weights[m].shape == (B, size)
        np.testing.assert_allclose(fused.weights[m][:3], [g[m] for _, g in rows], atol=1e-5)
        np.testing.assert_array_equal(fused.weights[m][3], np.zeros(size))


def test_mi_three_way_is_a_sum_over_subsets_of_modalities(batch, results):
    fused, p = results["mi_three_way"]
    rows = []
    for b in range(3):
        h = filled(batch, b)
        np.testing.assert_array_equal(h["audio"] == 0, means(batch, b)["audio"] is None)
        rows.append(by_subset(p["kernel"], list(h.values())))
    expect(fused, [*rows, None])


@pytest.mark.parametrize("name", ["bilinear", "mi_matrix", "mi_three_way"])
def test_width_is_a_projection_before(batch, results, name):
    """A narrow method is the wide one with ``W x_m V_m`` as its tensor."""
    narrow, p = run(build_fusion(name, features=F, width=2), part(batch, "image", "text"))
    v = {m: p[f"narrow_{m}"]["kernel"] for m in ("image", "text")}
    wide = {name: x for name, x in p.items() if not name.startswith("narrow_")}
    if name == "mi_three_way":
        v = {m: np.pad(x, ((1, 0), (1, 0))) for m, x in v.items()}
        v["image"][0, 0] = v["text"][0, 0] = 1
        wide["kernel"] = np.einsum("pi,qj,ijf->pqf", v["image"], v["text"], p["kernel"])
    else:
        kernel = p["pairs"]["image_with_rest"]
        both = np.einsum("pi,qj,ijf->pqf", v["image"], v["text"], kernel)
        wide["pairs"] = {"image_with_rest": both}
    if name == "mi_matrix":
        up, bias = np.split(p["linear"]["kernel"], 2), p["linear"]["bias"]
        both = np.concatenate([v["image"] @ up[0], v["text"] @ up[1]])
        wide["linear"] = {"kernel": both, "bias": bias}
    same = apply(name, wide, part(batch, "image", "text"))
    np.testing.assert_allclose(narrow.tokens, same.tokens, atol=1e-5)


def test_mi_with_zero_products_is_a_linear_layer_on_the_concatenation(batch, results):
    joint = np.stack([np.concatenate(list(filled(batch, b).values())) for b in range(B)])

    p = results["mi_matrix"][1]
    zero = jax.tree.map(np.zeros_like, p["pairs"])
    got = apply("mi_matrix", p | {"pairs": zero}, batch)
    np.testing.assert_allclose(got.tokens[:, 0, 0], linear(p["linear"], joint), atol=1e-5)

    for name in ("mi_vector", "mi_scalar"):
        p = results[name][1]["sum"]
        zero = {m: {"kernel": np.zeros_like(p[m]["kernel"]), "bias": p[m]["bias"]}
                for m in ("gate_image", "gate_text")}  # fmt: skip
        kernel = np.concatenate([p["value_audio"]["kernel"]]
                                + [p[f"value_{m}"]["kernel"] * p[f"gate_{m}"]["bias"]
                                   for m in ("image", "text")])  # fmt: skip
        got = apply(name, {"sum": p | zero}, batch)
        np.testing.assert_allclose(got.tokens[:, 0, 0], joint @ kernel + p["bias"], atol=1e-5)

    full = results["mi_three_way"][1]["kernel"]
    first = [full[1:, 0, 0], full[0, 1:, 0], full[0, 0, 1:]]
    kernel = np.zeros_like(full)
    kernel[1:, 0, 0], kernel[0, 1:, 0], kernel[0, 0, 1:] = first
    kernel[0, 0, 0] = full[0, 0, 0]
    got = apply("mi_three_way", {"kernel": kernel}, batch)
    expected = joint @ np.concatenate(first) + full[0, 0, 0]
    np.testing.assert_allclose(got.tokens[:, 0, 0], expected, atol=1e-5)


def test_bilinear_of_vectors_with_a_one_is_mi_matrix(batch):
    two = part(batch, "image", "text")
    longer = {m: np.concatenate([np.ones_like(x[..., :1]), x], -1) for m, x in two[0].items()}
    fused, p = run(build_fusion("bilinear", features=F), (longer, two[1]))
    w = p["pairs"]["image_with_rest"]
    params = {
        "pairs": {"image_with_rest": w[1:, 1:]},
        "linear": {"kernel": np.concatenate([w[1:, 0], w[0, 1:]]), "bias": w[0, 0] + p["bias"]},
    }
    same = apply("mi_matrix", params, two)
    np.testing.assert_allclose(fused.tokens[:3], same.tokens[:3], atol=1e-5)


def test_mi_three_way_of_two_is_mi_matrix_and_of_three_has_one_order_more(batch, results):
    two, kernel = part(batch, "image", "text"), results["mi_three_way"][1]["kernel"][0]
    pair = {
        "pairs": {"image_with_rest": kernel[1:, 1:]},
        "linear": {"kernel": np.concatenate([kernel[1:, 0], kernel[0, 1:]]), "bias": kernel[0, 0]},
    }
    a, b = apply("mi_three_way", {"kernel": kernel}, two), apply("mi_matrix", pair, two)
    np.testing.assert_allclose(a.tokens, b.tokens, atol=1e-5)
    # All pairs, without the term of three: mi_matrix of three.
    w = results["mi_three_way"][1]["kernel"].copy()
    w[1:, 1:, 1:] = 0
    linears = [w[1:, 0, 0], w[0, 1:, 0], w[0, 0, 1:]]
    params = {
        "pairs": {"audio_with_rest": np.concatenate([w[1:, 1:, 0], w[1:, 0, 1:]], axis=1),
                  "image_with_rest": w[0, 1:, 1:]},
        "linear": {"kernel": np.concatenate(linears), "bias": w[0, 0, 0]},
    }  # fmt: skip
    a, b = apply("mi_three_way", {"kernel": w}, batch), apply("mi_matrix", params, batch)
    np.testing.assert_allclose(a.tokens, b.tokens, atol=1e-5)


def test_mi_matrix_holds_its_diagonal_and_scalar_forms(batch):
    """``W_ijf = sum_k W_ik U_jk`` where k = f (vector), or the same w for all f (scalar)."""
    two = part(batch, "image", "text")
    for name in ("mi_vector", "mi_scalar"):
        fused, p = run(build_fusion(name, features=F), two)
        p, up = p["sum"], {m: p["sum"][f"value_{m}"]["kernel"] for m in ("image", "text")}
        v, w = p["gate_text"]["bias"], p["gate_text"]["kernel"] * np.ones(F)
        params = {
            "pairs": {"image_with_rest": np.einsum("if,jf->ijf", w, up["text"])},
            "linear": {"kernel": np.concatenate([up["image"], up["text"] * v]), "bias": p["bias"]},
        }
        same = apply("mi_matrix", params, two)
        np.testing.assert_allclose(fused.tokens[:3], same.tokens[:3], atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_an_absent_modality_leaves_the_method_without_it(batch, results, name):
    """Audio is absent in example 2: the parameters that do not read it give the same."""
    fused, p = results[name]
    rest = {k: x for k, x in p.items() if k not in ("pairs", "linear", "kernel", "sum")}
    if "pairs" in p:
        rest["pairs"] = {"image_with_rest": p["pairs"]["image_with_rest"]}
    if name == "mi_matrix":
        kept = p["linear"]["kernel"][SHAPES["audio"][2] :]
        rest["linear"] = {"kernel": kept, "bias": p["linear"]["bias"]}
    if name == "mi_three_way":
        rest["kernel"] = p["kernel"][0]
    if name in ("mi_vector", "mi_scalar"):
        # The image is now the first, without a gate: what is left of its gate is v.
        s, size = p["sum"], SHAPES["audio"][2]
        image = s["value_image"]["kernel"] * s["gate_image"]["bias"]
        text = {"kernel": s["gate_text"]["kernel"][size:], "bias": s["gate_text"]["bias"]}
        rest["sum"] = {"value_image": {"kernel": image}, "value_text": s["value_text"],
                       "gate_text": text, "bias": s["bias"]}  # fmt: skip
    without = apply(name, rest, part(batch, "image", "text"))
    np.testing.assert_allclose(fused.tokens[2], without.tokens[2], atol=1e-5)


def test_mi_three_way_starts_with_each_subset_at_its_own_scale():
    tokens = {m: jnp.zeros((1, 1, 1, size)) for m, size in (("a", 30), ("b", 20))}
    masks = {m: jnp.ones((1, 1, 1), bool) for m in tokens}
    fusion = build_fusion("mi_three_way", features=16)
    w = fusion.init(jax.random.key(0), tokens, masks, train=False)["params"]["kernel"]
    np.testing.assert_array_equal(w[0, 0], np.zeros(16))
    for block, inputs in ((w[1:, 0], 30), (w[0, 1:], 20), (w[1:, 1:], 600)):
        np.testing.assert_allclose(np.std(block), inputs**-0.5, rtol=0.15)


@pytest.mark.parametrize("name", ["bilinear", "mi_matrix"])
@pytest.mark.parametrize("sizes", [(256, 16), (16, 256)])
def test_a_pair_holds_the_shorter_vector_by_features(name, sizes):
    """Compiled, with gradients: less than the longer one by features, or the outer product."""
    examples, features = 1024, 8
    tokens = {m: jnp.ones((examples, 1, 1, d)) for m, d in zip("ab", sizes, strict=True)}
    masks = {m: jnp.ones((examples, 1, 1), bool) for m in tokens}
    fusion = build_fusion(name, features=features)
    shapes = jax.eval_shape(lambda: fusion.init(jax.random.key(0), tokens, masks, train=False))

    def loss(variables):
        return jnp.sum(fusion.apply(variables, tokens, masks, train=True).tokens ** 2)

    used = jax.jit(jax.grad(loss)).lower(shapes).compile().memory_analysis().temp_size_in_bytes
    assert used < 4 * examples * 256 * features
