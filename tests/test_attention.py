import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmfuse.attention import (
    MultiHeadAttention,
    TransformerBlock,
    attend,
    cross_attention,
    self_attention,
    sinusoidal_positions,
)
from mmfuse.errors import InputError

B, Q, N, K, D = 2, 3, 5, 4, 6


@pytest.fixture
def qkv():
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal(s, np.float32) for s in ((B, Q, K), (B, N, K), (B, N, D)))
    mask = np.array([[1, 1, 0, 1, 0], [0, 1, 1, 1, 1]], bool)
    return q, k, v, mask


def reference(q, k, v, mask, scale):
    """Numpy in float64, one query at a time, over the unmasked keys only."""
    out = np.zeros((*q.shape[:2], v.shape[-1]))
    weights = np.zeros((*q.shape[:2], k.shape[1]))
    for b, i in np.ndindex(*q.shape[:2]):
        keys = np.flatnonzero(mask[b] if mask.ndim == 2 else mask[b, i])
        if keys.size:
            logits = scale * np.array([np.dot(q[b, i].astype(float), k[b, j]) for j in keys])
            e = np.exp(logits - logits.max())
            weights[b, i, keys] = e / e.sum()
            out[b, i] = sum(w * v[b, j] for w, j in zip(e / e.sum(), keys, strict=True))
    return out, weights


def test_attend_is_the_equation(qkv):
    q, k, v, mask = qkv
    out, weights = attend(q, k, v, mask, scale=0.7)
    expected = reference(q, k, v, mask, 0.7)
    np.testing.assert_allclose(out, expected[0], atol=1e-6)
    np.testing.assert_allclose(weights, expected[1], atol=1e-6)
    assert np.all(np.asarray(weights)[~np.broadcast_to(mask[:, None], weights.shape)] == 0)


def test_attend_takes_a_mask_per_query(qkv):
    q, k, v, _ = qkv
    mask = np.random.default_rng(1).random((B, Q, N)) < 0.5
    out, weights = attend(q, k, v, mask, scale=1.0)
    np.testing.assert_allclose(out, reference(q, k, v, mask, 1.0)[0], atol=1e-6)
    np.testing.assert_allclose(weights, reference(q, k, v, mask, 1.0)[1], atol=1e-6)


def test_attend_equals_jax_in_values_and_gradients(qkv):
    q, k, v, mask = qkv
    v = v[..., :K]
    target = np.random.default_rng(2).standard_normal((B, Q, K), np.float32)

    def ours(q, k, v):
        return jnp.sum(attend(q, k, v, mask, scale=0.5)[0] * target)

    def jaxs(q, k, v):
        heads = [x[:, :, None] for x in (q, k, v)]
        out = jax.nn.dot_product_attention(*heads, mask=mask[:, None, None], scale=0.5)
        return jnp.sum(out[:, :, 0] * target)

    (a, grads), (b, expected) = (
        jax.jit(jax.value_and_grad(f, argnums=(0, 1, 2)))(q, k, v) for f in (ours, jaxs)
    )
    np.testing.assert_allclose(a, b, rtol=1e-5)
    for grad, other in zip(grads, expected, strict=True):
        np.testing.assert_allclose(grad, other, atol=1e-5)


def test_masked_keys_have_no_influence_on_values_or_gradients(qkv):
    q, k, v, mask = qkv

    def loss(q, k, v):
        return jnp.sum(jnp.sin(attend(q, k, v, mask, scale=1.0)[0]))

    step = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))
    value, grads = step(q, k, v)
    noise = np.where(mask[..., None], 0, 1e4).astype(np.float32)
    other, grads2 = step(q, k + noise, v - noise)
    assert value == other
    for a, b in zip(grads, grads2, strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.all(np.asarray(grads[1])[~mask] == 0)
    assert np.all(np.asarray(grads[2])[~mask] == 0)


def test_a_row_without_keys_is_zero_with_zero_gradient(qkv):
    q, k, v, mask = qkv
    mask = mask & np.array([[False], [True]])

    def loss(q, k, v):
        out, weights = attend(q, k, v, mask, scale=1.0)
        return jnp.sum(out**2) + jnp.sum(weights**2), (out, weights)

    grads, (out, weights) = jax.grad(loss, argnums=(0, 1, 2), has_aux=True)(q, k, v)
    assert np.all(np.asarray(out[0]) == 0)
    assert np.all(np.asarray(weights[0]) == 0)
    assert all(np.all(np.asarray(g[0]) == 0) and np.isfinite(g).all() for g in grads)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_is_safe_and_keeps_its_dtype(qkv, dtype):
    q, k, v, mask = qkv
    # 200 * 200 * 4 features overflows float16, were the logits kept in it.
    big = jnp.full(q.shape, 200, dtype), jnp.full(k.shape, 200, dtype)
    out, weights = attend(*big, v.astype(dtype), mask, scale=1.0)
    assert out.dtype == weights.dtype == dtype
    mean = np.stack([v[b][mask[b]].mean(axis=0) for b in range(B)])
    np.testing.assert_allclose(out.astype(np.float32)[:, 0], mean, atol=0.02)
    out, _ = attend(q.astype(dtype), k.astype(dtype), v.astype(dtype), mask, scale=1.0)
    np.testing.assert_allclose(out.astype(np.float32), reference(q, k, v, mask, 1.0)[0], atol=0.05)


def test_theta_zero_is_the_masked_mean(qkv):
    _, _, v, mask = qkv
    s, weights = self_attention(v, mask, 0.0)
    mean = np.stack([v[b][mask[b]].mean(axis=0) for b in range(B)])
    np.testing.assert_allclose(s, np.broadcast_to(mean[:, None], s.shape), atol=1e-6)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-6)


def test_large_theta_picks_the_nearest_key(qkv):
    q, k, _, mask = qkv
    s, _ = cross_attention(q, k, mask, 1e4)
    logits = np.where(mask[:, None], np.einsum("bqd,bnd->bqn", q, k), -np.inf)
    best = np.take_along_axis(k, logits.argmax(-1)[..., None], axis=1)
    np.testing.assert_allclose(s, best, atol=1e-5)


def test_article_forms_are_the_equations_and_theta_is_differentiable(qkv):
    q, k, v, mask = qkv
    expected, weights = reference(v, v, v, mask, 0.3)
    s, a = self_attention(v, mask, 0.3)
    np.testing.assert_allclose(s, expected, atol=1e-6)
    np.testing.assert_allclose(a, weights, atol=1e-6)
    np.testing.assert_allclose(
        cross_attention(q, k, mask, 0.3)[0], reference(q, k, k, mask, 0.3)[0], atol=1e-6
    )
    total = lambda theta: cross_attention(q, k, mask, theta)[0].sum()  # noqa: E731
    slope = (reference(q, k, k, mask, 0.301)[0] - reference(q, k, k, mask, 0.299)[0]).sum() / 0.002
    np.testing.assert_allclose(jax.grad(total)(jnp.float32(0.3)), slope, rtol=1e-3)


def test_multi_head_attention_is_attend_per_head(qkv):
    q, _, v, mask = qkv
    module = MultiHeadAttention(features=8, heads=2)
    variables = module.init(jax.random.key(0), q, v, mask, train=False)
    out, weights = module.apply(variables, q, v, mask, train=False)
    p = jax.tree.map(lambda x: np.asarray(x, float), variables["params"])
    heads = []
    for h in range(2):
        part = slice(4 * h, 4 * h + 4)
        projected = [
            x @ p[n]["kernel"][:, part]
            for n, x in zip(("query", "key", "value"), (q, v, v), strict=True)
        ]
        s, a = reference(*projected, mask, 0.5)
        np.testing.assert_allclose(weights[:, h], a, atol=1e-6)
        heads.append(s)
    expected = np.concatenate(heads, axis=-1) @ p["out"]["kernel"] + p["out"]["bias"]
    np.testing.assert_allclose(out, expected, atol=1e-5)
    assert set(p) == {"query", "key", "value", "out"}
    assert set(p["key"]) == {"kernel"}


def test_features_must_divide_by_heads(qkv):
    q, _, v, mask = qkv
    with pytest.raises(InputError, match=r"features=10.*heads=4"):
        MultiHeadAttention(10, 4).init(jax.random.key(0), q, v, mask, train=False)


def test_dropout_acts_in_training_only_and_by_its_key(qkv):
    _, _, v, mask = qkv
    block = TransformerBlock(heads=2, dropout=0.5)
    variables = block.init(jax.random.key(0), v, mask, train=False)
    apply = jax.jit(
        lambda key, train: block.apply(variables, v, mask, train=train, rngs={"dropout": key}),
        static_argnums=1,
    )
    a, b = (apply(jax.random.key(i), True)[0] for i in (1, 1))
    np.testing.assert_array_equal(a, b)
    assert np.any(np.asarray(a) != np.asarray(apply(jax.random.key(2), True)[0]))
    still = block.apply(variables, v, mask, train=False)[0]
    np.testing.assert_allclose(apply(jax.random.key(3), False)[0], still, atol=1e-6)


def test_block_is_its_equation(qkv):
    q, _, v, mask = qkv
    block = TransformerBlock(heads=1, widening=3)
    variables = block.init(jax.random.key(0), q, mask, v, train=False)
    out, weights = block.apply(variables, q, mask, v, train=False)
    p = jax.tree.map(np.asarray, variables["params"])

    def norm(x, name):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return x * p[name]["scale"] + p[name]["bias"]

    a = p["attention"]
    source = norm(v, "norm_source")
    s, expected = reference(
        norm(q, "norm_query") @ a["query"]["kernel"],
        source @ a["key"]["kernel"],
        source @ a["value"]["kernel"],
        mask,
        K**-0.5,
    )
    y = q + s @ a["out"]["kernel"] + a["out"]["bias"]
    h = norm(y, "norm_mlp") @ p["up"]["kernel"] + p["up"]["bias"]
    y = y + np.asarray(jax.nn.gelu(h)) @ p["down"]["kernel"] + p["down"]["bias"]
    np.testing.assert_allclose(weights[:, 0], expected, atol=1e-5)
    np.testing.assert_allclose(out, y, atol=1e-5)
    assert p["up"]["kernel"].shape == (K, 3 * K)


def test_the_hidden_width_of_a_block_is_its_field_or_a_multiple_of_the_features(qkv):
    q, _, _, mask = qkv
    mask = mask[:, :Q]
    for fields, width in (({}, 2 * K), ({"widening": 3}, 3 * K), ({"widening": 3, "hidden": 5}, 5)):
        block = TransformerBlock(heads=1, **fields)
        shapes = jax.eval_shape(
            lambda key, block=block: block.init(key, q, mask, train=False), jax.random.key(0)
        )
        assert shapes["params"]["up"]["kernel"].shape == (K, width)
        assert shapes["params"]["down"]["kernel"].shape == (width, K)


def test_positions_are_the_formula():
    p = sinusoidal_positions(7, 6)
    assert p.shape == (7, 6)
    assert p.dtype == np.float32
    for t, i in np.ndindex(7, 3):
        angle = t / 10_000 ** (2 * i / 6)
        np.testing.assert_allclose(
            p[t, 2 * i : 2 * i + 2], [np.sin(angle), np.cos(angle)], atol=1e-6
        )
    # The product of two positions depends on their distance only.
    products = p @ p.T
    np.testing.assert_allclose(np.diag(products, 2), products[0, 2], rtol=1e-5)
    assert sinusoidal_positions(3, 5).shape == (3, 5)
