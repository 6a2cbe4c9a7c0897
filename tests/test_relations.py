"""The relation network against sums over pairs, one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmfuse.encoders.relations import RelationNetwork

B, T, F = 3, 4, 5
MASK = np.array([[1, 1, 1, 1], [1, 0, 1, 1], [0, 0, 1, 0]], bool)


@pytest.fixture
def made():
    x = np.random.default_rng(0).normal(size=(B, T, F)).astype(np.float32)
    encoder = RelationNetwork(features=6, hidden=7)
    (tokens, mask), variables = encoder.init_with_output(jax.random.key(1), x, MASK, train=False)
    return encoder, variables, x, np.asarray(tokens), np.asarray(mask)


def layer(p, name, x):
    return x @ np.asarray(p[name]["kernel"]) + np.asarray(p[name].get("bias", 0))


def test_equals_a_sum_over_pairs(made):
    _, variables, x, tokens, mask = made
    p = variables["params"]
    assert tokens.shape == (B, T, 1, 6)
    np.testing.assert_array_equal(mask[..., 0], MASK)
    for b in range(B):
        for t in range(T):
            pairs = []
            for u in range(T):
                if u != t and MASK[b, u]:
                    first = layer(p, "this", x[b, t]) + layer(p, "other", x[b, u])
                    first += layer(p, "distance", np.abs(x[b, t] - x[b, u]))
                    pairs.append(np.maximum(layer(p, "pairs", np.maximum(first, 0)), 0))
            related = np.mean(pairs, axis=0) if pairs else np.zeros(7)
            own = np.maximum(layer(p, "own", x[b, t]), 0)
            expected = layer(p, "tokens", np.concatenate([own, related])) * MASK[b, t]
            np.testing.assert_allclose(tokens[b, t, 0], expected, rtol=1e-4, atol=1e-5)


def test_order_is_nothing_and_what_is_masked_has_no_influence(made):
    encoder, variables, x, tokens, _ = made
    turned, _ = encoder.apply(variables, x[:, ::-1], MASK[:, ::-1], train=False)
    np.testing.assert_allclose(turned[:, ::-1], tokens, rtol=1e-4, atol=1e-5)
    hidden = np.where(MASK[..., None], x, np.nan).astype(np.float32)
    again, _ = encoder.apply(variables, hidden, MASK, train=False)
    np.testing.assert_array_equal(again, tokens)
    gradient = jax.grad(
        lambda x: jnp.sum(jnp.square(encoder.apply(variables, x, MASK, train=False)[0]))
    )(hidden)
    assert np.all(np.asarray(gradient)[~MASK] == 0) and np.all(np.isfinite(gradient))
