"""The judge: its closed form by another solver, what it reads, and that it stays what it is."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from mmfuse.data.judge import GRID, _on_grid, fit_judge, load_judge
from mmfuse.errors import InputError

FIELDS = {"features": 60, "ridge": 1e-2, "blends": 300, "seed": 1}


def clouds(n, seed, spread=0.6):
    """Examples [n, 3, 2] round four far points, and the number of each point."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(7).normal(size=(4, 3, 2))
    y = np.arange(n) % 4
    return (centres[y] + spread * rng.normal(size=(n, 3, 2))).astype(np.float32), y


def test_it_reads_what_it_has_not_seen():
    judge = fit_judge(*clouds(400, 0), **FIELDS)
    assert judge.classes == 4
    assert judge.accuracy(*clouds(400, 1, spread=0.3)) > 0.97
    x, y = clouds(400, 2)
    nearest = np.square(x[:, None] - x[None, :4].mean(0)).sum((2, 3))  # no better than the means
    assert judge.accuracy(x, y) > np.mean(nearest.argmin(1) == y)


def test_without_blends_it_is_the_ridge_solution():
    x, y = clouds(200, 3)
    judge = fit_judge(x, y, **FIELDS | {"blends": 0})
    hidden = np.maximum(x.reshape(200, -1) @ judge.projection + judge.threshold, 0)
    hidden = hidden.astype(np.float64)
    centred = hidden - hidden.mean(0)
    target = np.eye(4)[y]
    penalty = np.sqrt(1e-2 * np.square(centred).sum() / 60)
    rows = np.concatenate([centred, penalty * np.eye(60)])  # ridge as a larger least-squares task
    aim = np.concatenate([target - target.mean(0), np.zeros((60, 4))])
    weights = np.linalg.lstsq(rows, aim, rcond=None)[0]
    np.testing.assert_allclose(judge.weights, weights, atol=1e-4)
    expected = centred @ weights + target.mean(0)
    np.testing.assert_allclose(judge.scores(x), expected, atol=1e-4)


ALONE = """
import numpy as np
from mmfuse.data.judge import fit_judge
rng = np.random.default_rng(3)
x, y = rng.normal(size=(3000, 20, 10)), rng.integers(4, size=3000)
x[np.arange(3000), 0, y] += 2
judge = fit_judge(x, y, features=300, ridge=1e-3, blends=500, seed=0)
print(judge.sha256, judge.accuracy(x, y))
"""


def test_the_number_of_threads_changes_no_bit():
    said = []
    for threads in ("1", "2"):
        counts = {f"{library}_NUM_THREADS": threads for library in ("OPENBLAS", "OMP", "MKL")}
        command = [sys.executable, "-c", ALONE]
        done = subprocess.run(command, env=os.environ | counts, capture_output=True, check=True)
        said.append(done.stdout)
    assert said[0] == said[1] and len(said[0]) > 64


def test_sums_of_what_is_on_the_grid_are_exact():
    rng = np.random.default_rng(0)
    a, b = _on_grid(rng.normal(size=(5000, 3))), _on_grid(rng.normal(size=(5000, 2)))
    assert np.abs(a).max() > 3 and (a != np.round(a)).any()
    whole = [[int(value * 2**GRID) for value in column] for column in (*a.T, *b.T)]
    for i in range(3):
        for j in range(2):
            exact = sum(u * v for u, v in zip(whole[i], whole[3 + j], strict=True))
            assert (a.T @ b)[i, j] * 2.0 ** (2 * GRID) == exact


def test_a_blend_is_read_as_its_largest_part():
    x, y = clouds(400, 4)
    judge = fit_judge(x, y, **FIELDS)
    means = np.stack([x[y == k].mean(0) for k in range(4)])
    for share in (0.9, 0.6, 0.45):
        mixed = share * means + (1 - share) * (means.sum(0) - means) / 3
        np.testing.assert_array_equal(judge(mixed), np.arange(4))


def test_jax_reads_the_same():
    x, y = clouds(50, 5)
    judge = fit_judge(x, y, **FIELDS)
    np.testing.assert_allclose(jax.jit(judge.scores)(x), judge.scores(x), atol=1e-5)
    np.testing.assert_array_equal(jax.jit(judge)(x), judge(x))


def test_it_lies_beside_the_data_and_no_other_passes_for_it(tmp_path):
    x, y = clouds(100, 6)
    judge = fit_judge(x, y, **FIELDS)
    said = judge.save(tmp_path)
    first = (tmp_path / said["file"]).read_bytes()
    again = load_judge(tmp_path, said)
    np.testing.assert_array_equal(again.scores(x), judge.scores(x))
    assert repr(again) == repr(judge) == f"Judge({said['sha256']})"
    fit_judge(x, y, **FIELDS).save(tmp_path)
    assert (tmp_path / said["file"]).read_bytes() == first, "the same fit, the same bytes"
    fit_judge(x, y, **FIELDS | {"seed": 2}).save(tmp_path)
    with pytest.raises(InputError, match="not the judge that the card tells of"):
        load_judge(tmp_path, said)
    (tmp_path / said["file"]).unlink()
    with pytest.raises(InputError, match="is missing"):
        load_judge(tmp_path, said)
