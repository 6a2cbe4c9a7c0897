"""Programs are compiled once, and a later launch takes them over with the same bits."""

import dataclasses
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache.compilation_cache import reset_cache

from mmfuse import programs
from mmfuse.fusion import FUSIONS
from mmfuse.model import shipped
from mmfuse.parallel import Devices
from mmfuse.programs import Executables, compile_row
from mmfuse.store import Store
from tests import tiny
from tests.compiles import counting

SEEDS = (3, 5)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return tiny.dataset(tmp_path_factory)


def test_compiled_programs_and_the_initial_state(dataset):
    built, devices = tiny.built(dataset)
    executables, state = compile_row(built, dataset, devices, SEEDS)
    assert isinstance(executables, Executables)
    assert devices.compilations == 3
    assert executables.seconds > executables.train.seconds + executables.evaluate.seconds
    assert all(x.shape[0] == 2 for x in jax.tree.leaves(state))
    np.testing.assert_array_equal(state.seed, SEEDS)
    count = sum(x.size for x in jax.tree.leaves(state.params))
    assert count == 2 * built.parameters


def trained(executables, state, dataset):
    """The state after one dispatch, and the metric sums of one batch."""
    data, rng = dataset.train_arrays(), np.random.default_rng(0)
    order = rng.integers(100, size=executables.order_shape).astype(np.int32)
    state = executables.train(state, data, order, np.ones(len(order), bool))
    batch = next(iter(dataset.eval_batches("valid", 16)))
    return jax.device_get((state, executables.evaluate(state.params, batch)))


@pytest.mark.parametrize(("mode", "count"), [("pmap", 1), ("pmap", 2), ("jit", 2)])
def test_a_second_launch_compiles_nothing_and_computes_the_same_bits(
    dataset, tmp_path, mode, count
):
    built, _ = tiny.built(dataset)
    first = Devices(mode, count, Store(tmp_path))
    expected = trained(*compile_row(built, dataset, first, SEEDS), dataset)
    second = Devices(mode, count, Store(tmp_path))
    with counting() as programs:
        executables, state = compile_row(built, dataset, second, SEEDS)
    assert (len(programs), second.compilations) == (0, 0)
    found = trained(executables, state, dataset)
    jax.tree.map(np.testing.assert_array_equal, expected, found)


def test_a_kept_program_that_cannot_be_loaded_is_compiled_again(
    dataset, tmp_path, monkeypatch, caplog
):
    built, _ = tiny.built(dataset)
    compile_row(built, dataset, Devices("pmap", 1, Store(tmp_path)), SEEDS)

    def refuse(*args):
        raise RuntimeError("another format")

    monkeypatch.setattr(Devices, "revive", refuse)
    devices = Devices("pmap", 1, Store(tmp_path))
    compile_row(built, dataset, devices, SEEDS)
    assert devices.compilations == 3
    assert "compiled again: another format" in caplog.text


def test_what_makes_another_program_is_another_key(dataset, tmp_path):
    built, _ = tiny.built(dataset)
    devices = Devices("pmap", 1, Store(tmp_path))
    compile_row(built, dataset, devices, SEEDS)
    assert devices.compilations == 3
    for other, seeds in (
        (tiny.built(dataset, lr=2e-2)[0], SEEDS),
        (tiny.built(dataset, epochs=3)[0], SEEDS),
        (built, (3, 6)),
    ):
        before = devices.compilations
        compile_row(other, dataset, devices, seeds)
        assert devices.compilations == before + 3


def test_transforms_make_another_program(dataset):
    swap = {"name": "swap", "modality": "text", "p": 0.5}
    found = [
        programs._facts(*tiny.built(dataset, data=data))
        for data in ({}, {"train_transforms": (swap,)}, {"eval_transforms": (swap,)},
                     {"eval_transforms": (swap | {"p": 0.4},)})
    ]  # fmt: skip
    assert all(a != b for number, a in enumerate(found) for b in found[:number])


def test_a_streamed_dispatch_is_as_long_as_its_memory(tmp_path_factory, dataset, monkeypatch):
    streamed = tiny.dataset(tmp_path_factory, resident_bytes=0)
    row, _ = tiny.built(dataset, steps_per_dispatch=5)
    step = 16 * 2 * streamed.example_bytes
    for size, steps in ((1, 1), (3 * step + 1, 3), (100 * step, 5)):
        monkeypatch.setattr(programs, "STREAMED_BYTES", size)
        assert programs.steps_at_once(row, streamed, 2) == steps
    monkeypatch.setattr(programs, "STREAMED_BYTES", 1)
    assert programs.steps_at_once(row, dataset, 2) == 5


class PlugIn(FUSIONS["concat"]):
    """A fusion that is not shipped: its code may import anything, and change."""


def test_a_plug_in_is_compiled_again(dataset, tmp_path):
    built, _ = tiny.built(dataset)
    assert shipped(built.model)
    mine = built.model.clone(fusion=PlugIn(features=8, hidden=8))
    assert not shipped(mine)
    devices = Devices("pmap", 1, Store(tmp_path))
    program = dataclasses.replace(built.program, model=mine)
    compile_row(dataclasses.replace(built, model=mine, program=program), dataset, devices, SEEDS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="counts the mappings of Linux")
def test_programs_that_nobody_holds_are_freed():
    """Seventy rows in one process ran out of memory mappings."""

    def mappings():
        return len(Path("/proc/self/maps").read_text().splitlines())

    def compiled(n):
        jax.jit(lambda x: jnp.sin(x) @ jnp.cos(x) + n)(jnp.ones((n, n)))

    compiled(1)  # the first one starts threads, which stay
    programs.forget()
    before = mappings()
    for n in range(2, 34):
        compiled(n)
    most = mappings()
    programs.forget()
    assert most - before > 64
    assert mappings() - before < (most - before) // 4


@pytest.fixture
def jax_cache(tmp_path):
    """JAX's own persistent cache, as the commands turn it on; off again afterwards."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs",
             "jax_persistent_cache_min_entry_size_bytes")  # fmt: skip
    before = [getattr(jax.config, name) for name in names]
    for name, value in zip(names, (str(tmp_path / "xla"), 0.0, -1), strict=True):
        jax.config.update(name, value)
    reset_cache()
    yield tmp_path / "xla"
    for name, value in zip(names, before, strict=True):
        jax.config.update(name, value)
    reset_cache()


def test_what_is_kept_was_compiled_here_and_not_taken_from_the_cache_of_jax(
    dataset, tmp_path, jax_cache
):
    """Written down a second time, a program that was loaded lacks functions when it runs."""
    built, _ = tiny.built(dataset)
    expected = None
    for launch in ("compiles", "compiles again, as its entry is gone", "takes over"):
        devices = Devices("pmap", 1, Store(tmp_path / "rows"))
        found = trained(*compile_row(built, dataset, devices, SEEDS), dataset)
        assert devices.compilations == (0 if launch == "takes over" else 3)
        expected = expected or found
        jax.tree.map(np.testing.assert_array_equal, expected, found)
        if launch == "compiles":
            shutil.rmtree(tmp_path / "rows")
            jax.clear_caches()
    jax.jit(lambda x: x + 41)(jnp.ones(3))
    assert list(jax_cache.iterdir())  # still on for everything else
