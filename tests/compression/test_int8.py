"""Eight-bit kernels: rounding, scales, and the gradient through them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmfuse.compression import Facts, build_compression, forms
from mmfuse.compression.int8 import packed, quantised, rounded, scales, straight_through


@pytest.fixture
def kernel():
    random = np.random.default_rng(0)
    w = random.normal(size=(3, 3, 7, 20)) * 10 ** random.uniform(-4, 3, size=20)
    w[..., 4] = 0
    return jnp.asarray(w, jnp.float32)


def test_the_error_is_at_most_half_a_scale_and_the_largest_weight_is_127(kernel):
    q, s = quantised(kernel)
    exact = np.abs(np.asarray(kernel, np.float64)).max((0, 1, 2)) / 127
    s = np.asarray(s, np.float64)
    live = np.arange(20) != 4
    assert (s[live] >= exact[live] * (1 - 1e-7)).all() and (s[live] < exact[live] * 1.0001).all()
    error = np.abs(np.asarray(rounded(kernel), np.float64) - np.asarray(kernel, np.float64))
    assert (error <= s / 2 * (1 + 1e-6)).all()
    np.testing.assert_array_equal(np.abs(q).max((0, 1, 2))[live], 127)
    np.testing.assert_array_equal(rounded(kernel)[..., 4], 0)


def test_doing_it_twice_changes_no_bit_and_the_stored_form_gives_the_same(kernel):
    once = rounded(kernel)
    np.testing.assert_array_equal(rounded(once), once)
    np.testing.assert_array_equal(scales(once), scales(kernel))
    stored = packed(np.asarray(once))
    assert stored.values.dtype == np.int8 and stored.scale.dtype == np.float32
    np.testing.assert_array_equal(stored.ready(), once)
    # Exact products: the same in float64.
    wide = stored.values.astype(np.float64) * stored.scale.astype(np.float64)
    np.testing.assert_array_equal(np.asarray(once, np.float64), wide)


def test_aware_training_sees_what_is_kept_after_it_and_the_gradient_passes(kernel):
    tree = {"layer": {"kernel": kernel, "bias": jnp.arange(20.0)}}
    aware = build_compression({"name": "int8_aware", "begin": 0.5}, "row", Facts(steps=10))
    after = build_compression({"name": "int8"}, "row").after(tree)
    jax.tree.map(np.testing.assert_array_equal, aware.during(tree, jnp.int32(5)), after)
    jax.tree.map(np.testing.assert_array_equal, aware.after(tree), after)
    jax.tree.map(np.testing.assert_array_equal, aware.during(tree, jnp.int32(4)), tree)
    gradient = jax.grad(lambda w: jnp.sum(jnp.sin(straight_through(w))))(kernel)
    np.testing.assert_allclose(gradient, np.cos(rounded(kernel)), rtol=1e-5, atol=1e-6)


def test_one_byte_a_weight_and_a_scale_a_channel(kernel):
    tree = {"layer": {"kernel": np.asarray(kernel), "bias": np.zeros(20, np.float32)}}
    stored = build_compression({"name": "int8"}, "row").packed(tree)
    assert forms.stored_bytes(stored) == kernel.size + 4 * 20 + 4 * 20
    assert list(forms.stored(stored)) == [
        "layer/bias", "layer/kernel.values", "layer/kernel.scale",
    ]  # fmt: skip
