"""Parameters as .npz: equal arrays, equal bytes."""

import os
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmfuse.manifest import sha256_file
from mmfuse.params import load_params, save_params


def _bits(tree):
    leaves, structure = jax.tree_util.tree_flatten(tree)
    arrays = [np.asarray(x) for x in leaves]
    return structure, [(x.dtype, x.shape, x.tobytes()) for x in arrays]


def test_params_round_trip_with_equal_bytes(tmp_path):
    tree = {"b": {"kernel": jnp.arange(6.0).reshape(2, 3), "s": np.float32(2)}, "a": np.arange(3)}
    save_params(tmp_path / "one.npz", tree)
    time.sleep(0.01)
    fortran = {
        "a": tree["a"],
        "b": {"s": tree["b"]["s"], "kernel": np.asfortranarray(tree["b"]["kernel"])},
    }
    save_params(tmp_path / "two.npz", fortran)
    assert sha256_file(tmp_path / "one.npz") == sha256_file(tmp_path / "two.npz")
    assert _bits(load_params(tmp_path / "one.npz")) == _bits(tree)
    with np.load(tmp_path / "one.npz", allow_pickle=False) as plain:
        assert plain.files == ["a", "b/kernel", "b/s"]


@pytest.mark.parametrize(
    "tree", [{"a/b": 1}, {1: 2}, {"a": "text"}, {"a": jnp.ones(2, jnp.bfloat16)}]
)
def test_params_that_npz_cannot_hold(tmp_path, tree):
    with pytest.raises(ValueError, match=r"name must be|cannot hold"):
        save_params(tmp_path / "x.npz", tree)
    assert os.listdir(tmp_path) == []
