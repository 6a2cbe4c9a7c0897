"""The product of experts against its equation, and against densities multiplied on a grid."""

import jax
import numpy as np
import pytest

from mmfuse.fusion import build_fusion
from mmfuse.fusion.spatial.experts import kl_from_unit, product_of_gaussians
from tests.reference import F, expect, linear, make_batch, means, relu, run

batch = pytest.fixture(scope="module")(make_batch)


@pytest.fixture(scope="module")
def poe(batch):
    return run(build_fusion("poe", features=F, hidden=5), batch)


def posterior(p, batch, b):
    """``{m: (mu_m, T_m)}`` of the modalities present in example b."""
    experts = {}
    for m, h in means(batch, b).items():
        if h is not None:
            out = linear(p[f"expert_{m}"], relu(linear(p[f"hidden_{m}"], h)))
            experts[m] = out[:F], 1 / np.exp(out[F:])
    return experts


def test_poe_is_its_equation(batch, poe):
    fused, p = poe
    rows = []
    for b in range(3):
        experts = posterior(p, batch, b)
        total = 1 + sum(t for _, t in experts.values())
        rows.append(sum(t * mu for mu, t in experts.values()) / total)
        for m in batch[0]:
            share = experts[m][1] / total if m in experts else np.zeros(F)
            np.testing.assert_allclose(fused.weights[m][b], share, atol=1e-6)
    expect(fused, [*rows, None])
    assert fused.losses == {}


def test_a_product_of_densities_on_a_grid_is_the_same_gaussian():
    z = np.linspace(-12, 12, 20_001)

    def density(mu, precision):
        return np.exp(-precision * (z - mu) ** 2 / 2) * np.sqrt(precision / 2 / np.pi)

    means_, precisions = {"a": 1.5, "b": -0.7}, {"a": 0.3, "b": 4.0}
    q = density(0, 1) * density(1.5, 0.3) * density(-0.7, 4.0)
    q /= q.sum()
    mean, precision = product_of_gaussians(means_, precisions)
    np.testing.assert_allclose(mean, q @ z, atol=1e-6)
    np.testing.assert_allclose(1 / precision, q @ (z - mean) ** 2, atol=1e-6)
    dz = z[1] - z[0]
    kl = np.sum(q * np.log(np.maximum(q, 1e-300) / dz / density(0, 1)))
    got = kl_from_unit(np.array([mean], np.float32), np.array([precision], np.float32))
    np.testing.assert_allclose(got, kl, atol=1e-5)


def test_an_absent_modality_is_a_model_without_it(batch, poe):
    fused, p = poe
    part = tuple({m: x[m] for m in ("image", "text")} for x in batch)
    without = {name: x for name, x in p.items() if not name.endswith("audio")}
    fusion = build_fusion("poe", features=F, hidden=5)
    alone = fusion.apply({"params": without}, *part, train=False)
    # Audio is absent in example 2, and everything in 3.
    np.testing.assert_allclose(fused.tokens[2:], alone.tokens[2:], atol=1e-6)
    assert np.abs(fused.tokens[:2] - alone.tokens[:2]).max() > 1e-3
    assert np.all(fused.weights["audio"][2] == 0)
    np.testing.assert_array_equal(fused.tokens[3], 0)  # The prior alone.


def test_training_adds_the_divergence_from_the_prior(batch, poe):
    p = poe[1]
    fused = build_fusion("poe", features=F, hidden=5, beta=0.1).apply(
        {"params": p}, *batch, train=True
    )
    np.testing.assert_allclose(fused.tokens, poe[0].tokens, atol=1e-5)  # Still the mean.
    kl = []
    for b in range(4):
        experts = posterior(p, batch, b)
        variance = 1 / (1 + sum(t for _, t in experts.values()))
        mu = variance * sum(t * mu for mu, t in experts.values())
        kl.append(np.sum(mu**2 + variance - 1 - np.log(variance)) / 2 * np.ones(F)[0])
    np.testing.assert_allclose(fused.losses["kl"], 0.1 * np.array(kl), atol=1e-5)
    off = build_fusion("poe", features=F, hidden=5, beta=0.0).apply(
        {"params": p}, *batch, train=True
    )
    assert off.losses == {}


def test_a_sample_has_the_mean_and_variance_of_the_product(batch, poe):
    fusion = build_fusion("poe", features=F, hidden=5, sample=True)

    @jax.jit
    @jax.vmap
    def draw(key):
        fused = fusion.apply({"params": poe[1]}, *batch, train=True, rngs={"dropout": key})
        return fused.tokens[:, 0, 0]

    z = np.asarray(draw(jax.random.split(jax.random.key(0), 4000)), float)
    for b in range(4):
        experts = posterior(poe[1], batch, b)
        precision = 1 + sum(t for _, t in experts.values())
        np.testing.assert_allclose(z[:, b].mean(axis=0), poe[0].tokens[b, 0, 0], atol=0.07)
        np.testing.assert_allclose(z[:, b].var(axis=0) * precision, 1, atol=0.12)
    still = fusion.apply({"params": poe[1]}, *batch, train=False)
    np.testing.assert_allclose(still.tokens, poe[0].tokens, atol=1e-6)
