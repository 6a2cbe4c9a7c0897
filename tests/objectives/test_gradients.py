"""OGM-GE: coefficients by hand, and the step that they make."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmfuse.objectives.gradients import OGMGE, coefficients
from tests.objectives import rig


def test_coefficients_by_hand():
    scores, counts = {"a": 6.0, "b": 1.0, "c": 2.0}, {"a": 10.0, "b": 5.0, "c": 10.0}
    found = coefficients(scores, counts, 0.5)  # means .6, .2, .2
    assert float(found["a"]) == pytest.approx(1 - math.tanh(0.5 * 3))
    assert float(found["b"]) == float(found["c"]) == 1
    two = coefficients({"a": 3.0, "b": 2.0}, {"a": 4.0, "b": 4.0}, 0.3)
    assert float(two["a"]) == pytest.approx(1 - math.tanh(0.45))
    none = coefficients({"a": 3.0, "b": 0.0}, {"a": 4.0, "b": 0.0}, 0.3)
    assert float(none["a"]) == float(none["b"]) == 1, "nothing to compare with"


def scores(made, params, batch):
    """The mean probability of the true class, of every modality alone, by hand."""
    found = {}
    for m in batch["inputs"]:
        masks = {n: x & (n == m) for n, x in batch["masks"].items()}
        z = np.asarray(rig.forward(made, params, batch | {"masks": masks}), float)
        p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
        there = batch["masks"][m][:, 0]
        found[m] = p[np.arange(len(z)), batch["label"]][there].mean()
    return found


def test_a_step_slows_the_encoder_that_answers_better():
    """Plain descent: the update of the better one is k times that without the objective."""
    index = rig.order()[0, 0]
    batch = jax.tree.map(lambda x: x[index], rig.data())
    plain, made = rig.program(), rig.program({"ogm_ge": {"alpha": 0.6, "noise": False}})
    begin = jax.device_get(rig.start(plain))
    before = jax.tree.map(lambda x: x[0], begin.params)
    without, with_it = (
        jax.tree.map(lambda x: x[0], rig.trained(p, 1).params) for p in (plain, made)
    )
    alone = scores(plain, before, batch)
    better, worse = sorted(alone, key=alone.get, reverse=True)
    k = 1 - math.tanh(0.6 * alone[better] / alone[worse])
    assert k < 0.6
    for part in before:
        factor = k if part == f"encoders_{better}" else 1
        jax.tree.map(
            lambda a, b, c, f=factor: np.testing.assert_allclose(c - a, f * (b - a), atol=1e-6),
            before[part], without[part], with_it[part],
        )  # fmt: skip


def test_noise_has_the_deviation_of_the_gradient():
    grads = {"encoders_a": {"k": jnp.linspace(-1.0, 3.0, 20000)}, "encoders_b": {"k": jnp.ones(9)},
             "head": jnp.ones(5)}  # fmt: skip
    sums = {"score": {"a": 3.0, "b": 2.0}, "count": {"a": 4.0, "b": 4.0}}
    changed = OGMGE(alpha=0.3).modulate(grads, sums, jax.random.key(0))
    k = 1 - math.tanh(0.45)
    noise = np.asarray(changed["encoders_a"]["k"] - k * grads["encoders_a"]["k"])
    assert noise.std() == pytest.approx(float(np.std(grads["encoders_a"]["k"])), rel=0.03)
    assert abs(noise.mean()) < 0.03
    np.testing.assert_array_equal(changed["encoders_b"]["k"], np.ones(9))  # it does not vary
    np.testing.assert_array_equal(changed["head"], np.ones(5))
    again = OGMGE(alpha=0.3).modulate(grads, sums, jax.random.key(1))
    assert (again["encoders_a"]["k"] != changed["encoders_a"]["k"]).any()
