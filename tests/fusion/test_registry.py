"""The registry of fusions and what they share."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmfuse.errors import InputError
from mmfuse.fusion import FUSIONS, build_fusion, find_fusion
from mmfuse.fusion.base import masked_mean, pooled
from tests.reference import (
    ORDER,
    F,
    make_batch,
    means,
)

batch = pytest.fixture(scope="module")(make_batch)


def test_masked_mean_over_nothing_is_zero_with_zero_gradient():
    x = np.full((2, 3, 2), np.nan, np.float32)
    x[0, :2] = [[1, 2], [3, 6]]
    mask = np.array([[1, 1, 0], [0, 0, 0]], bool)
    np.testing.assert_array_equal(masked_mean(x, mask), [[2, 4], [0, 0]])
    grad = jax.grad(lambda x: masked_mean(x, mask).sum())(x)
    np.testing.assert_array_equal(grad[..., 0], [[0.5, 0.5, 0], [0, 0, 0]])
    # Their sum overflows float16, their mean does not.
    many = jnp.full((1, 65_536, 1), 2, jnp.float16)
    np.testing.assert_array_equal(masked_mean(many, np.ones((1, 65_536), bool)), [[2]])


def test_pooled_says_what_is_present(batch):
    vectors, present = pooled(*batch)
    assert list(vectors) == ORDER
    np.testing.assert_array_equal(present["audio"], [True, True, False, False])
    np.testing.assert_allclose(vectors["text"][1], means(batch, 1)["text"], atol=1e-6)


def test_every_name_is_found_and_built():
    for name, fusion in FUSIONS.items():
        assert find_fusion(name) is fusion
    assert find_fusion("mmfuse.fusion.late:LateAverage") is FUSIONS["late_average"]
    assert build_fusion("mbt", features=F, layers=3).layers == 3


def test_entry_points_are_found(monkeypatch):
    from importlib.metadata import EntryPoint

    point = EntryPoint("theirs", "mmfuse.fusion.spatial.gated:GMU", "mmfuse.fusions")
    monkeypatch.setattr("mmfuse.fusion.entry_points", lambda group: [point])
    assert find_fusion("theirs") is FUSIONS["gmu"]
    with pytest.raises(InputError, match="did you mean 'theirs'"):
        find_fusion("their")


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("gmuu", {}, r"unknown fusion 'gmuu'; allowed: unimodal, .*did you mean 'gmu'\?"),
        ("no_such_pkg:A", {}, "cannot import 'no_such_pkg'"),
        ("mmfuse.fusion:Fusd", {}, r"has no 'Fusd'; did you mean 'Fused'\?"),
        ("mmfuse.fusion:Fused", {}, "not a class derived from flax.linen.Module"),
        ("gmu", {"feature": 3}, r"no field 'feature'; allowed: features; did you mean 'features'"),
        ("concat", {"features": 3}, "needs a value for: hidden"),
        ("gmu", {"features": 2.5}, "must be a whole number"),
        ("gmu", {"features": True}, "must be a whole number"),
        ("gmu", {"features": -3}, "must be at least 1"),
        ("mbt", {"features": 8, "bottlenecks": -1}, "must not be negative"),
        ("mbt", {"features": 8, "dropout": 1.0}, r"must be in \[0, 1\)"),
        ("mbt", {"features": 8, "dropout": float("nan")}, "must be a finite number"),
    ],
)
def test_bad_input_is_one_clear_line(name, fields, message):
    with pytest.raises(InputError, match=message) as caught:
        build_fusion(name, **fields)
    assert "\n" not in str(caught.value)


def test_heads_must_divide_features(batch):
    fusion = build_fusion("crossmodal", features=6, heads=4)
    with pytest.raises(InputError, match=r"features=6.*heads=4"):
        jax.eval_shape(lambda: nn.init(lambda m: m(*batch, train=False), fusion)(jax.random.key(0)))
