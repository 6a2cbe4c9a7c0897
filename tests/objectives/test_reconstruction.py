"""Reconstruction, MFM and MVAE against numpy, and the decoder of each kind of input."""

import jax
import numpy as np
import pytest

from mmfuse.decoders import PictureCNN
from mmfuse.errors import InputError
from mmfuse.fusion.base import one_token
from mmfuse.objectives.reconstruction import (
    BLOCKS,
    MFM,
    MVAE,
    Decode,
    Reconstruction,
    discrepancy,
)
from tests.objectives.rig import FAST, seen, told
from tests.reference import ORDER, B, linear, make_batch, means, relu, softmax

RNG = np.random.default_rng(0)
Z = RNG.standard_normal((2, 5), np.float32)


def decode(module, x, mask):
    """(errors, parameters) of a decoder."""
    params = jax.jit(lambda: module.init(jax.random.key(0), Z, x, mask)["params"],
                     compiler_options=FAST)()  # fmt: skip
    run = jax.jit(lambda x: module.apply({"params": params}, Z, x, mask), compiler_options=FAST)
    return np.asarray(run(x)), jax.tree.map(lambda p: np.asarray(p, float), params), run


def affine(p, z):
    return linear(p["affine"], relu(linear(p["hidden"], z)))


def test_words_are_a_distribution_over_the_vocabulary():
    x = np.array([[3, 1, 2], [4, 0, 0]], np.int32)
    mask = np.array([[True, True, False], [False] * 3])
    error, p, _ = decode(Decode(words=5, hidden=4), x, mask)
    log_p = np.log(softmax(affine(p, Z[0])))
    assert error[0] == pytest.approx(-(log_p[3] + log_p[1]) / 2, rel=1e-5)
    assert error[1] == 0


def test_vectors_have_a_mean_squared_error():
    x, mask = RNG.standard_normal((2, 3), np.float32), np.array([[True], [False]])
    error, p, _ = decode(Decode(hidden=4), x, mask)
    assert error[0] == pytest.approx(np.mean((affine(p, Z[0]) - x[0]) ** 2), rel=1e-5)
    assert error[1] == 0


@pytest.mark.parametrize("shape", [(2, 6, 3), (2, 6, 3, 1), (2, 6, 5, 3)])
def test_pictures_and_frames_count_what_is_there(shape):
    frames = len(shape) == 3 or shape[-1] == 1
    x = RNG.standard_normal(shape, np.float32)
    mask = np.ones((2, 6 if frames else 1), bool)
    mask[0, 4:], mask[1] = False, False
    error, p, run = decode(Decode(), x, mask)
    cnn = PictureCNN(shape[1:] if len(shape) == 4 else (*shape[1:], 1), BLOCKS)
    made = cnn.apply({"params": jax.tree.map(np.float32, p["picture"])}, one_token(Z, mask[:, 0]))
    square = (np.asarray(made[0], float).reshape(shape[1:]) - x[0]) ** 2
    assert error[0] == pytest.approx(square[:4].mean() if frames else square.mean(), rel=1e-4)
    assert error[1] == 0
    x[1], x[0, 4:] = 9, 9 if frames else x[0, 4:]
    np.testing.assert_array_equal(run(x), error)


def errors(p, codes):
    """Mean squared errors of the modalities of each example that are there, {m: error}."""
    what, (_, masks) = seen(), make_batch()
    return [
        {m: np.mean((affine(p[f"decode_{m}"], codes(m, b)) - what.batch["inputs"][m][b]) ** 2)
         for m in ORDER if masks[m][b].any()} for b in range(B)
    ]  # fmt: skip


def mean(values):
    return sum(values) / max(len(values), 1)


def test_reconstruction_is_from_what_is_fused():
    found, p = told(Reconstruction(weight=0.3), seen())
    f = seen().fused.tokens[:, 0, 0].astype(float)
    expected = [0.3 * mean(each.values()) for each in errors(p, lambda m, b: f[b])]
    np.testing.assert_allclose(found.loss, expected, rtol=1e-4, atol=1e-6)
    assert found.loss[3] == 0


def kernel(x, y):
    return np.exp(-np.sum((x - y) ** 2, axis=-1) / (2 * x.shape[-1]))


def apart(z):
    """The discrepancy with both expectations over the prior by sampling."""
    rng = np.random.default_rng(5)
    e, other = rng.standard_normal((2, 200_000, z.shape[1]))
    among = np.mean([[kernel(a, b) for b in z] for a in z])
    return among - 2 * np.mean([kernel(a, e).mean() for a in z]) + kernel(e, other).mean()


def test_the_discrepancy_to_the_prior_is_that_of_samples():
    z = np.random.default_rng(0).standard_normal((6, 3)) + 0.7
    there = np.array([1, 1, 0, 1, 1, 1], bool)
    junk = np.where(there[:, None], z, np.nan)
    found = float(discrepancy(np.float32(junk), there))
    assert found == pytest.approx(apart(z[there]), abs=2e-3)
    many = np.random.default_rng(1).standard_normal((3000, 3)).astype(np.float32)
    assert 0 <= float(discrepancy(many, np.ones(3000, bool))) < 1e-3
    assert float(discrepancy(many + 1, np.ones(3000, bool))) > 0.05
    assert float(discrepancy(many, np.zeros(3000, bool))) == 0


def test_mfm_has_factors_of_its_own_and_a_shared_one():
    what = seen()
    found, p = told(MFM(weight=0.5, features=3, prior=0.2), what)
    shared = linear(p["shared"], what.fused.tokens[:, 0, 0].astype(float))
    own = {
        (m, b): linear(p[f"own_{m}"], relu(linear(p[f"hidden_{m}"], x)))
        for b in range(B)
        for m, x in means(make_batch(), b).items()
        if x is not None
    }
    factors = [np.stack([z for (n, _), z in own.items() if n == m]) for m in ORDER] + [shared]
    apart = np.mean([float(discrepancy(np.float32(z), np.ones(len(z), bool))) for z in factors])
    each = errors(p, lambda m, b: np.concatenate([own[m, b], shared[b]]))
    expected = [0.5 * (mean(e.values()) + 0.2 * apart) for e in each]
    np.testing.assert_allclose(found.loss, expected, rtol=1e-4)


class Certain(MVAE):
    """It draws the mean."""

    def _drawn(self, mean, precision):
        return mean


def test_mvae_is_gaussian_algebra():
    """Posteriors by Bayes' rule on dense covariances: the prior, then expert after expert."""
    found, p = told(Certain(weight=0.5, features=2, beta=0.3), seen())

    def posterior(b, names):
        mu, cov = np.zeros(2), np.eye(2)
        for m in names:
            x = means(make_batch(), b)[m]
            belief = linear(p[f"expert_{m}"], relu(linear(p[f"hidden_{m}"], x)))
            noise = np.diag(np.exp(belief[2:]))
            gain = cov @ np.linalg.inv(cov + noise)  # Kalman: observe mu_m with this noise
            mu, cov = mu + gain @ (belief[:2] - mu), cov - gain @ cov
        return mu, cov

    def kl(mu, cov):
        return 0.5 * (mu @ mu + np.trace(cov) - len(mu) - np.log(np.linalg.det(cov)))

    for b in range(B):
        there = [m for m in ORDER if means(make_batch(), b)[m] is not None]
        x = {m: seen().batch["inputs"][m][b] for m in ORDER}
        mu, cov = posterior(b, there)
        expected = mean([np.mean((affine(p[f"decode_{m}"], mu) - x[m]) ** 2) for m in there])
        expected += 0.3 * kl(mu, cov)
        alone = []
        for m in there:
            one, cov = posterior(b, [m])
            error = np.mean((affine(p[f"decode_{m}"], one) - x[m]) ** 2)
            alone.append(error + 0.3 * kl(one, cov))
        assert found.loss[b] == pytest.approx(0.5 * (expected + mean(alone)), rel=1e-4)
    assert found.loss[3] == 0


def test_words_need_an_encoder_that_says_how_many():
    what = seen()
    what.batch["inputs"]["text"] = np.zeros((B, 1), np.int32)
    with pytest.raises(InputError, match="'text' has no 'vocab_size'"):
        Reconstruction().init(jax.random.key(0), what)
