"""Replicas of one program with settings of their own are the runs with these settings."""

import dataclasses

import jax
import numpy as np
import pytest

from mmfuse.settings import TrainSettings
from mmfuse.tasks import make_task
from mmfuse.train import make_program
from tests.programs import CLASSES, Linear, data, orders, start

TASK = make_task({"task": "classification", "classes": CLASSES})
LR, DECAY = (1e-3, 1e-2, 1e-1), (0.5, 0.0, 2.0)


def trained(settings, seeds, own=None):
    program = make_program(Linear(), TASK, settings, 4, own)
    order = orders(seeds)
    state = start(program, seeds)
    live = np.ones(len(order), bool)
    chunk = jax.jit(lambda s, o: program.train_chunk(s, data(), o, live, axis_name=None))
    return chunk(state, order).params


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("schedule, warmup", [("cosine", 0), ("constant", 2)])
def test_each_replica_is_the_run_with_its_settings(optimizer, schedule, warmup):
    base = TrainSettings(epochs=1, optimizer=optimizer, schedule=schedule, warmup=warmup)
    own = {"lr": LR, "weight_decay": DECAY, "momentum": (0.9, 0.5, 0.0)}
    together = trained(base, [7, 7, 7], own)
    for lane in range(3):
        values = {name: each[lane] for name, each in own.items()}
        alone = trained(dataclasses.replace(base, **values), [7])
        jax.tree.map(
            lambda a, b, i=lane: np.testing.assert_allclose(a[i], b[0], rtol=2e-5, atol=1e-6),
            together,
            alone,
        )
    kernels = together["affine"]["kernel"]
    assert not np.allclose(kernels[0], kernels[1], atol=1e-3)


def test_without_own_settings_the_state_is_as_it_always_was():
    settings = TrainSettings(epochs=1)
    names = [str(type(x)) for x in start(make_program(Linear(), TASK, settings, 4), [0]).opt_state]
    assert not any("Hyperparam" in name for name in names)
