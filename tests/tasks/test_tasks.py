"""What holds for every task."""

import dataclasses

import jax
import numpy as np
import pytest

from mmfuse.decoders.fields import CHECKS
from mmfuse.errors import InputError
from mmfuse.tasks import METRICS, TASKS, make_task, measures
from tests.tasks import examples

N = 37


def summed(task, output, label, size):
    """Metrics of batches of this size; what fills the last one weighs nothing."""
    total = None
    for start in range(0, N, size):
        index = np.minimum(np.arange(start, start + size), N - 1)
        weight = (np.arange(start, start + size) < N).astype(np.float32)
        part = output[index], jax.tree.map(lambda x, index=index: x[index], label)
        loss = task.loss(*part)
        assert loss.shape == (size,)
        sums = {"loss": loss @ weight, "count": weight.sum()} | task.sums(*part, weight)
        sums = jax.device_get(sums)
        total = sums if total is None else jax.tree.map(np.add, total, sums)
    assert total["count"] == N
    return task.finalise(total)


def close(a, b):
    if isinstance(a, list):
        return len(a) == len(b) and all(map(close, a, b))
    return a == b if a is None else a == pytest.approx(b, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("name", TASKS)
def test_batches_and_padding_change_nothing(name):
    rng, task = np.random.default_rng(1), examples.task(name)
    output, label = examples.output(name, N, rng), task.labels(examples.columns(name, N, rng))
    whole = summed(task, output, label, N)
    for size in (1, 10, 64):
        other = summed(task, output, label, size)
        assert other.keys() == whole.keys()
        for metric, value in whole.items():
            assert close(value, other[metric]), metric


@pytest.mark.parametrize("name", TASKS)
def test_every_metric_is_computed_and_no_other_number(name):
    rng, task = np.random.default_rng(2), examples.task(name)
    output, label = examples.output(name, N, rng), task.labels(examples.columns(name, N, rng))
    found = summed(task, output, label, N)
    numbers = {metric for metric, value in found.items() if not isinstance(value, list)}
    assert numbers == {metric for metric in METRICS if measures(metric, task)}
    assert {*numbers} == {"loss", *task.metrics}


@pytest.mark.parametrize("name", TASKS)
def test_what_is_kept_has_a_row_for_every_example(name):
    rng, task = np.random.default_rng(3), examples.task(name)
    output, label = examples.output(name, N, rng), task.labels(examples.columns(name, N, rng))
    kept = {"output": task.kept_output(output, label), "label": task.kept_label(label)}
    assert all(len(leaf) == N for leaf in jax.tree.leaves(kept))
    assert sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(kept)) <= N * 4 * 64


def test_a_metric_has_one_direction_in_all_tasks():
    for task in TASKS.values():
        assert task.metrics.items() <= METRICS.items()
    lower = {name for name, higher in METRICS.items() if not higher}
    assert {"loss", "mae", "rmse"} <= lower


def test_what_a_card_must_say():
    with pytest.raises(InputError, match=r"unknown task 'clasification'.*did you mean 'classif"):
        make_task({"task": "clasification"})
    with pytest.raises(InputError, match="task 'classification' must say 'classes' in its card"):
        make_task({"task": "classification"})
    assert make_task({"task": "classification", "classes": 3, "licence": "MIT"}).classes == 3


def test_a_head_and_its_fields_are_named():
    task = examples.task("classification")
    assert task.head({}) == task.head({"name": "pooled"})
    assert task.head({}).outputs == 4
    with pytest.raises(InputError, match="no head 'poled'; did you mean 'pooled'"):
        task.head({"name": "poled"})
    for field in ("outputs", "widht"):  # the first is the task's own to say
        with pytest.raises(InputError, match=f"'pooled' has no field '{field}'"):
            task.head({field: 3})


@pytest.mark.parametrize(
    ("task", "fields", "said"),
    [
        ("links", {"dropout": 2}, r"config.head.dropout must be a number in 0..0.99, got 2"),
        ("links", {"dropout": -0.1}, r"dropout must be a number in 0..0.99, got -0.1"),
        ("links", {"dropout": float("nan")}, "dropout must be .*got nan"),
        ("links", {"n3": -1}, "config.head.n3 must be a number >= 0, got -1"),
        ("links", {"n3": True}, "n3 must be a number >= 0, got True"),
        ("links", {"features": 0}, "config.head.features must be an integer >= 1, got 0"),
        ("links", {"skip": 3}, "config.head.skip must be a name, got 3"),
        ("words", {"name": "transformer", "layers": -1}, "layers must be an integer >= 1, got -1"),
        ("words", {"heads": 1.0}, "heads must be an integer >= 1, got 1.0"),
        ("words", {"embed": "64"}, "embed must be an integer >= 1, got '64'"),
        ("pointing", {"hidden": 0}, "hidden must be an integer >= 1, got 0"),
        ("picture", {"kernel": 0}, "kernel must be an integer >= 1, got 0"),
        ("picture", {"blocks": [32, 0]}, r"blocks must be a list of integers >= 1, got \[32, 0\]"),
        ("picture", {"blocks": 3}, "blocks must be a list of integers >= 1, got 3"),
    ],
)
def test_a_value_out_of_its_range_is_named(task, fields, said):
    with pytest.raises(InputError, match=said):
        examples.task(task).head(fields)


@pytest.mark.parametrize("name", examples.CARDS)
def test_every_field_that_a_head_can_be_given_has_a_range(name):
    task = examples.task(name)
    for head in task.heads.values():
        fields = {field.name for field in dataclasses.fields(head)}
        assert fields - {"parent", "name", *task.sizes()} <= CHECKS.keys()
