"""The model, its head, and which encoders it builds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmfuse.decoders import PooledHead
from mmfuse.encoders import build_encoder
from mmfuse.errors import InputError
from mmfuse.fusion import Fused, build_fusion
from mmfuse.model import FusionModel, modalities_read

SHAPES = {"b": (4, 3, 5), "a": (4, 6)}


def model(fusion, **fields):
    encoders = {m: build_encoder("mlp", features=6, hidden=7) for m in SHAPES}
    return FusionModel(encoders, build_fusion(fusion, **fields), PooledHead(3))


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    inputs = {m: rng.normal(size=s).astype(np.float32) for m, s in SHAPES.items()}
    return inputs, {"b": np.ones((4, 3), bool), "a": np.ones((4, 1), bool)}


def variables(model, batch):
    return model.init(jax.random.key(0), *batch, train=False)


def test_head_is_one_affine_map_of_the_masked_mean():
    rng = np.random.default_rng(1)
    tokens = rng.normal(size=(2, 3, 2, 4)).astype(np.float32)
    mask = np.array([[[1, 1], [0, 1], [0, 0]], [[0, 0], [0, 0], [1, 0]]], bool)
    fused = Fused(jnp.asarray(tokens), jnp.asarray(mask))
    params = {
        "affine": {
            "kernel": rng.normal(size=(4, 3)).astype(np.float32),
            "bias": rng.normal(size=3).astype(np.float32),
        }
    }
    found = PooledHead(3).apply({"params": params}, fused)
    for b in range(2):
        mean = np.mean([tokens[b, t, s] for t, s in zip(*np.nonzero(mask[b]), strict=True)], axis=0)
        expected = mean @ params["affine"]["kernel"] + params["affine"]["bias"]
        np.testing.assert_allclose(found[b], expected, rtol=1e-4, atol=1e-5)


def test_model_is_encoders_then_fusion_then_head(batch):
    whole = model("concat", features=6, hidden=8)
    params = variables(whole, batch)["params"]
    assert set(params) == {"encoders_a", "encoders_b", "fusion", "head"}
    logits, fused = whole.apply({"params": params}, *batch, train=False)
    tokens, masks = {}, {}
    for m in SHAPES:
        part = {"params": params[f"encoders_{m}"]}
        encoder = build_encoder("mlp", features=6, hidden=7)
        tokens[m], masks[m] = encoder.apply(part, batch[0][m], batch[1][m], train=False)
    fusion = build_fusion("concat", features=6, hidden=8)
    expected = fusion.apply({"params": params["fusion"]}, tokens, masks, train=False)
    np.testing.assert_allclose(fused.tokens, expected.tokens, rtol=1e-5, atol=1e-6)
    expected = PooledHead(3).apply({"params": params["head"]}, expected)
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)


def test_only_the_modalities_that_are_read_are_built(batch):
    one = model("unimodal", features=6, modality="b")
    params = variables(one, batch)["params"]
    assert set(params) == {"encoders_b", "fusion", "head"}
    other = batch[0] | {"a": np.full(SHAPES["a"], np.nan, np.float32)}
    found = [one.apply({"params": params}, x, batch[1], train=False)[0] for x in (batch[0], other)]
    np.testing.assert_array_equal(*found)


def test_modalities_read_are_sorted_whatever_the_fusion_says():
    assert modalities_read(build_fusion("concat", features=2, hidden=2), ("b", "c", "a")) == (
        "a",
        "b",
        "c",
    )
    assert modalities_read(build_fusion("unimodal", features=2, modality="b"), ("b", "a")) == ("b",)


def test_same_encoder_starts_alike_in_every_row(batch):
    """Rows differ in their fusion only: the key of an encoder is its place in the model."""
    a, b = (
        variables(model(*row[:1], **row[1]), batch)["params"]["encoders_b"]
        for row in (("concat", {"features": 6, "hidden": 8}), ("gmu", {"features": 6}))
    )
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_what_a_fusion_has_decided_is_passed_on():
    scores = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)), jnp.float32)
    fused = Fused(scores[:, None, None], jnp.ones((4, 1, 1), bool), decided=True)
    out, variables = PooledHead(3).init_with_output(jax.random.key(0), fused)
    np.testing.assert_array_equal(out, scores)
    assert variables == {}
    with pytest.raises(InputError, match="decides over 3 outputs, but the task has 5"):
        PooledHead(5).init(jax.random.key(0), fused)
