"""A generating task with a judge: what it counts, and which heads it allows."""

import jax
import numpy as np
import pytest

from mmfuse.data.judge import fit_judge
from mmfuse.errors import InputError, RowError
from mmfuse.tasks import Judged, make_task
from tests.tasks import examples

N = 12


@pytest.fixture(params=["picture", "sound"])
def judged(request, tmp_path):
    """(the task with a judge, the task alone, columns, which class each output shows, outputs)."""
    rng = np.random.default_rng(0)
    alone = examples.task(request.param)
    shape = tuple(alone.shape)
    centres = rng.random((3, *shape)).astype(np.float32)
    shown = np.arange(90) % 3
    clean = centres[shown] + 0.02 * rng.normal(size=(90, *shape)).astype(np.float32)
    judge = fit_judge(clean, shown, features=40, ridge=1e-3, blends=60, seed=0)
    card = {"task": request.param} | examples.CARDS[request.param]
    task = make_task(card | {"judge": judge.save(tmp_path)}, tmp_path)
    columns = examples.columns(request.param, N, rng)
    columns["label_class"] = [*rng.integers(3, size=N)]
    output = clean[:N]
    if request.param == "picture":
        output = np.log(output.clip(0.01, 0.99) / (1 - output.clip(0.01, 0.99)))
    return task, alone, columns, shown[:N], output.astype(np.float32)


def test_it_counts_what_the_judge_reads_right_and_nothing_else_changes(judged):
    task, alone, columns, shown, output = judged
    label, weight = task.labels(columns), np.r_[np.ones(N - 2), 0, 0].astype(np.float32)
    assert isinstance(task, Judged) and task.metrics == alone.metrics | {"recognised": True}
    right = shown == label["class"]
    assert 0 < right[:-2].sum() < N - 2
    own = alone.labels(columns)
    np.testing.assert_array_equal(task.loss(output, label), alone.loss(output, own))
    sums = jax.device_get(task.sums(output, label, weight)) | {"count": weight.sum()}
    found = task.scores(sums)
    assert found["recognised"] == pytest.approx(right[:-2].mean())
    other = alone.scores(jax.device_get(alone.sums(output, own, weight)) | {"count": weight.sum()})
    assert found == other | {"recognised": found["recognised"]}
    kept = task.kept_output(output, label)
    np.testing.assert_array_equal(kept["recognised"], right)
    slope = jax.grad(lambda o: task.loss(o, label).sum())(output)
    np.testing.assert_array_equal(slope, jax.grad(lambda o: alone.loss(o, own).sum())(output))


def test_the_class_is_checked(judged):
    task, _, columns, _, _ = judged
    columns["label_class"][4] = 3
    with pytest.raises(RowError, match=r"3 is outside 0\.\.2") as error:
        task.labels(columns)
    assert error.value.row == 4


def test_a_head_that_is_given_the_truth_is_refused(judged):
    task, alone, _, _, _ = judged
    first = task.head({})
    assert first == task.head({"name": "recurrent" if "recurrent" in alone.heads else "cnn"})
    if "lstm" in alone.heads:
        for name in ("lstm", "transformer"):
            with pytest.raises(InputError, match=f"no head '{name}'"):
                task.head({"name": name})
