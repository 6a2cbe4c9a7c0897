import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmfuse.recurrent import LSTM

B, T, D, F = 3, 6, 5, 4


@pytest.fixture
def x():
    return np.random.default_rng(0).standard_normal((B, T, D), np.float32)


def flax_params(params):
    """Our three arrays as the eight layers of flax's cell, gates in the order i, f, g, o."""
    cell = {}
    for i, gate in enumerate("ifgo"):
        part = slice(F * i, F * i + F)
        cell[f"i{gate}"] = {"kernel": params["input"][:, part]}
        cell[f"h{gate}"] = {
            "kernel": params["recurrent"][:, part],
            "bias": params["bias"][part],
        }
    return {"params": {"cell": cell}}


@pytest.mark.parametrize("reverse", [False, True])
def test_equals_flax_in_values_and_gradients(x, reverse):
    ours = LSTM(F, reverse=reverse)
    theirs = nn.RNN(nn.OptimizedLSTMCell(F), reverse=reverse, keep_order=True, return_carry=True)
    mask = np.ones((B, T), bool)
    params = ours.init(jax.random.key(0), x, mask)["params"]
    params = jax.tree.map(lambda p: p + 0.1, params)

    def loss(params, x):
        outputs, last = ours.apply({"params": params}, x, mask)
        return jnp.sum(jnp.sin(outputs)) + jnp.sum(last**2), (outputs, last)

    def reference(params, x):
        (_, last), outputs = theirs.apply(flax_params(params), x)
        return jnp.sum(jnp.sin(outputs)) + jnp.sum(last**2), (outputs, last)

    results = [
        jax.jit(jax.value_and_grad(f, argnums=(0, 1), has_aux=True))(params, x)
        for f in (loss, reference)
    ]
    for a, b in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_padding_and_holes_change_nothing(x):
    module = LSTM(F)
    mask = np.ones((B, T), bool)
    variables = module.init(jax.random.key(0), x, mask)
    # Two steps in front, one hole, three behind, all of them NaN.
    places = [2, 3, 5, 6, 7, 8]
    longer = np.full((B, 12, D), np.nan, np.float32)
    longer[:, places] = x
    sparse = np.isin(np.arange(12), places)[None].repeat(B, 0)

    def run(params, x, mask):
        outputs, last = module.apply({"params": params}, x, mask)
        return jnp.sum(outputs**2) + jnp.sum(last), (outputs, last)

    step = jax.jit(jax.grad(run, argnums=(0, 1), has_aux=True))
    grads, (outputs, last) = step(variables["params"], x, mask)
    grads2, (outputs2, last2) = step(variables["params"], longer, sparse)
    np.testing.assert_allclose(outputs2[:, places], outputs, atol=1e-6)
    np.testing.assert_allclose(last2, last, atol=1e-6)
    assert np.all(np.asarray(outputs2)[~sparse] == 0)
    for a, b in zip(jax.tree.leaves(grads[0]), jax.tree.leaves(grads2[0]), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    np.testing.assert_allclose(grads2[1][:, places], grads[1], atol=1e-5)
    assert np.all(np.asarray(grads2[1])[~sparse] == 0)


def test_last_is_the_output_of_the_last_step_that_counts(x):
    mask = np.arange(T)[None] < np.array([6, 3, 0])[:, None]
    module = LSTM(F)
    outputs, last = module.init_with_output(jax.random.key(0), x, mask)[0]
    np.testing.assert_array_equal(last[0], outputs[0, 5])
    np.testing.assert_array_equal(last[1], outputs[1, 2])
    np.testing.assert_array_equal(last[2], np.zeros(F))


def test_replicas_under_vmap_equal_each_alone_and_dtype_is_kept(x):
    module, mask = LSTM(F), np.ones((B, T), bool)
    keys = jax.random.split(jax.random.key(0), 2)
    stacked = jax.vmap(lambda key: module.init(key, x, mask))(keys)
    outputs, _ = jax.vmap(module.apply, in_axes=(0, None, None))(stacked, x, mask)
    alone, _ = module.apply(jax.tree.map(lambda p: p[1], stacked), x, mask)
    np.testing.assert_allclose(outputs[1], alone, atol=1e-6)
    half = jax.eval_shape(
        module.apply, jax.tree.map(lambda p: p[0], stacked), jnp.bfloat16(x), mask
    )
    assert [y.dtype for y in half] == [jnp.bfloat16, jnp.bfloat16]


def test_forget_gate_starts_open(x):
    bias = LSTM(F).init(jax.random.key(0), x, np.ones((B, T), bool))["params"]["bias"]
    np.testing.assert_array_equal(bias, np.repeat([0, 1, 0, 0], F))
