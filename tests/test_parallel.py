"""The same numbers on 1, 2 and 8 simulated devices, in both modes, and no hidden compilation."""

import jax
import numpy as np
import optax
import pytest

from mmfuse.errors import InputError
from mmfuse.parallel import MODES, Devices
from tests import programs
from tests.compiles import counting

SEEDS = (0, 7)
AXES = (None, None, 2, None)


def train(mode, count, program, chunks=2):
    """The state after some chunks of four steps, the last one partly filled and partly dead."""
    devices = Devices(mode, count)
    seeds, one = np.array(SEEDS, np.uint32), jax.tree.map(lambda x: x[:1], programs.data())
    init = devices.compile(program.init, (seeds, one), (None, None))
    state, data = init(seeds, one), programs.data()
    order = programs.orders(SEEDS)
    step = devices.compile(program.train_chunk, (state, data, order, np.ones(4, bool)), AXES)
    for number in range(chunks):
        live = np.arange(4) < (4 if number < chunks - 1 else 2)
        state = step(state, data, np.where(live[:, None, None], order, -1), live)
    assert devices.compilations == 2
    return jax.device_get(state)


@pytest.fixture(scope="module")
def alone():
    return train("jit", 1, programs.make())


@pytest.mark.parametrize("count", [1, 2, 8])
@pytest.mark.parametrize("mode", MODES)
def test_devices_and_modes_agree(mode, count, alone):
    """Plain gradient descent: a gradient multiplied by the number of devices would show."""
    found = train(mode, count, programs.make())
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, alone)
    np.testing.assert_array_equal(found.step, [6, 6])
    start = programs.start(programs.make(), SEEDS)
    moved = np.abs(found.params["affine"]["kernel"] - start.params["affine"]["kernel"])
    assert moved.max() > 0.1


def test_dropout_is_the_same_on_any_number_of_devices_in_mode_jit_only():
    program = programs.make(dropout=0.5)
    kernels = {
        where: train(*where, program, chunks=1).params["affine"]["kernel"]
        for where in (("jit", 1), ("jit", 8), ("pmap", 1), ("pmap", 8))
    }
    np.testing.assert_allclose(kernels["jit", 8], kernels["jit", 1], atol=1e-5)
    np.testing.assert_allclose(kernels["pmap", 1], kernels["jit", 1], atol=1e-5)
    assert np.abs(kernels["pmap", 8] - kernels["jit", 1]).max() > 1e-3


def test_each_device_drops_its_own_entries():
    """Eight times the same example: were the key the same, all would drop the same features."""
    program, devices = programs.make(dropout=0.5), Devices("pmap", 8)
    state, data = programs.start(program, SEEDS), programs.data()
    order, live = np.zeros((1, 2, 8), np.int32), np.ones(1, bool)
    after = devices.compile(program.train_chunk, (state, data, order, live), AXES)(
        state, data, order, live
    )
    moved = np.asarray(after.params["affine"]["kernel"] != state.params["affine"]["kernel"])
    assert moved.any(2).all(), "a feature that no device saw has no gradient"


@pytest.mark.parametrize("mode", MODES)
def test_evaluation_sums_over_devices(mode):
    program, data = programs.make(), programs.data(n=24)
    data["weight"] = (np.arange(24) < 19).astype(np.float32)
    params = programs.start(program, SEEDS).params
    expected = program.evaluate(params, data, axis_name=None)
    devices = Devices(mode, 8)
    run = devices.compile(program.evaluate, (params, data), (None, 0))
    found = run(params, data)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, expected)
    np.testing.assert_array_equal(found[0]["count"], [19, 19])
    assert found[1].shape[:2] == (2, 24)  # outputs of all examples, in their order
    placed = run.run(run.place(params, data))
    jax.tree.map(np.testing.assert_array_equal, placed, found)


@pytest.mark.parametrize("mode", MODES)
def test_calls_never_compile_again(mode):
    """Neither the second call, whose state comes from the first, nor one whose state is numpy."""
    program, devices = programs.make(optax.adam(0.1)), Devices(mode, 8)
    data, order, live = programs.data(), programs.orders(SEEDS), np.ones(4, bool)
    seeds, one = np.array(SEEDS, np.uint32), jax.tree.map(lambda x: x[:1], data)
    np.asarray(jax.device_put(0))  # whatever jax itself sets up
    with counting() as compiled:
        init = devices.compile(program.init, (seeds, one), (None, None))
        state = init(seeds, one)
        step = devices.compile(program.train_chunk, (state, data, order, live), AXES)
        assert len(compiled) == devices.compilations == 2
        resident = devices.replicate(data)
        for _ in range(3):
            state = step(state, resident, order, live)
        state = step(jax.device_get(state), data, order, live)
        jax.block_until_ready(state)
    assert len(compiled) == 2
    assert step.seconds > 0


def test_each_device_holds_its_part_of_a_batch_and_a_copy_of_the_rest():
    x = np.arange(48).reshape(3, 16)
    for mode, shape in (("jit", (3, 2)), ("pmap", (1, 3, 2))):
        batch, whole = Devices(mode, 8).place((x, x), (1, None))
        for number, shard in enumerate(batch.addressable_shards):
            assert shard.data.shape == shape
            np.testing.assert_array_equal(
                np.reshape(shard.data, (3, 2)), x[:, 2 * number : 2 * number + 2]
            )
        assert [shard.data.shape for shard in whole.addressable_shards] == [(3, 16)] * 8


def test_what_cannot_run_is_refused(monkeypatch):
    with pytest.raises(InputError, match=r"unknown parallel.mode 'pamp'.*did you mean 'pmap'"):
        Devices("pamp")
    with pytest.raises(InputError, match=r"parallel.devices is 9, but this host has 8"):
        Devices("pmap", 9)
    assert Devices("jit").count == 8
    assert Devices("jit", 3).kind == "cpu"
    for mode in MODES:
        with pytest.raises(InputError, match="batch 9 is not divisible by 2 devices"):
            Devices(mode, 2).place((np.zeros((3, 9)),), (1,))
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(InputError, match="use 'jit' with several hosts"):
        Devices("pmap", 1)
