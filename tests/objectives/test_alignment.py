"""Contrastive alignment and deep CCA against numpy and known answers."""

import itertools

import jax
import numpy as np
import pytest

from mmfuse.objectives.alignment import Contrastive, DeepCCA, canonical, total_correlation
from tests.objectives.rig import FAST, seen, told
from tests.reference import ORDER, B, linear, make_batch, means

BOTH = np.ones(4000, bool)


def info_nce(p, batch, temperature):
    """Example by example and pair by pair."""
    losses = np.zeros(B)
    u = [{m: linear(p[m], x) / np.linalg.norm(linear(p[m], x))
          for m, x in means(batch, b).items() if x is not None} for b in range(B)]  # fmt: skip
    pairs = list(itertools.combinations(ORDER, 2))
    for m, n in pairs:
        there = [b for b in range(B) if m in u[b] and n in u[b]]
        for b in there:
            for one, other in ((m, n), (n, m)):
                logits = [u[b][one] @ u[c][other] / temperature for c in there]
                own = u[b][one] @ u[b][other] / temperature
                losses[b] += (np.log(np.sum(np.exp(logits))) - own) / 2 / len(pairs)
    return losses


def test_contrastive_is_its_equation():
    tokens, masks = make_batch()
    masks["text"][1] = False  # so that either side of a pair is absent somewhere
    objective = Contrastive(weight=0.7, temperature=0.3, features=6)
    found, p = told(objective, seen(masks=masks))
    expected = info_nce(p, (tokens, masks), 0.3)
    np.testing.assert_allclose(found.loss, 0.7 * expected, rtol=1e-4, atol=1e-6)
    assert found.loss[3] == 0 and expected[0] > 0.1


@pytest.mark.parametrize("objective", [Contrastive(features=3), DeepCCA(features=2)])
def test_absent_modalities_have_no_influence(objective):
    tokens, masks = make_batch()
    junk = {m: np.where(masks[m][..., None], x, 1e3) for m, x in tokens.items()}
    clean, dirty = (told(objective, seen(tokens=t))[0] for t in (tokens, junk))
    np.testing.assert_array_equal(clean.loss, dirty.loss)

    params = jax.tree.map(np.float32, told(objective, seen())[1])

    def total(t):
        return objective.apply({"params": params}, seen(tokens=t)).loss.sum()

    grads = jax.jit(jax.grad(total), compiler_options=FAST)(junk)
    for m, g in grads.items():
        assert np.isfinite(g).all()
        assert np.all(g[~masks[m]] == 0)


def reference(x, y, ridge):
    """Canonical correlations as generalised eigenvalues of the regularised covariances."""
    x, y, scale = x - x.mean(0), y - y.mean(0), len(x) - 1
    xx, yy = (v.T @ v / scale + ridge * np.eye(v.shape[1]) for v in (x, y))
    xy = x.T @ y / scale
    squares = np.linalg.eigvals(np.linalg.solve(xx, xy) @ np.linalg.solve(yy, xy.T)).real
    return np.sqrt(np.clip(squares, 0, None)).sum()


def gaussians(n, correlations=(0.9, 0.5), seed=0):
    """Rows with these canonical correlations, hidden by an affine map."""
    rng = np.random.default_rng(seed)
    shared, r = rng.standard_normal((n, 2)), np.array(correlations)
    x, y = (np.sqrt(r) * shared + np.sqrt(1 - r) * rng.standard_normal((n, 2)) for _ in range(2))
    return (np.float32(v @ rng.standard_normal((2, 2)) + 1) for v in (x, y))


def test_total_correlation_of_gaussians_is_known():
    x, y = gaussians(len(BOTH))
    found = float(total_correlation(x, y, BOTH, 1e-6))
    assert found == pytest.approx(1.4, abs=0.05)
    assert found == pytest.approx(reference(x, y, 0), abs=1e-3)
    assert float(total_correlation(x, x, BOTH, 1e-6)) == pytest.approx(2, abs=1e-3)


def test_rows_without_a_pair_are_left_out():
    x, y = gaussians(30)
    both = np.arange(30) % 3 > 0
    x[~both], y[both & False] = np.nan, np.nan
    expected = reference(x[both].astype(float), y[both].astype(float), 0.1)
    assert float(total_correlation(x, y, both, 0.1)) == pytest.approx(expected, rel=1e-4)
    for few in (0, 1):
        assert float(total_correlation(x, y, np.arange(30) < few, 0.1)) == 0


def test_deep_cca_is_the_negative_total_correlation_of_a_batch():
    rng = np.random.default_rng(3)
    size = 25
    tokens = {m: rng.standard_normal((size, 2, 1, 4), np.float32) for m in "abc"}
    masks = {m: np.ones((size, 2, 1), bool) for m in "abc"}
    batch = {"weight": np.ones(size, np.float32)}
    found, p = told(DeepCCA(weight=0.5, features=3, ridge=0.01),
                    seen(tokens=tokens, masks=masks, batch=batch))  # fmt: skip
    x = {m: linear(p[m], tokens[m].mean((1, 2)).astype(float)) for m in "abc"}
    pairs = [reference(x[m], x[n], 0.01) for m, n in ("ab", "ac", "bc")]
    np.testing.assert_allclose(found.loss, -0.5 * np.mean(pairs), rtol=1e-4)
    assert found.loss.shape == (size,)


def test_the_gradient_of_the_correlation_is_that_of_differences():
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        a, b = (v @ v.T + np.eye(3) for v in rng.standard_normal((2, 3, 3)))
        c = rng.standard_normal((3, 3))
        for place in range(3):
            args, way = [a, c, b], rng.standard_normal((3, 3))
            way = way if place == 1 else way + way.T
            slope = np.sum(jax.grad(canonical, place)(*args) * way)
            ends = []
            for sign in (1, -1):
                moved = [v + sign * 1e-5 * way * (i == place) for i, v in enumerate(args)]
                ends.append(float(canonical(*moved)))
            assert slope == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6)


def test_equal_singular_values_have_a_finite_gradient():
    x = np.float32(np.linalg.qr(np.random.default_rng(0).standard_normal((12, 3)))[0])
    slope = jax.grad(lambda v: total_correlation(v, x, np.ones(12, bool), 1e-3))(x)
    assert np.isfinite(slope).all()
