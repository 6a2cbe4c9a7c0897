"""MISA and its losses against their equations, and the zeros of the losses."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmfuse.errors import InputError
from mmfuse.fusion import build_fusion
from mmfuse.fusion.deep.subspaces import central_moments, overlap, similarity_loss
from tests.reference import (
    ORDER,
    B,
    F,
    block,
    expect,
    filled,
    linear,
    make_batch,
    norm,
    relu,
    run,
    sigmoid,
)

batch = pytest.fixture(scope="module")(make_batch)
WEIGHTS = {"similarity": 0.7, "difference": 0.3, "reconstruction": 1.3}
H = 10


def parts(p, batch, b):
    """``{m: (u, shared, private)}`` of what is present in example b."""
    there = [m for m in ORDER if batch[1][m][b].any()]
    us = {m: norm(p[f"norm_{m}"], relu(linear(p[f"project_{m}"], filled(batch, b)[m])))
          for m in there}  # fmt: skip
    return {
        m: (u, sigmoid(linear(p["shared"], u)), sigmoid(linear(p[f"private_{m}"], u)))
        for m, u in us.items()
    }


def forward(p, found):
    if not found:
        return None
    x = block(p["block_0"], np.stack([c for _, c, _ in found.values()]
                                     + [q for _, _, q in found.values()]), None, 2)  # fmt: skip
    whole = np.zeros((2, len(ORDER), H))
    for n, m in enumerate(found):
        whole[:, ORDER.index(m)] = x[n], x[len(found) + n]
    return relu(linear(p["fuse"], whole.ravel()))


def moments(rows):
    x = np.stack(rows)
    return [x.mean(axis=0), *(((x - x.mean(axis=0)) ** k).mean(axis=0) for k in range(2, 6))]


def cmd(x, y):
    return sum(np.linalg.norm(a - b) for a, b in zip(moments(x), moments(y), strict=True))


def rows_of(examples, m, part):
    return [found[m][part] for found in examples if m in found]


def product(examples, first, second):
    """``|X^T Y|^2 / H^2`` over the examples that have both; each is (modality, part)."""
    both = [found for found in examples if first[0] in found and second[0] in found]
    sides = []
    for m, part in (first, second):
        x = np.stack([found[m][part] for found in both])
        x = x - x.mean(axis=0)
        sides.append(x / np.linalg.norm(x, axis=1, keepdims=True))
    return np.sum((sides[0].T @ sides[1]) ** 2) / H**2


def test_misa_is_its_equation_with_its_three_losses(batch):
    fusion = build_fusion("misa", features=F, hidden=H, **WEIGHTS)
    fused, p = run(fusion, batch)
    examples = [parts(p, batch, b) for b in range(B)]
    expect(fused, [forward(p, found) for found in examples])
    weights = fused.weights["subspaces<-subspaces"]
    assert weights.shape == (B, 2, 6, 6)
    assert np.all(weights[2, :, :, [0, 3]] == 0)  # Audio is absent in example 2.
    assert fused.losses == {}

    losses = jax.jit(lambda p: fusion.apply({"params": p}, *batch, train=True).losses)(p)
    pairs = list(itertools.combinations(ORDER, 2))
    similarity = np.mean([cmd(rows_of(examples, m, 1), rows_of(examples, n, 1)) for m, n in pairs])
    difference = sum(product(examples, (m, 1), (m, 2)) for m in ORDER)
    difference += sum(product(examples, (m, 2), (n, 2)) for m, n in pairs)
    for name, value in (("similarity", similarity), ("difference", difference)):
        expected = WEIGHTS[name] * value * np.array([1, 1, 1, 0])
        np.testing.assert_allclose(losses[name], expected, atol=1e-5)
    for b, found in enumerate(examples):
        errors = [np.mean((u - linear(p["decode"], c + q)) ** 2) for u, c, q in found.values()]
        expected = WEIGHTS["reconstruction"] * np.mean(errors) if errors else 0
        np.testing.assert_allclose(losses["reconstruction"][b], expected, atol=1e-5)
    assert set(losses) == set(WEIGHTS)


def test_a_loss_with_weight_zero_is_not_there(batch):
    one = tuple({"text": part["text"]} for part in batch)

    def traced(batch, **fields):
        fusion = build_fusion("misa", features=F, hidden=H, **fields)
        fused, variables = jax.eval_shape(
            lambda key: fusion.init_with_output(key, *batch, train=True), jax.random.key(0)
        )
        return set(fused.losses), "decode" in variables["params"]

    assert traced(batch, similarity=0.0, reconstruction=0.0) == ({"difference"}, False)
    assert traced(batch, difference=0.0) == ({"similarity", "reconstruction"}, True)
    # One modality has nobody to be similar to.
    assert traced(one) == ({"difference", "reconstruction"}, True)
    with pytest.raises(InputError, match="moments=0"):
        traced(batch, moments=0)


def test_cmd_is_zero_between_equal_samples_and_the_shift_between_shifted_ones():
    x = np.random.default_rng(0).random((7, 4)).astype(np.float32)
    there = np.ones((2, 7), bool)
    value, gradient = jax.jit(jax.value_and_grad(lambda x: similarity_loss(x, there, 5)))(
        jnp.stack([x, x[::-1]])  # The order of the examples does not matter.
    )
    np.testing.assert_allclose(value, 0, atol=1e-6)
    assert np.isfinite(gradient).all()
    # Central moments do not move with the mean: only the first term is left.
    shifted = similarity_loss(np.stack([x, x + np.float32(0.25)]), there, 5)
    np.testing.assert_allclose(shifted, 0.25 * np.sqrt(4), atol=1e-5)
    # Who has no example has no moments; a pair without one is left out.
    assert similarity_loss(np.stack([x, x + 1]), there & np.array([[True], [False]]), 5) == 0


def test_moments_are_over_the_examples_that_are_there():
    x = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)
    there = np.array([True, False, True, True, False, True])
    noisy = np.where(there[:, None], x, 100)
    expected = moments(x[there])
    np.testing.assert_allclose(central_moments(noisy, there, 5), expected, atol=1e-5)


def test_overlap_is_zero_for_uncorrelated_rows_and_largest_for_equal_ones():
    x = np.array([1, 1, -1, -1], np.float32)[:, None]
    y = np.array([1, -1, 1, -1], np.float32)[:, None]
    every = np.ones(4, bool)
    measure = jax.jit(jax.value_and_grad(overlap))
    np.testing.assert_allclose(measure(x + 3, y - 2, every)[0], 0, atol=1e-6)
    np.testing.assert_allclose(measure(x + 3, 2 * x, every)[0], 4**2, rtol=1e-5)
    # One example is its own mean: no direction, and no NaN.
    value, gradient = measure(x, y, np.arange(4) == 0)
    assert value == 0
    assert np.isfinite(gradient).all()
