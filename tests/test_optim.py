import jax
import numpy as np
import optax
import pytest

from mmfuse import optim


def test_constant_schedule_after_a_warm_up():
    schedule = optim.make_schedule("constant", 0.4, 20, 4)
    found = [float(schedule(s)) for s in (0, 1, 2, 3, 4, 10, 19)]
    assert found == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.4, 0.4])
    assert [float(optim.make_schedule("constant", 0.4, 20, 0)(s)) for s in (0, 19)] == [
        pytest.approx(0.4)
    ] * 2


def test_cosine_schedule_falls_to_zero_at_the_last_step():
    schedule = optim.make_schedule("cosine", 0.2, 12, 2)
    after = lambda s: 0.2 * 0.5 * (1 + np.cos(np.pi * (s - 2) / 10))  # noqa: E731
    expected = [0, 0.1] + [after(s) for s in range(2, 13)]
    assert [float(schedule(s)) for s in range(13)] == pytest.approx(expected, abs=1e-7)
    assert float(schedule(12)) == pytest.approx(0, abs=1e-8)


def test_a_warm_up_longer_than_training_is_cut():
    schedule = optim.make_schedule("cosine", 1.0, 3, 50)
    assert [float(schedule(s)) for s in range(3)] == pytest.approx([0, 0.5, 1.0])
    assert np.isfinite(float(optim.make_schedule("cosine", 1.0, 1, 5)(0)))


PARAMS = {
    "kernel": np.array([[1.0, -2.0], [3.0, 0.5]], np.float32),
    "bias": np.array([1.0, 1.0], np.float32),
    "scale": np.float32(2.0),
}


def moved(optimizer, grads, steps=1):
    params, state = PARAMS, optimizer.init(PARAMS)
    for _ in range(steps):
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    return jax.tree.map(np.asarray, params)


def make(name, lr=0.1, **fields):
    fields = {"weight_decay": 0.0, "clip_norm": 0.0, "momentum": 0.0} | fields
    return optim.make_optimizer(name, optax.constant_schedule(lr), **fields)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_decay_acts_on_kernels_only(name):
    zeros = jax.tree.map(np.zeros_like, PARAMS)
    found = moved(make(name, weight_decay=0.5), zeros)
    np.testing.assert_allclose(found["kernel"], PARAMS["kernel"] * (1 - 0.1 * 0.5), rtol=1e-6)
    np.testing.assert_array_equal(found["bias"], PARAMS["bias"])
    np.testing.assert_array_equal(found["scale"], PARAMS["scale"])


def test_clipping_by_the_global_norm():
    three = np.full((2, 2), 3, np.float32)
    grads = {"kernel": three, "bias": np.zeros(2, np.float32), "scale": np.float32(8.0)}
    found = moved(make("sgd", lr=1.0, clip_norm=5.0), grads)  # norm 10, halved
    np.testing.assert_allclose(PARAMS["kernel"] - found["kernel"], 1.5, rtol=1e-6)
    np.testing.assert_allclose(PARAMS["scale"] - found["scale"], 4.0, rtol=1e-6)
    for norm in (0.0, 20.0):  # off, or not reached
        found = moved(make("sgd", lr=1.0, clip_norm=norm), grads)
        np.testing.assert_allclose(PARAMS["kernel"] - found["kernel"], 3.0, rtol=1e-6)


def test_sgd_with_momentum_by_hand():
    grads = jax.tree.map(np.ones_like, PARAMS)
    found = moved(make("sgd", lr=0.1, momentum=0.9), grads, steps=3)
    travelled = 0.1 * (1 + 1.9 + 2.71)
    np.testing.assert_allclose(PARAMS["bias"] - found["bias"], travelled, rtol=1e-5)


def test_adamw_by_hand():
    rng = np.random.default_rng(2)
    g = rng.normal(size=(2, 2)).astype(np.float32)
    grads = jax.tree.map(np.zeros_like, PARAMS) | {"kernel": g}
    found = moved(make("adamw", lr=0.01, weight_decay=0.1), grads, steps=2)["kernel"]
    x, m, v = PARAMS["kernel"].astype(float), 0, 0
    for t in (1, 2):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        step = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        x = x - 0.01 * (step + 0.1 * x)
    np.testing.assert_allclose(found, x, rtol=1e-5)


def test_adam_minimises_the_loss_and_its_penalty():
    """Two steps by hand: the decay is part of the gradient, of kernels alone, and is normalised."""
    grads = {"kernel": np.full((2, 2), 0.3, np.float32), "bias": np.ones(2, np.float32)}
    grads["scale"] = np.float32(0)
    found = moved(make("adam", lr=0.01, weight_decay=0.1), grads, steps=2)
    kernel, m, v = PARAMS["kernel"].astype(np.float64), 0, 0
    for step in (1, 2):
        g = grads["kernel"] + 0.1 * kernel
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        kernel -= 0.01 * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
    np.testing.assert_allclose(found["kernel"], kernel, rtol=1e-5)
    np.testing.assert_allclose(found["bias"], PARAMS["bias"] - 0.02, rtol=1e-5)
    assert found["scale"] == PARAMS["scale"]
