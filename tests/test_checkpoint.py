"""Checkpoints: the same bits back, or a loud step backwards; never wrong numbers."""

import json
import logging
import math
import os
import shutil

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmfuse.checkpoint import (
    Checkpoints,
    NoGoodStepError,
    OtherModelError,
)
from mmfuse.errors import InputError
from mmfuse.manifest import read_manifest, write_manifest


@flax.struct.dataclass
class State:
    step: jax.Array
    params: dict
    optimiser: optax.OptState


def _state(scale=1.0):
    kernel = jax.random.normal(jax.random.key(0), (3, 4, 5)) * scale
    params = {
        "a": {"kernel": kernel, "bias": jnp.full(5, -0.0)},
        "a/b.c": jnp.array([jnp.nan, 1.0]),
    }
    return State(jnp.int32(7), params, optax.adamw(1e-3).init(params))


def _bits(tree):
    leaves, structure = jax.tree_util.tree_flatten(tree)
    arrays = [np.asarray(x) for x in leaves]
    return structure, [(x.dtype, x.shape, x.tobytes()) for x in arrays]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with steps 3 and 7; tests that damage it take a copy."""
    folder = tmp_path_factory.mktemp("saved")
    checkpoints = Checkpoints(folder)
    for step in (1, 3, 7):
        checkpoints.save(step, _state(step), {"epoch": step, "best": 0.1 * step})
    return folder


@pytest.fixture
def copy(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "copy")
    return tmp_path / "copy"


def test_round_trip_keeps_every_bit(saved):
    step, tree, progress = Checkpoints(saved).restore_latest(_state())
    assert (step, progress) == (7, {"epoch": 7, "best": 0.1 * 7})
    assert _bits(tree) == _bits(_state(7)) and isinstance(tree, State)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(tree))


def test_template_may_be_shapes(saved):
    _, tree, _ = Checkpoints(saved).restore_latest(jax.eval_shape(_state))
    assert _bits(tree) == _bits(_state(7))


def test_every_kind_of_leaf(tmp_path):
    tree = {
        "empty": np.zeros((0, 3), np.float32),
        "bfloat16": jnp.arange(3, dtype=jnp.bfloat16),
        "key": jax.random.key_data(jax.random.key(1)),
        "bool": np.array([True, False]),
        "number": 3,
        "list": [np.float64(0.1), (np.uint8(255), None)],
        "zeros": np.array([0.0, -0.0], np.float32),
    }
    Checkpoints(tmp_path).save(0, tree, {})
    assert _bits(Checkpoints(tmp_path).restore_latest(tree)[1]) == _bits(tree)


def test_typed_keys_are_refused(tmp_path):
    with pytest.raises(TypeError, match="key_data"):
        Checkpoints(tmp_path).save(0, {"key": jax.random.key(0)}, {})


def test_sharded_state(tmp_path):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    x = jax.device_put(jnp.arange(16.0), jax.NamedSharding(mesh, jax.P("data")))
    Checkpoints(tmp_path).save(0, {"x": x}, {})
    assert _bits(Checkpoints(tmp_path).restore_latest({"x": x})[1]) == _bits({"x": x})


def test_progress_keeps_floats_and_nan(tmp_path):
    progress = {"curve": [0.1, 1 / 3, 5e-324, float("inf")], "loss": float("nan")}
    Checkpoints(tmp_path).save(0, {"x": jnp.ones(2)}, progress)
    back = Checkpoints(tmp_path).restore_latest({"x": jnp.ones(2)})[2]
    assert back["curve"] == progress["curve"] and math.isnan(back["loss"])


def test_keeps_the_last_steps_only(saved):
    assert Checkpoints(saved).steps() == [3, 7]
    assert sorted(os.listdir(saved)) == ["3", "7"]


def test_keep_must_be_positive(tmp_path):
    with pytest.raises(InputError, match="keep"):
        Checkpoints(tmp_path, keep=0)


def test_nothing_there(tmp_path):
    assert Checkpoints(tmp_path / "new").restore_latest(_state()) is None
    assert not (tmp_path / "new").exists()


def _files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _flip(path, rng):
    data = bytearray(path.read_bytes())
    data[rng.integers(len(data))] ^= 1 << rng.integers(8)
    path.write_bytes(data)


def _truncate(path, rng):
    path.write_bytes(path.read_bytes()[: rng.integers(path.stat().st_size)])


def _delete(path, rng):
    path.unlink()


@pytest.mark.parametrize("damage", [_flip, _truncate, _delete])
def test_damage_to_any_file_falls_back(copy, caplog, damage):
    rng = np.random.default_rng(0)
    good = {path: path.read_bytes() for path in _files(copy / "7")}
    assert len(good) > 5
    for path, content in good.items():
        for _ in range(3 if damage is _flip else 1):
            caplog.clear()
            damage(path, rng)
            step, tree, progress = Checkpoints(copy).restore_latest(_state())
            assert (step, progress["epoch"]) == (3, 3), path
            assert len(caplog.records) == 1 and str(copy / "7") in caplog.text
            assert "\n" not in caplog.records[0].getMessage()
            path.write_bytes(content)
    assert _bits(tree) == _bits(_state(3))
    assert Checkpoints(copy).restore_latest(_state())[0] == 7


def test_what_orbax_cannot_read_falls_back(copy, caplog):
    """The hashes agree, but the state was written by something else."""
    manifest = read_manifest(copy / "7")
    for path in _files(copy / "7" / "state"):
        path.write_bytes(b"{}")
    (copy / "7" / "manifest.json").unlink()
    write_manifest(copy / "7", step=7, leaves=manifest["leaves"])
    assert Checkpoints(copy).restore_latest(_state())[0] == 3
    assert len(caplog.records) == 1 and "Orbax cannot read it" in caplog.text


def test_run_goes_on_after_damage(copy):
    """The damaged step is replaced and never counts as one of those that are kept."""
    _flip(copy / "7" / "progress.json", np.random.default_rng(0))
    checkpoints = Checkpoints(copy)
    assert checkpoints.restore_latest(_state())[0] == 3
    checkpoints.save(5, _state(5), {"epoch": 5})
    assert checkpoints.steps() == [3, 5]
    checkpoints.save(7, _state(7), {"epoch": 7})
    assert checkpoints.restore_latest(_state())[0] == 7


def test_step_saved_twice_is_replaced(copy):
    Checkpoints(copy).save(7, _state(9), {"epoch": 9})
    step, tree, progress = Checkpoints(copy).restore_latest(_state())
    assert (step, progress["epoch"]) == (7, 9) and _bits(tree) == _bits(_state(9))
    assert sorted(os.listdir(copy)) == ["3", "7"]


def test_all_damaged_is_an_error(copy):
    for step in ("3", "7"):
        _flip(copy / step / "manifest.json", np.random.default_rng(0))
    with pytest.raises(NoGoodStepError, match="remove the folder") as error:
        Checkpoints(copy).restore_latest(_state())
    assert error.value.exit_code == 3


def test_junk_is_ignored(copy, caplog):
    for name in (
        "9",
        "99999999999999999999",
        "abc",
        ".11.tmp",
        "8.orbax-checkpoint-tmp",
        "007",
        "٣",
    ):
        (copy / name).mkdir()
    (copy / "10").write_text("a file")
    (copy / "9" / "state").mkdir()
    shutil.copytree(copy / "3", copy / "12")  # whole, but of another step
    checkpoints = Checkpoints(copy)
    assert checkpoints.restore_latest(_state())[0] == 7
    assert "holds step 3" in caplog.text and "no manifest" in caplog.text
    checkpoints.save(8, _state(8), {"epoch": 8})
    assert checkpoints.restore_latest(_state())[0] == 8


def test_only_junk_is_no_checkpoint(tmp_path):
    (tmp_path / "7").mkdir()
    assert Checkpoints(tmp_path).restore_latest(_state()) is None


def test_file_in_the_way_is_replaced(tmp_path):
    for name in ("5", ".5.tmp"):
        (tmp_path / name).write_text("junk")
    Checkpoints(tmp_path).save(5, {"x": jnp.ones(2)}, {})
    assert os.listdir(tmp_path) == ["5"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda p: {**p, "new": jnp.ones(2)}, r"\['new'\]: nothing saved, float32\(2,\) wanted"),
        (lambda p: {"a": p["a"]}, r"\['a/b\.c'\]: float32\(2,\) saved, nothing wanted"),
        (lambda p: p | {"a/b.c": jnp.ones(3)}, r"float32\(2,\) saved, float32\(3,\) wanted"),
        (lambda p: p | {"a/b.c": jnp.ones(2, jnp.float16)}, r"saved, float16\(2,\) wanted"),
        (lambda p: {f"p{i}": jnp.ones(i) for i in range(9)}, "more"),
    ],
)
def test_another_model_is_refused(saved, change, said):
    state = _state()
    with pytest.raises(OtherModelError, match=said) as error:
        Checkpoints(saved).restore_latest(state.replace(params=change(state.params)))
    assert 2 <= len(str(error.value).splitlines()) <= 5


def test_failed_save_leaves_the_older_steps(copy, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        Checkpoints(copy).save(9, _state(9), {})
    monkeypatch.undo()
    assert sorted(os.listdir(copy)) == ["3", "7"]
    assert Checkpoints(copy).restore_latest(_state())[0] == 7


def test_saving_says_nothing(tmp_path, capfd, caplog):
    with caplog.at_level(logging.WARNING):
        Checkpoints(tmp_path).save(0, {"x": jnp.ones(2)}, {})
    assert capfd.readouterr() == ("", "") and not caplog.records


def test_manifest_is_readable(saved):
    digest, _, body = (saved / "7" / "manifest.json").read_text().partition("\n")
    manifest = json.loads(body)
    assert len(digest) == 64 and manifest["step"] == 7 and "progress.json" in manifest["files"]
    assert manifest["leaves"][".params['a']['kernel']"] == [[3, 4, 5], "float32"]
