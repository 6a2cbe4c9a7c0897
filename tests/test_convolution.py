"""Convolution as products against scipy, lax.conv and PyTorch's rule for odd sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import signal

from mmfuse.convolution import conv2d, conv_relu_pool, max_pool, products, takes_products

SIZES = [(8, 6, 3), (7, 9, 3), (9, 8, 5), (6, 5, 1), (6, 7, 2), (9, 8, 4)]


def draw(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def scipy_conv(x, kernel, mode):
    out = [
        sum(
            signal.correlate2d(picture[..., c], kernel[:, :, c, o], mode)
            for c in range(kernel.shape[2])
        )
        for picture in x
        for o in range(kernel.shape[3])
    ]
    return np.stack(out).reshape(len(x), kernel.shape[3], *out[0].shape).transpose(0, 2, 3, 1)


def blocks_by_hand(x, kernel, bias, mask):
    """conv, bias, relu, then pool, in this order, by scipy and loops."""
    y = np.maximum(scipy_conv(x, kernel, "same") + bias, 0)
    height, width = y.shape[1] // 2, y.shape[2] // 2
    pooled = [
        [y[:, 2 * h : 2 * h + 2, 2 * w : 2 * w + 2].max((1, 2)) for w in range(width)]
        for h in range(height)
    ]
    return np.array(pooled).transpose(2, 0, 1, 3) * mask[:, :, None, None]


def test_the_cpu_takes_products_unless_told_otherwise():
    assert takes_products()
    with products(False):
        assert not takes_products()
    assert takes_products()


def test_a_jitted_convolution_follows_the_forced_form():
    jitted = jax.jit(conv2d)
    shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((1, 4, 4, 1), (3, 3, 1, 1))]
    assert "dot" in jitted.lower(*shapes).as_text()
    with products(False):
        assert "stablehlo.convolution" in jitted.lower(*shapes).as_text()
    assert "stablehlo.convolution" not in jitted.lower(*shapes).as_text()


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("size", [3, 5])
def test_conv2d_equals_scipy(padding, size):
    x, kernel = draw((2, 9, 8, 3)), draw((size, size, 3, 4), 1)
    np.testing.assert_allclose(
        conv2d(x, kernel, padding=padding),
        scipy_conv(x, kernel, padding.lower()),
        rtol=1e-5,
        atol=2e-5,
    )


def test_conv2d_takes_uneven_kernels_as_lax_does():
    x, kernel = draw((2, 9, 8, 3)), draw((4, 1, 3, 4), 1)
    with products(False):
        expected = conv2d(x, kernel)
    np.testing.assert_allclose(conv2d(x, kernel), expected, rtol=1e-5, atol=1e-5)


def test_conv2d_refuses_unknown_padding():
    with pytest.raises(ValueError, match="'SAME' and 'VALID'"):
        conv2d(draw((1, 4, 4, 1)), draw((3, 3, 1, 1)), padding="same")


def test_max_pool_drops_the_odd_end():
    x = jnp.arange(15.0).reshape(1, 3, 5, 1)
    np.testing.assert_array_equal(max_pool(x)[0, :, :, 0], [[6, 8]])
    np.testing.assert_array_equal(max_pool(x, 3)[0, :, :, 0], [[12]])


@pytest.mark.parametrize("as_products", [True, False])
@pytest.mark.parametrize("size", [3, 5])
def test_block_equals_scipy(as_products, size):
    x, kernel, bias = draw((2, 9, 6, 3)), draw((size, size, 3, 4), 1), draw(4, 2)
    mask = np.array([[True, True, False, True], [False, True, True, True]])
    with products(as_products):
        y = conv_relu_pool(x, kernel, bias, mask)
    expected = blocks_by_hand(x, kernel, bias, mask)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize(("height", "width", "size"), SIZES)
def test_block_has_the_values_and_gradients_of_lax_conv(height, width, size):
    x, kernel, bias = draw((2, height, width, 3)), draw((size, size, 3, 5), 1) / size, draw(5, 2)
    weight = draw((2, height // 2, width // 2, 5), 3)
    mask = np.ones((2, height // 2), bool)

    def run(as_products):
        with products(as_products):
            y, pullback = jax.vjp(lambda *a: conv_relu_pool(*a, mask), x, kernel, bias)
        return y, *pullback(weight)

    for ours, theirs in zip(run(True), run(False), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_vmap_over_replicas_equals_each_replica():
    x, kernel, bias = draw((3, 2, 6, 6, 2)), draw((3, 3, 3, 2, 4), 1), draw((3, 4), 2)
    mask = np.ones((3, 2, 3), bool)
    together = jax.vmap(conv_relu_pool)(x, kernel, bias, mask)
    for r in range(3):
        alone = conv_relu_pool(x[r], kernel[r], bias[r], mask[r])
        np.testing.assert_allclose(together[r], alone, rtol=1e-6, atol=1e-6)
