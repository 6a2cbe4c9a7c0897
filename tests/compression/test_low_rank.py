"""Truncated decompositions, against numpy, and how large they are."""

import jax.numpy as jnp
import numpy as np
import pytest

from mmfuse.compression import Facts, build_compression, forms


@pytest.mark.parametrize("shape", [(30, 12), (3, 3, 5, 16), (2, 1)])
def test_it_is_the_truncated_decomposition_of_numpy(shape):
    kernel = np.random.default_rng(0).normal(size=shape)
    tree = {"layer": {"kernel": jnp.asarray(kernel, jnp.float32), "bias": jnp.zeros(shape[-1])}}
    method = build_compression({"name": "low_rank", "keep": 0.5}, "row", Facts(9, (("layer",),)))
    matrix = kernel.reshape(-1, shape[-1])
    rank = int(0.5 * matrix.size / sum(matrix.shape))
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    wanted = (left[:, :rank] * values[:rank]) @ right[:rank] if rank else matrix
    found = np.asarray(method.after(tree)["layer"]["kernel"]).reshape(matrix.shape)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    stored = method.packed({"layer": {k: np.asarray(v) for k, v in tree["layer"].items()}})
    if not rank:  # too thin for two parts of half its size
        assert stored["layer"]["kernel"].shape == shape
        return
    parts = stored["layer"]["kernel"]
    assert parts.left.shape == (*shape[:-1], rank) and parts.right.shape == (rank, shape[-1])
    np.testing.assert_allclose(
        np.reshape(parts.left @ parts.right, matrix.shape), wanted, atol=1e-5
    )
    assert forms.stored_bytes(stored) <= 0.5 * kernel.size * 4 + 4 * shape[-1]


def test_other_kernels_stay():
    tree = {"other": jnp.ones((9, 9)), "layer": {"kernel": jnp.eye(8)}}
    method = build_compression({"name": "low_rank"}, "row", Facts(9, (("layer",),)))
    after = method.after(tree)
    np.testing.assert_array_equal(after["other"], 1)
    assert np.linalg.matrix_rank(np.asarray(after["layer"]["kernel"])) == 2
