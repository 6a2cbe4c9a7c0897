"""Learning from another row's answers."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmfuse.build import _compression as compression_of
from mmfuse.build import build
from mmfuse.compression import Teacher, build_compression
from mmfuse.errors import InputError
from mmfuse.model import model_inputs
from mmfuse.tasks import Regression
from tests import tiny

ENTRY = {"name": "distil", "teacher": "concat", "temperature": 3.0, "weight": 0.7}


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def divergence(logits, teacher):
    p, t = softmax(logits / 3.0), softmax(teacher / 3.0)
    return 0.7 * 9.0 * (t * np.log(t / p)).sum(-1)


def test_the_loss_is_the_divergence_from_the_teacher():
    random = np.random.default_rng(0)
    logits, teacher = random.normal(size=(2, 5, 4)) * 3
    method = build_compression(ENTRY, "row")
    found = method.loss(jnp.asarray(logits), jnp.asarray(teacher))
    np.testing.assert_allclose(found, divergence(logits, teacher), rtol=1e-5)
    np.testing.assert_allclose(method.loss(jnp.asarray(logits), jnp.asarray(logits)), 0, atol=1e-6)
    gradient = jax.grad(lambda x, t: method.loss(x, t).sum(), argnums=(0, 1))
    student, of_teacher = gradient(jnp.asarray(logits), jnp.asarray(teacher))
    wanted = 0.7 * 3.0 * (softmax(logits / 3.0) - softmax(teacher / 3.0))
    np.testing.assert_allclose(student, wanted, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(of_teacher, 0)


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A row with a teacher for each of two seeds, the teacher's parameters, and a batch."""
    dataset = tiny.dataset(tmp_path_factory)
    built, devices = tiny.built(dataset, row=1)
    shown = tiny.built(dataset, row=0)[0]
    batch = dataset.batch("train", range(6))
    inputs = model_inputs(batch)
    lanes = [
        shown.model.init(jax.random.key(seed), *inputs, train=False)["params"] for seed in (7, 8)
    ]
    params = jax.tree.map(lambda *x: np.stack(x), *lanes)
    row = dataclasses.replace(built.row, compression=ENTRY)
    ablation = tiny.resolve(tiny.config())
    built = build(row, dataset, devices, ablation)
    program = dataclasses.replace(built.program, teacher=Teacher(shown.model, params, ("a", "b")))
    return built, program, shown, lanes, batch


def test_each_seed_learns_from_its_own_teacher(taught):
    built, program, shown, lanes, batch = taught
    seeds = jnp.asarray([0, 1], jnp.uint32)
    state = jax.jit(lambda s: program.init(s, batch, axis_name=None))(seeds)
    order = jnp.broadcast_to(jnp.arange(6, dtype=jnp.int32), (1, 2, 6))
    data = jax.tree.map(jnp.asarray, batch)
    run = jax.jit(lambda s: program.train_chunk(s, data, order, jnp.ones(1, bool), axis_name=None))
    after = run(state)
    inputs = model_inputs(batch)
    for lane, params in enumerate(lanes):
        mine = jax.tree.map(lambda x, i=lane: x[i], state.params)
        logits = built.model.apply({"params": mine}, *inputs, train=False)[0]
        teacher = shown.model.apply({"params": params}, *inputs, train=False)[0]
        wanted = divergence(np.asarray(logits), np.asarray(teacher)).sum()
        assert float(after.sums["auxiliary/distil"][lane]) == pytest.approx(wanted, rel=1e-4)
        jax.tree.map(
            lambda x, y, i=lane: np.testing.assert_array_equal(x[i], y), after.teacher, params
        )
    plain = dataclasses.replace(program, teacher=None, compression=program.compression)
    with pytest.raises(InputError, match=r"trained by experiments\.ablate"):
        plain.init(seeds, batch, axis_name=None)


def test_only_classes_can_be_taught(taught):
    built, *_, batch = taught
    other = SimpleNamespace(card={"task": "regression"}, task=Regression())
    with pytest.raises(InputError, match="a teacher's answers are classes; this task is regress"):
        compression_of(built.row, built.model, other, batch, 1)
