"""FLOPs and bytes against counts by hand."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from jax import lax

from mmfuse.convolution import conv2d, conv_relu_pool, products
from mmfuse.cost import activation_bytes, count_flops, count_parameters
from mmfuse.fusion import build_fusion
from mmfuse.recurrent import lstm_step


def spec(*shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


def test_parameters():
    assert count_parameters({"a": spec(2, 3), "b": [jnp.ones(4), spec()]}) == 6 + 4 + 1


def test_dense_layer():
    def dense(x, w, b):
        return nn.relu(x @ w + b[None])

    assert count_flops(dense, spec(8, 5), spec(5, 7), spec(7)) == 2 * 8 * 5 * 7 + 56 + 56


def test_batched_product():
    def product(a, b):
        return jnp.einsum("bij,bjk->bik", a, b)

    assert count_flops(product, spec(4, 3, 5), spec(4, 5, 6)) == 2 * 4 * 3 * 5 * 6


def test_convolution_in_both_forms():
    x, kernel = spec(2, 8, 8, 3), spec(3, 3, 3, 4)
    for as_products in (True, False):
        with products(as_products):
            assert count_flops(conv2d, x, kernel) == 2 * (2 * 64) * 27 * 4


def test_convolution_block_in_the_form_of_accelerators():
    def block(a, k, b):
        return conv_relu_pool(a, k, b, jnp.ones((2, 4), bool))

    pooled = 2 * 4 * 4 * 4
    with products(False):
        flops = count_flops(block, spec(2, 8, 8, 3), spec(3, 3, 3, 4), spec(4))
    # convolution; pool (reads 2 * 64 * 4); bias, relu and mask
    assert flops == 2 * 128 * 27 * 4 + 512 + 3 * pooled


def test_grouped_convolution():
    def conv(x, k):
        return lax.conv_general_dilated(
            x, k, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"), feature_group_count=2
        )

    assert count_flops(conv, spec(3, 10, 4), spec(5, 2, 6)) == 2 * (3 * 10 * 6) * 5 * 2


def test_attention():
    def attend(q, k, v):
        return jax.nn.softmax(q @ k.T, axis=-1) @ v

    q, n, d = 4, 6, 8
    # logits; softmax = max, subtract, exp, sum, divide (the max may meet -inf once more); values
    expected = 2 * q * n * d + 5 * q * n + 2 * q * n * d
    counted = count_flops(attend, spec(q, d), spec(n, d), spec(n, d))
    assert expected <= counted <= expected + q


def test_scan_counts_its_length_and_equals_the_unrolled_loop():
    def layer(x, w):
        return jnp.tanh(x @ w), None

    def scanned(x, ws):
        return lax.scan(layer, x, ws)[0]

    def unrolled(x, ws):
        for i in range(10):
            x, _ = layer(x, ws[i])
        return x

    x, ws = spec(8, 16), spec(10, 16, 16)
    once = count_flops(lambda x, w: layer(x, w)[0], x, spec(16, 16))
    assert once == 2 * 8 * 16 * 16 + 8 * 16
    assert count_flops(scanned, x, ws) == count_flops(unrolled, x, ws) == 10 * once
    assert count_flops(jax.jit(jax.checkpoint(scanned)), x, ws) == 10 * once


def test_gradient_of_a_product_is_twice_its_forward_pass():
    def loss(w, x):
        return (x @ w).sum()

    x, w = spec(8, 5), spec(5, 7)
    assert count_flops(jax.grad(loss), w, x) == 2 * 8 * 5 * 7  # the loss itself is dead code

    def both(w, x):
        return jax.vjp(lambda w, x: x @ w, w, x)[1](jnp.ones((8, 7)))

    assert count_flops(both, w, x) == 2 * 2 * 8 * 5 * 7


def test_lstm_step():
    batch, inputs, features = 3, 5, 4

    def step(x, c, h, w_x, w_h):
        return lstm_step((c, h), x @ w_x + h @ w_h)

    state = spec(batch, features)
    flops = count_flops(
        step,
        spec(batch, inputs),
        state,
        state,
        spec(inputs, 4 * features),
        spec(features, 4 * features),
    )
    products = 2 * batch * (inputs + features) * 4 * features
    # sum of both products; 3 sigmoid, 2 tanh; 3 products and a sum
    assert flops == products + 4 * batch * features + 9 * batch * features


def test_branches_dead_code_movement_and_random_bits():
    def branches(i, x):
        return lax.cond(i > 0, lambda x: jnp.sin(jnp.cos(x)), jnp.exp, x)

    assert count_flops(branches, spec(dtype=jnp.int32), spec(9)) == 1 + 2 * 9

    def dead(x):
        _ = x @ x
        return x + 1

    assert count_flops(dead, spec(4, 4)) == 16

    def move(x):
        return jnp.concatenate([x.T.reshape(-1), x[1].astype(jnp.float16)])

    assert count_flops(move, spec(4, 4)) == 0
    assert count_flops(lambda k: jax.random.bits(k, (5,)), jax.random.key(0)) == 0


def test_reductions_cumulative_operations_and_scatters():
    x = spec(4, 6)
    assert count_flops(lambda x: x.max(), x) == 24
    assert count_flops(lambda x: jnp.cumsum(x, axis=1), x) == 24
    assert count_flops(lambda x: x.argmax(1), x) == 24
    assert count_flops(lambda x: nn.max_pool(x, (2, 2), (2, 2)), spec(3, 4, 6, 5)) == 3 * 24 * 5

    def add(x, i, y):
        return x.at[i].add(y, mode="drop", wrap_negative_indices=False)

    assert count_flops(add, x, spec(3, dtype=jnp.int32), spec(3, 6)) == 18


@pytest.mark.parametrize(
    ("transform", "flops"),
    [
        (jnp.fft.fft, 3 * 5 * 8 * 3),  # three of 8 complex numbers: 5 N log2 N each
        (jnp.fft.rfft, 3 * 5 * 8 * 3 // 2),
        (lambda x: jnp.fft.irfft(x, n=8), 3 * 5 * 8 * 3 // 2),
        (jnp.fft.fft2, 5 * 24 * math.log2(24)),
    ],
)
def test_fourier_transforms(transform, flops):
    complex_input = transform is not jnp.fft.rfft
    columns = 5 if transform not in (jnp.fft.fft, jnp.fft.rfft, jnp.fft.fft2) else 8
    x = spec(3, columns, dtype=jnp.complex64 if complex_input else jnp.float32)
    jaxpr = jax.make_jaxpr(transform)(x)
    assert "fft" in str(jaxpr)
    assert count_flops(transform, x) == round(flops)


def test_what_cannot_be_counted_is_refused():
    with pytest.raises(ValueError, match="no rule for 'cholesky'"):
        count_flops(jnp.linalg.cholesky, spec(3, 3))
    with pytest.raises(ValueError, match="while loop"):
        count_flops(lambda x: lax.while_loop(lambda x: x < 9, lambda x: x + 1, x), 0)


def test_activation_bytes_of_an_mlp():
    def loss(params, x):
        hidden = jnp.tanh(x @ params["a"])
        return (hidden @ params["b"]).sum()

    params, x = {"a": spec(5, 16), "b": spec(16, 3)}, spec(8, 5)
    # the output of tanh for b, and 1 - tanh^2 (or its factor 1 - tanh) for a; x, a, b are given
    assert activation_bytes(loss, params, x) == 2 * 8 * 16 * 4

    def linear(params, x):
        return (x @ params["a"] @ params["b"]).sum()

    assert activation_bytes(linear, params, x) == 8 * 16 * 4
    assert activation_bytes(lambda p, x: (x @ p).sum(), spec(5, 7), x) == 0


@pytest.mark.parametrize("name", ["tfn", "mi_three_way", "tucker"])
def test_a_tensor_of_weights_does_not_count_for_every_example(name):
    fusion = build_fusion(name, features=16, width=8)

    def kept(examples):
        tokens = {m: spec(examples, 1, 1, 6) for m in "abc"}
        masks = {m: spec(examples, 1, 1, dtype=bool) for m in tokens}
        params = jax.eval_shape(
            lambda *batch: fusion.init(jax.random.key(0), *batch, train=False)["params"],
            tokens, masks,
        )  # fmt: skip

        def loss(params, *batch):
            return fusion.apply({"params": params}, *batch, train=False).tokens.sum()

        return activation_bytes(loss, params, tokens, masks)

    assert kept(10) == pytest.approx(10 * kept(1), rel=0.02)
    assert kept(1) < 4 * 9**3
