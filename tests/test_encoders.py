"""Encoders against numpy and scipy with the weights carried over, and exact masks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import signal

from mmfuse.encoders import ENCODERS, build_encoder
from mmfuse.encoders.frames import FrameMLP
from mmfuse.encoders.pictures import ImageCNN, SpectrogramCNN
from mmfuse.errors import InputError

D = 5
T = 8
KEEP = np.array([[1, 1, 1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1, 1, 1], [0] * 8], bool)

# name -> (fields, shape of one example's input, T', S')
CASES = {
    "image_cnn": ({"channels": (3, 4), "kernel": (5, 3)}, (9, 8, 2), 1, 4),
    "spectrogram_cnn": ({"channels": (3, 4)}, (T, 9, 1), 2, 2),
    "audio_lstm": ({}, (T, 6), T, 1),
    "text_lstm": ({"vocab_size": 11, "embed": 4}, (T,), T, 1),
    "text_local": ({"vocab_size": 11, "embed": 4}, (T,), T, 1),
    "embedding": ({"vocab_size": 11}, (T,), T, 1),
    "mlp": ({"hidden": 7, "group": 2}, (T, 6), T // 2, 1),
    "relations": ({"hidden": 7}, (T, 6), T, 1),
}


def draw(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def setup(name, seed=2):
    """The encoder, random parameters, an input and its mask; the third example is absent."""
    fields, shape, *_ = CASES[name]
    encoder = build_encoder(name, features=D, **fields)
    if name.startswith(("text", "embedding")):
        x = np.random.default_rng(1).integers(1, 11, (3, *shape)).astype(np.int32)
    else:
        x = draw((3, *shape), 1)
    mask = np.array([[True], [True], [False]]) if name == "image_cnn" else KEEP
    shapes = jax.eval_shape(lambda k: encoder.init(k, x, mask, train=True), jax.random.key(0))
    return encoder, jax.tree.map(lambda p: 0.3 * draw(p.shape, seed), shapes), x, mask


def encode(encoder, params, x, mask):
    return jax.jit(encoder.apply, static_argnames="train")(params, x, mask, train=False)


def numpy_block(x, params):
    """conv, bias, relu, 2 x 2 pool, in this order: [B, H, W, C] -> [B, H // 2, W // 2, O]."""
    kernel, bias = np.asarray(params["kernel"]), np.asarray(params["bias"])
    y = np.zeros((*x.shape[:3], len(bias)), np.float32) + bias
    for b, c, o in np.ndindex(len(x), *kernel.shape[2:]):
        y[b, :, :, o] += signal.correlate2d(x[b, :, :, c], kernel[:, :, c, o], "same")
    h, w = y.shape[1] // 2, y.shape[2] // 2
    y = np.maximum(y, 0)[:, : 2 * h, : 2 * w]
    return np.maximum(
        np.maximum(y[:, ::2, ::2], y[:, ::2, 1::2]), np.maximum(y[:, 1::2, ::2], y[:, 1::2, 1::2])
    )


def place_dense(x, params):
    """One product a place: [B, T, S, C] -> [B, T, S, D]."""
    kernel, bias = np.asarray(params["kernel"]), np.asarray(params["bias"])
    y = np.zeros((*x.shape[:3], len(bias)), np.float32)
    for t, s in np.ndindex(*x.shape[1:3]):
        y[:, t, s] = x[:, t, s] @ kernel[t, s] + bias
    return y


def dense(x, params):
    return x @ np.asarray(params["kernel"]) + np.asarray(params["bias"])


@pytest.mark.parametrize("name", CASES)
def test_shapes_types_and_the_pooled_mask(name):
    encoder, params, x, mask = setup(name)
    tokens, out = jax.eval_shape(lambda p: encoder.apply(p, x, mask, train=True), params)
    _, _, steps, space = CASES[name]
    assert tokens.shape == (3, steps, space, D)
    assert tokens.dtype == jnp.float32
    assert (out.shape, out.dtype) == ((3, steps, space), bool)
    tokens, out = encode(encoder, params, x, mask)
    expected = mask.reshape(3, steps, -1).any(-1)
    np.testing.assert_array_equal(out, np.broadcast_to(expected[:, :, None], out.shape))
    assert (np.asarray(tokens)[~np.asarray(out)] == 0).all()
    assert (np.asarray(tokens)[np.asarray(out)] != 0).any(-1).all()


@pytest.mark.parametrize("name", CASES)
def test_masked_input_has_no_influence_on_values_and_gradients(name):
    encoder, params, x, mask = setup(name)
    masked = ~mask.reshape(3, -1, *[1] * (x.ndim - 2))
    other = np.where(masked, 3 if x.dtype == np.int32 else np.nan, x).astype(x.dtype)

    @jax.jit
    def run(params, x):
        def loss(params):
            tokens, _ = encode(encoder, params, x, mask)
            return (tokens * jnp.sin(jnp.arange(tokens.size)).reshape(tokens.shape)).sum(), tokens

        return jax.grad(loss, has_aux=True)(params)

    jax.tree.map(np.testing.assert_array_equal, run(params, x), run(params, other))
    for gradient in jax.tree.leaves(run(params, other)[0]):
        assert np.isfinite(gradient).all()
        assert np.abs(gradient).max() > 0


@pytest.mark.parametrize("name", ["audio_lstm", "spectrogram_cnn", "mlp"])
def test_gradient_at_masked_input_is_exactly_zero(name):
    encoder, params, x, mask = setup(name)
    gradient = jax.grad(lambda x: (encoder.apply(params, x, mask, train=True)[0] ** 2).sum())(x)
    assert (np.asarray(gradient)[~mask] == 0).all()
    assert (np.abs(np.asarray(gradient)[mask]).reshape(mask.sum(), -1).max(-1) > 0).all()


@pytest.mark.parametrize("name", [name for name in CASES if name != "image_cnn"])
def test_more_padding_changes_nothing(name):
    encoder, params, x, mask = setup(name)
    longer = np.concatenate([x, np.ones_like(x)], 1)
    tokens, _ = encode(encoder, params, x, mask)
    if name == "spectrogram_cnn":  # its last layer has weights for each place: give it more places
        place = params["params"]["PlaceDense_0"]
        place["kernel"] = np.concatenate([place["kernel"]] * 2)
    more, out = encode(encoder, params, longer, np.concatenate([mask, ~mask & mask], 1))
    np.testing.assert_allclose(more[:, : tokens.shape[1]], tokens, rtol=1e-6, atol=1e-6)
    assert not out[:, tokens.shape[1] :].any()


def test_image_cnn_equals_scipy():
    encoder, params, x, mask = setup("image_cnn")
    p = params["params"]
    y = numpy_block(numpy_block(x, p["ConvBlock_0"]), p["ConvBlock_1"])
    expected = place_dense(y.reshape(3, 1, 4, 4), p["PlaceDense_0"])[:2]
    tokens, _ = encode(encoder, params, x, mask)
    np.testing.assert_allclose(tokens[:2], expected, rtol=1e-4, atol=1e-5)


def test_spectrogram_cnn_equals_scipy_on_zeroed_frames():
    encoder, params, x, mask = setup("spectrogram_cnn")
    p, keep = params["params"], mask[:, :, None, None]
    y = numpy_block(x * keep, p["ConvBlock_0"])
    y = y * keep.reshape(3, 4, 2, 1, 1).any(2)
    y = numpy_block(y, p["ConvBlock_1"])
    expected = place_dense(y, p["PlaceDense_0"]) * keep.reshape(3, 2, 4, 1, 1).any(2)
    tokens, _ = encode(encoder, params, x, mask)
    np.testing.assert_allclose(tokens, expected, rtol=1e-4, atol=1e-5)


def test_mlp_equals_numpy_and_takes_vectors():
    encoder, params, x, mask = setup("mlp")
    p = params["params"]
    frames = (x * mask[:, :, None]).reshape(3, T // 2, 12)
    hidden = np.maximum(dense(frames, p["Dense_0"]), 0)
    expected = dense(hidden, p["Dense_1"]) * mask.reshape(3, -1, 2).any(-1)[:, :, None]
    tokens, _ = encode(encoder, params, x, mask)
    np.testing.assert_allclose(tokens[:, :, 0], expected, rtol=1e-5, atol=1e-5)
    vectors = FrameMLP(D)
    one = np.ones((3, 1), bool)
    params = vectors.init(jax.random.key(0), x[:, 0], one, train=False)
    flat, out = vectors.apply(params, x[:, 0], one, train=False)
    assert flat.shape == (3, 1, 1, D)
    assert out.shape == (3, 1, 1)
    np.testing.assert_array_equal(flat, vectors.apply(params, x[:, :1], one, train=False)[0])


def test_mlp_fills_the_last_group_with_zeros():
    x, mask = draw((2, 7, 3)), np.ones((2, 7), bool)
    params = FrameMLP(D, group=4).init(jax.random.key(0), x, mask, train=False)
    short = FrameMLP(D, group=4).apply(params, x, mask, train=False)
    full = np.concatenate([x, np.zeros((2, 1, 3), np.float32)], 1)
    longer = FrameMLP(D, group=4).apply(params, full, np.ones((2, 8), bool), train=False)
    jax.tree.map(np.testing.assert_array_equal, short, longer)


def test_text_local_equals_numpy():
    encoder, params, x, mask = setup("text_local")
    p = params["params"]
    embedded = np.asarray(p["Embed_0"]["embedding"])[x]
    hidden = np.maximum(dense(embedded, p["Dense_0"]), 0)
    tokens, _ = encode(encoder, params, x, mask)
    expected = dense(hidden, p["Dense_1"]) * mask[:, :, None]
    np.testing.assert_allclose(tokens[:, :, 0], expected, rtol=1e-5, atol=1e-5)


def test_an_embedding_looks_up():
    encoder, params, x, mask = setup("embedding")
    tokens, found = encode(encoder, params, x, mask)
    vectors = np.asarray(params["params"]["Embed_0"]["embedding"])
    assert vectors.shape == (11, D)
    np.testing.assert_array_equal(tokens[:, :, 0], vectors[x] * mask[:, :, None])
    np.testing.assert_array_equal(found[:, :, 0], mask)


@pytest.mark.parametrize("name", ["text_lstm", "text_local", "audio_lstm", "mlp", "embedding"])
def test_which_encoders_are_local_in_time(name):
    encoder, params, x, mask = setup(name)
    other = x.copy()
    other[:, 0] = x[:, 2]
    before, _ = encode(encoder, params, x, mask)
    after, _ = encode(encoder, params, other, mask)
    changed = (np.asarray(before) != np.asarray(after)).any((0, 2, 3))
    assert changed[0]
    assert changed[1:].any() == name.endswith("lstm")


def test_lenet_plan_of_av_mnist():
    image = ImageCNN(64, channels=(6, 12, 24), kernel=(5, 3, 3))
    audio = SpectrogramCNN(64, channels=(6, 12, 24, 48, 96), kernel=(5, 3, 3, 3, 3))
    key = jax.random.key(0)
    for encoder, size, steps in ((image, 28, 1), (audio, 112, 3)):
        x = jax.ShapeDtypeStruct((2, size, size, 1), jnp.float32)
        mask = jax.ShapeDtypeStruct((2, 1 if size == 28 else size), bool)
        (tokens, _), _ = jax.eval_shape(
            lambda x, m, e=encoder: e.init_with_output(key, x, m, train=True), x, mask
        )
        assert tokens.shape == (2, steps, 9 // steps, 64)


def test_vmap_over_replicas_equals_each_replica():
    encoder, first, x, mask = setup("image_cnn")
    second = setup("image_cnn", seed=3)[1]
    both = jax.tree.map(lambda *p: np.stack(p), first, second)
    together, _ = jax.jit(jax.vmap(lambda p: encoder.apply(p, x, mask, train=True)))(both)
    for r, params in enumerate((first, second)):
        alone, _ = encode(encoder, params, x, mask)
        np.testing.assert_allclose(together[r], alone, rtol=1e-5, atol=1e-6)


def test_bad_names_and_fields_get_one_line():
    with pytest.raises(
        InputError, match=r"unknown encoder 'audio_lstn'.*did you mean 'audio_lstm'"
    ):
        build_encoder("audio_lstn", features=4)
    with pytest.raises(InputError, match=r"'mlp' has no field 'hiden'.*did you mean 'hidden'"):
        build_encoder("mlp", features=4, hiden=3)
    with pytest.raises(InputError, match="'text_lstm' needs the field 'vocab_size'"):
        build_encoder("text_lstm", features=4)
    for fields, message in (
        ({"kernel": (5, 3, 3)}, "differ in length"),
        ({"channels": (2, 2, 2, 2)}, "too small to pool"),
    ):
        encoder = build_encoder("image_cnn", features=4, **fields)
        with pytest.raises(InputError, match=message):
            jax.eval_shape(
                lambda k, e=encoder: e.init(
                    k, draw((1, 8, 8, 1)), np.ones((1, 1), bool), train=True
                ),
                jax.random.key(0),
            )
    assert {*CASES, "tied"} == set(ENCODERS)  # that one is tried with its heads
