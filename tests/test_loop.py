"""Selection, early stopping, and runs that are stopped, resumed, streamed or damaged."""

import dataclasses
import math

import jax
import numpy as np
import pytest

from mmfuse import loop
from mmfuse.checkpoint import Checkpoints
from mmfuse.loop import Interrupted, Selection, train_group
from tests import tiny
from tests.compiles import counting

SEEDS = (0, 1)
SETTINGS = {"epochs": 2, "steps_per_dispatch": 3, "checkpoint_seconds": 1e9}  # 7 steps: 3 + 3 + 1


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return tiny.dataset(tmp_path_factory)


@pytest.fixture(scope="module")
def built(dataset):
    return tiny.built(dataset, **SETTINGS)


@pytest.fixture(scope="module")
def cache():
    return {}


@pytest.fixture
def compiled(monkeypatch, cache):
    """Programs are compiled once for this file: the tests below are not about compiling."""
    original = loop.compile_row

    def cached(built, dataset, devices, seeds):
        transforms = built.program.train_transforms, built.program.eval_transforms
        key = (built.settings.epochs, dataset.resident, transforms)  # what changes a program here
        if key not in cache:
            cache[key] = original(built, dataset, devices, seeds)
        return cache[key]

    monkeypatch.setattr(loop, "compile_row", cached)


def run(built, dataset, folder, **fields):
    return train_group(*built[:1], dataset, built[1], SEEDS, Checkpoints(folder), **fields)


@pytest.fixture
def whole(built, dataset, compiled, tmp_path):
    """The unbroken run."""
    return run(built, dataset, tmp_path / "whole")[0]


def same(a, b):
    """Everything but the clock, to the bit."""
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(a.tree()), jax.device_get(b.tree()))
    told = [{k: v for k, v in r.progress().items() if k != "seconds"} for r in (a, b)]
    assert told[0] == told[1]


def selection(replicas=2):
    return Selection.start({"w": np.zeros((replicas, 3), np.float32)}, replicas)


def params(*values):
    return {"w": np.array(values, np.float32)[:, None] * np.ones((1, 3), np.float32)}


def test_ties_keep_the_earlier_epoch():
    chosen = selection()
    chosen.update([0.5, 0.5], 0, 7, params(1, 1), 0)
    chosen.update([0.5, 0.6], 1, 14, params(2, 2), 0)
    chosen.update([0.4, 0.6], 2, 21, params(3, 3), 0)
    assert (chosen.epoch, chosen.step, chosen.score) == ([0, 1], [7, 14], [0.5, 0.6])
    np.testing.assert_array_equal(chosen.params["w"], params(1, 2)["w"])
    assert chosen.stopped == [False, False]


def test_a_stopped_replica_is_frozen_whatever_comes_later():
    chosen = selection()
    for epoch, scores in enumerate([(0.5, 0.1), (0.4, 0.2), (0.3, 0.3), (0.9, 0.4)]):
        chosen.update(list(scores), epoch, epoch, params(epoch, epoch), patience=2)
    assert chosen.stopped == [True, False]
    assert (chosen.epoch, chosen.score) == ([0, 3], [0.5, 0.4])
    np.testing.assert_array_equal(chosen.params["w"], params(0, 3)["w"])


def test_a_diverged_replica_stops_and_keeps_what_was_chosen():
    chosen = selection()
    chosen.update([0.5, 0.5], 0, 0, params(1, 1), 0)
    chosen.update([None, 0.6], 1, 1, params(math.nan, 2), 0)
    chosen.update([0.9, 0.7], 2, 2, params(3, 3), 0)
    assert (chosen.stopped, chosen.epoch) == ([True, False], [0, 2])
    np.testing.assert_array_equal(chosen.params["w"], params(1, 3)["w"])


def test_an_undefined_score_is_below_every_other():
    assert loop._score(None, 1) == loop._score(math.nan, -1) == -math.inf
    assert (loop._score(0.5, 1), loop._score(0.5, -1)) == (0.5, -0.5)
    chosen = selection(1)
    for epoch, value in enumerate((None, 0.1)):
        chosen.update([loop._score(value, 1)], epoch, epoch, params(epoch), 0)
    assert (chosen.stopped, chosen.epoch) == ([False], [1])


def test_an_unbroken_run(whole, built, dataset):
    assert (whole.epoch, whole.dispatch) == (2, 0)
    np.testing.assert_array_equal(whole.state.step, [14, 14])
    np.testing.assert_array_equal(whole.state.sums["count"], [0, 0])  # emptied after each epoch
    for split in ("train", "valid"):
        assert np.shape(whole.curves[split]) == (2, 2)
    scores = [[m["accuracy"] for m in epoch] for epoch in whole.curves["valid"]]
    for lane in range(2):
        best = whole.selection.epoch[lane]
        assert scores[best][lane] == whole.selection.score[lane] == max(s[lane] for s in scores)
        assert best == [s[lane] for s in scores].index(whole.selection.score[lane])
        assert whole.selection.step[lane] == 7 * (best + 1)
    losses = [m["loss"] for epoch in whole.curves["train"] for m in epoch]
    assert losses[2] < losses[0]
    assert losses[0] != losses[1]
    batches = dataset.eval_batches("valid", 16)
    executables, _ = loop.compile_row(*built[:1], dataset, built[1], SEEDS)
    again = loop.evaluate(executables, dataset.task, whole.state.params, batches)
    last = [{k: v for k, v in m.items() if k != "confusion"} for m in again]
    assert last == whole.curves["valid"][-1]
    assert sum(map(sum, again[0]["confusion"])) == 40


@pytest.mark.parametrize("dispatch", [1, 3, 4])
def test_resuming_gives_the_same_bits(dispatch, whole, built, dataset, tmp_path):
    """In the middle of an epoch, at its end before the evaluation, and in a later one."""
    asked = iter(range(1, 100))
    with pytest.raises(Interrupted):
        run(built, dataset, tmp_path / "cut", stop=lambda: next(asked) >= dispatch)
    steps = Checkpoints(tmp_path / "cut").steps()
    assert steps == [{1: 3, 3: 7, 4: 10}[dispatch]]
    resumed, _, _ = run(built, dataset, tmp_path / "cut")
    same(resumed, whole)


def test_stopping_at_every_dispatch_gives_the_same_bits(whole, built, dataset, tmp_path):
    stops = 0
    while True:
        try:
            resumed, _, _ = run(built, dataset, tmp_path / "often", stop=lambda: True)
            break
        except Interrupted:
            stops += 1
            assert Checkpoints(tmp_path / "often").steps()
    assert stops == 6
    same(resumed, whole)


def test_a_signal_at_any_time_is_saved_before_leaving(built, dataset, compiled, tmp_path):
    """``stop`` may turn true between two questions: then the next dispatch saves."""
    answers = iter([False, True])
    with pytest.raises(Interrupted):
        run(built, dataset, tmp_path, stop=lambda: next(answers))
    assert Checkpoints(tmp_path).steps() == [6]


def test_checkpoints_by_the_clock(dataset, compiled, tmp_path):
    built = tiny.built(dataset, **SETTINGS | {"checkpoint_seconds": 0.0})
    run(built, dataset, tmp_path)
    assert Checkpoints(tmp_path).steps() == [13, 14]  # the last two


def test_a_streamed_run_gives_the_same_bits(whole, built, tmp_path_factory, tmp_path):
    streamed = tiny.dataset(tmp_path_factory, resident_bytes=0)
    found, _, _ = run(built, streamed, tmp_path)
    same(found, whole)
    asked = iter(range(1, 100))
    with pytest.raises(Interrupted):
        run(built, streamed, tmp_path / "cut", stop=lambda: next(asked) >= 2)
    same(run(built, streamed, tmp_path / "cut")[0], whole)


def test_transformed_input_is_the_same_after_a_stop_and_when_streamed(
    dataset, compiled, tmp_path_factory, tmp_path
):
    noise = {"name": "noise", "modality": "audio", "snr_db": 0.0}
    lists = {
        "train_transforms": (noise, {"name": "swap", "modality": "text", "p": 0.5}),
        "eval_transforms": (noise,),
    }
    built, clean = tiny.built(dataset, data=lists, **SETTINGS), tiny.built(dataset, **SETTINGS)
    whole, asked = run(built, dataset, tmp_path / "whole")[0], iter(range(1, 100))
    with pytest.raises(Interrupted):
        run(built, dataset, tmp_path / "cut", stop=lambda: next(asked) >= 4)
    same(run(built, dataset, tmp_path / "cut")[0], whole)
    streamed = tiny.dataset(tmp_path_factory, resident_bytes=0)
    found = run(built, streamed, tmp_path / "streamed")[0]  # another program, the same draws
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
        *(jax.device_get(r.state.params) for r in (found, whole)),
    )
    assert run(clean, dataset, tmp_path / "clean")[0].curves != whole.curves


def test_a_row_compiles_three_programs_however_long_it_trains(dataset, tmp_path):
    row, devices = tiny.built(dataset, **SETTINGS)
    with counting() as programs:
        asked = iter(range(1, 100))
        with pytest.raises(Interrupted):
            train_group(
                row, dataset, devices, SEEDS, Checkpoints(tmp_path), stop=lambda: next(asked) >= 5
            )
        assert len(programs) == devices.compilations == 3
    with counting() as programs:
        train_group(row, dataset, devices, SEEDS, Checkpoints(tmp_path))
        assert len(programs) == 3
        assert devices.compilations == 6


def nan_at(monkeypatch, dispatch):
    """Lane 1 gets NaN parameters before a dispatch."""
    original, count = loop.compile_row, iter(range(100))

    def hurt(x):
        return np.concatenate([np.asarray(x)[:1], np.full_like(np.asarray(x)[1:], np.nan)])

    class Train:
        def __init__(self, train):
            self._train, self.run = train, train.run

        def place(self, *args, first=0):
            if not first and next(count) == dispatch:
                state = args[0].replace(params=jax.tree.map(hurt, jax.device_get(args[0].params)))
                args = (state,)
            return self._train.place(*args, first=first)

    def compile_row(*args):
        executables, state = original(*args)
        return dataclasses.replace(executables, train=Train(executables.train)), state

    monkeypatch.setattr(loop, "compile_row", compile_row)


def test_a_replica_that_diverges_leaves_the_bits_of_the_other(
    whole, built, dataset, tmp_path, monkeypatch
):
    nan_at(monkeypatch, dispatch=4)  # the second one of the second epoch: step 10
    found, _, _ = run(built, dataset, tmp_path)
    assert jax.device_get(found.state.diverged_at).tolist() == [-1, 10]
    assert found.selection.stopped == [False, True]
    assert found.selection.epoch[1] == 0
    for a, b in zip(
        *(jax.tree.leaves(jax.device_get(r.tree())) for r in (found, whole)), strict=True
    ):
        np.testing.assert_array_equal(a[0], b[0])
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(found.selection.params))
    for split in ("train", "valid"):
        assert [e[0] for e in found.curves[split]] == [e[0] for e in whole.curves[split]]


def test_a_group_whose_replicas_all_diverged_ends(built, dataset, compiled, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "_score", lambda value, sign: None)
    found, _, _ = run(built, dataset, tmp_path)
    assert (found.epoch, found.selection.stopped) == (1, [True, True])


def test_early_stopping_of_each_replica(dataset, compiled, tmp_path, monkeypatch):
    """Scripted scores: lane 0 stops after the third epoch; lane 1 goes on, and lane 0 is frozen."""
    scores = [(0.5, 0.1), (0.4, 0.2), (0.5, 0.2), (0.9, 0.3), (0.9, 0.2), (0.9, 0.2), (1.0, 1.0)]
    script, seen = iter(scores), []

    def evaluate(executables, task, params, batches):
        seen.append(jax.device_get(params))
        return [{"accuracy": s, "loss": 1.0} for s in next(script)]

    monkeypatch.setattr(loop, "evaluate", evaluate)
    built = tiny.built(dataset, **SETTINGS | {"epochs": 7, "patience": 2})
    found, _, _ = run(built, dataset, tmp_path)
    assert (found.epoch, found.selection.stopped) == (6, [True, True])
    assert (found.selection.epoch, found.selection.step) == ([0, 3], [7, 28])
    for lane, epoch in enumerate(found.selection.epoch):
        jax.tree.map(
            lambda kept, then, lane=lane: np.testing.assert_array_equal(kept[lane], then[lane]),
            found.selection.params,
            seen[epoch],
        )
    shown = [[e[lane] is not None for e in found.curves["valid"]] for lane in range(2)]
    assert shown == [[True] * 3 + [False] * 3, [True] * 6]


def test_the_chosen_parameters_survive_a_restart(dataset, compiled, tmp_path, monkeypatch):
    """Cut in the second epoch, of which nothing is chosen: the first epoch's are still there."""
    monkeypatch.setattr(loop, "evaluate", lambda *_: [{"accuracy": s} for s in next(script)])
    built, asked = tiny.built(dataset, **SETTINGS), iter(range(1, 100))
    with pytest.raises(Interrupted):
        script = iter([(0.5, 0.5)])
        run(built, dataset, tmp_path, stop=lambda: next(asked) >= 5)
    script = iter([(0.4, 0.5)])
    found, _, _ = run(built, dataset, tmp_path)
    script = iter([(0.5, 0.5), (0.4, 0.5)])
    unbroken, _, _ = run(built, dataset, tmp_path / "unbroken")
    assert found.selection.epoch == [0, 0]
    same(found, unbroken)


def test_selection_by_loss_takes_the_lowest(dataset, compiled, tmp_path, monkeypatch):
    script = iter([(0.5, 0.1), (0.4, 0.2)])
    monkeypatch.setattr(loop, "evaluate", lambda *_: [{"loss": s} for s in next(script)])
    built = tiny.built(dataset, **SETTINGS | {"select": "loss"})
    assert run(built, dataset, tmp_path)[0].selection.epoch == [1, 0]


def test_the_last_epoch_may_be_taken_whatever_validation_says(
    dataset, compiled, tmp_path, monkeypatch
):
    script = iter([(0.9, 0.1), (0.4, 0.2)])
    monkeypatch.setattr(loop, "evaluate", lambda *_: [{"accuracy": s} for s in next(script)])
    built = tiny.built(dataset, **SETTINGS | {"select": "last"})
    assert run(built, dataset, tmp_path)[0].selection.epoch == [1, 1]
    assert loop.selected_by("last") == "rule: the last one"
    assert loop.selected_by("loss") == "valid loss"


def test_what_a_run_reports(built, dataset, compiled, tmp_path):
    heard = []

    def report(event, value):
        heard.append((event, value if event == "compiled" else (value.epoch, value.dispatch)))

    _, executables, clock = run(built, dataset, tmp_path, report=report)
    assert heard == [
        ("compiled", executables.seconds), ("started", (0, 0)), ("epoch", (1, 0)), ("epoch", (2, 0))
    ]  # fmt: skip
    assert 0 < clock["compile_seconds"] == executables.seconds
    assert clock["setup_seconds"] > 0


def test_compressed_rows_resume_to_the_same_bits_and_keep_what_was_measured(dataset, tmp_path):
    """A mask of every step, and rounding after it: a function of the weights and the step alone."""
    entry = {"name": "prune_int8", "begin": 0.2, "end": 0.8, "sparsity": 0.5}
    built, devices = tiny.built(dataset, compression=entry, **SETTINGS)
    unbroken, executables, _ = run((built, devices), dataset, tmp_path / "whole")
    asked = iter(range(100))
    with pytest.raises(Interrupted):
        run((built, devices), dataset, tmp_path / "cut", stop=lambda: next(asked) >= 3)
    resumed, _, _ = run((built, devices), dataset, tmp_path / "cut")
    same(resumed, unbroken)
    kept = jax.device_get(unbroken.selection.params["fusion"]["hidden"]["kernel"])
    assert len(np.unique(kept[0][:, 0])) < 256
    valid = dataset.eval_batches("valid", 16)
    scores = loop.evaluate(executables, dataset.task, unbroken.selection.params, valid)
    for lane, score in enumerate(scores):
        epoch = unbroken.selection.epoch[lane]
        assert score["loss"] == unbroken.curves["valid"][epoch][lane]["loss"]
    zeros = [x == 0 for x in jax.tree.leaves(unbroken.selection.params) if x.ndim > 2]
    share = sum(z[0].sum() for z in zeros) / sum(z[0].size for z in zeros)
    assert 0.5 <= share < 0.6  # rounding adds a few
