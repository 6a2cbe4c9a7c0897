"""The full tensor and its low-rank form: equations, identities, and memory with six modalities."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmfuse.fusion import build_fusion
from mmfuse.fusion.spatial.multilinear import contract
from tests.reference import ORDER, SHAPES, F, expect, filled, make_batch, run

R = 3

batch = pytest.fixture(scope="module")(make_batch)


@pytest.fixture(scope="module")
def lmf(batch):
    return run(build_fusion("lmf", features=F, rank=R), batch)


def factors(p):
    """``W_m^r [D_m + 1, F]`` for every r, its first row for the one: ``{m: [R, D_m + 1, F]}``."""
    split = {}
    for m in (m for m in ORDER if f"factor_{m}" in p):
        bias, kernel = p[f"factor_{m}"]["bias"], p[f"factor_{m}"]["kernel"]
        both = np.concatenate([bias[None], kernel])
        split[m] = np.stack([both[:, r * F : (r + 1) * F] for r in range(R)])
    return split


def cp_tensor(p):
    """``W_ijkf = sum_r w_r W_1if^r W_2jf^r W_3kf^r``."""
    return np.einsum("r,rif,rjf,rkf->ijkf", p["rank_weight"], *factors(p).values())


def test_lmf_is_its_equation(batch, lmf):
    fused, p = lmf
    rows = []
    for b in range(3):
        row = p["bias"].copy()
        for r in range(R):
            product = np.ones(F)
            for m, h in filled(batch, b).items():
                product = product * (np.concatenate([[1.0], h]) @ factors(p)[m][r])
            row = row + p["rank_weight"][r] * product
        rows.append(row)
    expect(fused, [*rows, None])


def test_lmf_without_rank_weights_is_the_paper(batch, lmf):
    params = {name: x for name, x in lmf[1].items() if name != "rank_weight"}
    plain = build_fusion("lmf", features=F, rank=R, weighted=False)
    fused = plain.apply({"params": params}, *batch, train=False)
    rows = []
    for b in range(3):
        terms = [np.concatenate([[1.0], h]) @ factors(params)[m]
                 for m, h in filled(batch, b).items()]  # fmt: skip
        rows.append(params["bias"] + np.prod(terms, axis=0).sum(axis=0))
    expect(jax.device_get(fused), [*rows, None])


def test_lmf_is_the_linear_map_of_tfn_with_a_cp_tensor(batch, lmf):
    """TFN's layers are made linear: u_m = h_m where h_m >= 0, and W z + b far above zero."""
    width, above, (_, p) = 7, 50.0, lmf
    tokens = {m: np.abs(x) for m, x in batch[0].items()}
    kernel = np.zeros((width + 1,) * 3 + (F,))
    kernel[tuple(slice(SHAPES[m][2] + 1) for m in ORDER)] = cp_tensor(p)
    params = {"kernel": kernel, "bias": p["bias"] + above}
    for m in ORDER:
        params[f"factor_{m}"] = {"kernel": np.eye(SHAPES[m][2], width), "bias": np.zeros(width)}
    low = build_fusion("lmf", features=F, rank=R).apply(
        {"params": p}, tokens, batch[1], train=False
    )
    full = build_fusion("tfn", features=F, width=width)
    full = full.apply({"params": params}, tokens, batch[1], train=False)
    assert (low.tokens[:3] > -above).all()
    np.testing.assert_allclose(full.tokens[:3] - above, low.tokens[:3], atol=3e-5)


def low_rank(x, factors):
    """``sum_r prod_m W_m^r x_m`` of ``x_m [B, P_m]`` and ``W_m [R, P_m, F]``."""
    terms = [np.einsum("bi,rif->brf", a, w) for a, w in zip(x, factors, strict=True)]
    return np.prod(terms, axis=0).sum(axis=1)


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_a_tensor_of_any_rank_is_a_low_rank_sum(rank):
    rng, sizes = np.random.default_rng(rank), (6, 3, 4)
    x = [rng.standard_normal((5, size)) for size in sizes]
    w = [rng.standard_normal((rank, size, 2)) for size in sizes]
    got = contract([jnp.asarray(a) for a in x], np.einsum("rif,rjf,rkf->ijkf", *w))
    np.testing.assert_allclose(got, low_rank(x, w), atol=1e-4)


def test_a_tensor_without_structure_is_a_low_rank_sum_of_full_rank():
    """One term for every pair of entries of the two short axes, picked out by unit vectors."""
    rng, sizes = np.random.default_rng(0), (6, 3, 4)
    x = [rng.standard_normal((5, size)) for size in sizes]
    tensor = rng.standard_normal((*sizes, 2))
    second, third = np.repeat(np.eye(3), 4, axis=0), np.tile(np.eye(4), (3, 1))
    w = [tensor.reshape(6, 12, 2).swapaxes(0, 1), *(u[..., None] * np.ones(2)
                                                    for u in (second, third))]  # fmt: skip
    got = contract([jnp.asarray(a) for a in x], tensor)
    np.testing.assert_allclose(got, low_rank(x, w), atol=1e-4)


def test_lmf_without_a_modality_has_its_bias_in_the_weights(batch, lmf):
    fused, p = lmf
    # Audio is absent in example 2; w_r becomes a factor of the image, where it may differ by f.
    rest = tuple({m: x[m] for m in ("image", "text")} for x in batch)
    params = {m: p[m] for m in ("factor_image", "factor_text", "bias")}
    scale = p["rank_weight"].repeat(F) * p["factor_audio"]["bias"]
    params["factor_image"] = {name: scale * x for name, x in p["factor_image"].items()}
    without = build_fusion("lmf", features=F, rank=R, weighted=False)
    without = without.apply({"params": params}, *rest, train=False)
    np.testing.assert_allclose(fused.tokens[2], without.tokens[2], atol=1e-5)


def test_lmf_trains_every_factor(batch, lmf):
    """In public code factors sit in a plain list, or an optimiser gets a slice that skips some."""
    p = lmf[1]
    assert set(p) == {*(f"factor_{m}" for m in ORDER), "rank_weight", "bias"}
    count = sum(x.size for x in jax.tree.leaves(p))
    assert count == R * F * sum(SHAPES[m][2] + 1 for m in ORDER) + R + F


def test_lmf_starts_at_unit_scale_with_many_modalities():
    """A product of six small numbers would start at zero."""
    rng = np.random.default_rng(0)
    for number, weighted in itertools.product((1, 6), (True, False)):
        tokens = {
            f"m{i}": rng.standard_normal((64, 1, 1, 8), np.float32) / 4 for i in range(number)
        }
        masks = {m: np.ones((64, 1, 1), bool) for m in tokens}
        fusion = build_fusion("lmf", features=16, rank=8, weighted=weighted)
        fused, _ = fusion.init_with_output(jax.random.key(0), tokens, masks, train=False)
        assert 0.5 < np.std(fused.tokens) < 2


@pytest.mark.parametrize("sizes", [(4,), (4, 4), (2, 5, 3), (3, 2, 4, 2), (2, 3, 2, 3, 2, 2)])
def test_contract_is_the_outer_product_and_a_matrix(sizes):
    rng = np.random.default_rng(0)
    x = [rng.standard_normal((3, size)) for size in sizes]
    kernel = rng.standard_normal((*sizes, 5))
    outer = x[0]
    for y in x[1:]:
        outer = (outer[:, :, None] * y[:, None]).reshape(3, -1)
    got = contract([jnp.asarray(a) for a in x], jnp.asarray(kernel))
    np.testing.assert_allclose(got, outer @ kernel.reshape(-1, 5), atol=1e-4)


@pytest.mark.parametrize("name", ["tfn", "mi_three_way"])
def test_six_modalities_hold_two_parts_of_the_product(name):
    """Compiled, with gradients: temporary memory is a fraction of the whole outer product."""
    examples, width, features = 512, 4, 8
    tokens = {f"m{i}": jnp.ones((examples, 1, 1, width)) for i in range(6)}
    masks = {m: jnp.ones((examples, 1, 1), bool) for m in tokens}
    fusion = build_fusion(name, features=features, width=width)
    shapes = jax.eval_shape(
        lambda: fusion.init(jax.random.key(0), tokens, masks, train=False)["params"]
    )

    def loss(params):
        return jnp.sum(fusion.apply({"params": params}, tokens, masks, train=True).tokens ** 2)

    used = jax.jit(jax.grad(loss)).lower(shapes).compile().memory_analysis().temp_size_in_bytes
    assert shapes["kernel"].size == (width + 1) ** 6 * features
    assert used < 4 * examples * (width + 1) ** 6 / 4
