"""Objectives inside the training step: what they may change there, and what nothing may change."""

import jax
import numpy as np
import pytest

from mmfuse.objectives.apply import LOSS, PARAMS, _example_loss
from mmfuse.parallel import Devices
from mmfuse.tasks import Classification
from mmfuse.tasks.classification import cross_entropy
from tests.objectives import rig

# All that draw no noise, which a device draws for its own examples. Several of one kind, too.
SEVERAL = {
    "contrastive": {"temperature": 0.5},
    "hot": {"name": "contrastive", "temperature": 2.0},
    "deep_cca": {"features": 2, "ridge": 0.1},
    "mfm": {},
    "unimodal_heads": {},
    "gradient_blending": {"share": 0.3},
    "ogm_ge": {"noise": False},
}
NOTHING = {"nothing": {"name": "tests.objectives.rig:Measured"}}
MISA = {"name": "misa", "features": 6, "hidden": 6, "dropout": 0.3}


@pytest.fixture(scope="module")
def several():
    """(program, first state, state after three steps) with several objectives at once."""
    made = rig.program(SEVERAL)
    state = rig.start(made)
    return made, state, rig.trained(made, 3, state=state)


def close(a, b, atol=2e-5):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=atol), a, b)


def test_the_model_starts_as_without_and_evaluation_does_not_see_them(several):
    made, state, after = several
    plain = rig.program()
    for name, part in rig.start(plain).params.items():
        jax.tree.map(np.testing.assert_array_equal, part, state.params[name])
    assert set(state.params) - {"encoders_sound", "encoders_words", "fusion", "head"} == {PARAMS}
    assert set(state.params[PARAMS]) == set(SEVERAL) - {"ogm_ge"}
    without = {name: part for name, part in after.params.items() if name != PARAMS}
    batch = rig.data() | {"weight": np.ones(rig.N, np.float32)}
    ours = jax.jit(lambda p, b: made.evaluate(p, b, axis_name=None))(after.params, batch)
    theirs = jax.jit(lambda p, b: plain.evaluate(p, b, axis_name=None))(without, batch)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_all_parameters_are_trained_and_all_losses_told(several):
    _, state, after = several
    jax.tree.map(lambda a, b: np.testing.assert_(np.any(a != b)), state.params, after.params)
    told = {name.removeprefix(f"auxiliary/{LOSS}") for name in after.sums if LOSS in name}
    assert told == set(SEVERAL) - {"ogm_ge"}
    assert after.diverged_at.tolist() == [-1]


@pytest.mark.parametrize("mode", ["pmap", "jit"])
def test_devices_train_as_one_does(several, mode):
    """Contrast and correlation look over the whole batch, wherever its examples lie."""
    made, state, after = several
    devices = Devices(mode, 4)
    args = (state, rig.data(), rig.order(), np.ones(3, bool))
    run = devices.compile(made.train_chunk, args, (None, None, 2, None))
    found = jax.device_get(run(*args))
    close(found.params, after.params)
    close(found.objectives, after.objectives, atol=1e-4)
    close(found.sums, after.sums, atol=1e-3)


def test_padding_and_absent_modalities_have_no_influence(several):
    """Other numbers in their places: every bit stays."""
    made, state, after = several
    run = jax.jit(lambda *a: made.train_batches(*a, axis_name=None), compiler_options=rig.FAST)
    order = rig.order()
    given = jax.tree.map(lambda x: x[np.maximum(order, 0)], rig.data())
    clean = jax.device_get(run(state, given, order, np.ones(3, bool)))
    close(clean.params, after.params)
    there = {m: mask & (order >= 0)[..., None] for m, mask in given["masks"].items()}
    junk = given | {
        "inputs": {m: np.where(there[m], x, x + 7) for m, x in given["inputs"].items()},
        "label": np.where(order >= 0, given["label"], (given["label"] + 1) % 3),
    }
    dirty = jax.device_get(run(state, junk, order, np.ones(3, bool)))
    jax.tree.map(np.testing.assert_array_equal, clean, dirty)


def test_an_objective_without_gradient_changes_no_bit():
    """With dropout and with losses of the fusion's own, which keep their names."""
    plain, nothing = (rig.trained(rig.program(entries, MISA)) for entries in ({}, NOTHING))
    assert {"auxiliary/reconstruction", "auxiliary/similarity"} <= set(plain.sums)
    assert nothing.sums.pop("auxiliary/objective/nothing") > 0
    for part in ("params", "sums", "opt_state"):
        jax.tree.map(np.testing.assert_array_equal, getattr(plain, part), getattr(nothing, part))


def test_a_seed_draws_noise_of_its_own_whoever_its_neighbours_are():
    made, live = rig.program({"mvae": {}, "ogm_ge": {}}), np.ones(2, bool)
    run, begin = rig.compiled(made), rig.starting(made)
    both, other = (
        jax.device_get(run(begin(np.uint32(seeds)), rig.data(), rig.order(2, seeds), live))
        for seeds in ((4, 9), (9, 5))
    )
    close(*(jax.tree.map(lambda x, r=r: x[r], s.params) for s, r in ((both, 1), (other, 0))))
    kernels = both.params["encoders_sound"]["Dense_0"]["kernel"]
    assert (kernels[0] != kernels[1]).any()


def test_a_mixed_example_has_both_labels_by_their_shares():
    output = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    own, other = np.array([0, 1, 2, 0]), np.array([1, 1, 0, 2])
    share = np.array([0.25, 0.5, 1.0, 0.0], np.float32)
    batch = {"label": own, "mixed": {"label": other, "share": share}}
    found = _example_loss(Classification(3), output, batch, 0.1)
    each = [cross_entropy(output, label, smoothing=0.1) for label in (own, other)]
    np.testing.assert_allclose(found, share * each[0] + (1 - share) * each[1], rtol=1e-6)
