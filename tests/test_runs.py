"""What a finished run leaves behind: its record, its parameters, and the test split opened once."""

import dataclasses

import jax
import numpy as np
import pytest

from mmfuse.ablation import resolve
from mmfuse.checkpoint import Checkpoints
from mmfuse.loop import train_group
from mmfuse.params import load_params
from mmfuse.runs import Setting, finish, references
from mmfuse.workdir import open_workdir
from tests import tiny

SEEDS = (0, 1)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run whose chosen parameters are made to differ from the last ones, and its records."""
    folder = tmp_path_factory.mktemp("runs")
    dataset = tiny.dataset(tmp_path_factory)
    built, devices = tiny.built(dataset)
    run, executables, clock = train_group(
        built, dataset, devices, SEEDS, Checkpoints(folder / "checkpoints")
    )
    run.selection.params = jax.tree.map(lambda x: -x, run.selection.params)
    run.selection.epoch, run.selection.step = [0, 1], [7, 14]
    run.state = run.state.replace(diverged_at=np.array([-1, -1], np.int32))
    setting = Setting(resolve(tiny.config()), dataset, devices)
    with open_workdir(folder / "work", setting.ablation.identity()) as workdir:
        records = finish(setting, workdir, built, SEEDS, run, executables, clock)
        run.state = run.state.replace(diverged_at=np.array([-1, 5], np.int32))
        other = dataclasses.replace(built, row=dataclasses.replace(built.row, name="hurt"))
        hurt = finish(setting, workdir, other, SEEDS, run, executables, clock)
        kept = workdir.records()
    return dataset, built, run, workdir, records, hurt, kept


def test_the_test_score_is_that_of_the_chosen_parameters_on_disk(finished):
    dataset, built, run, workdir, records, _, _ = finished
    batches = list(dataset.open_test(30, run="this test", purpose="score"))
    for lane, (seed, record) in enumerate(zip(SEEDS, records, strict=True)):
        params = load_params(workdir.seed("concat", seed) / "params.npz")
        chosen = jax.tree.map(lambda x, lane=lane: x[lane], run.selection.params)
        jax.tree.map(np.testing.assert_array_equal, params, jax.device_get(chosen))
        logits, _ = built.model.apply(
            {"params": params}, batches[0]["inputs"], batches[0]["masks"], train=False
        )
        logits, label = np.asarray(logits), batches[0]["label"]
        found = record["metrics"]["test"]
        assert found["accuracy"] == pytest.approx(np.mean(logits.argmax(1) == label), abs=1e-6)
        loss = -np.mean(np.asarray(jax.nn.log_softmax(logits))[np.arange(30), label])
        assert found["loss"] == pytest.approx(loss, rel=1e-4)
        assert np.sum(found["confusion"]) == 30
        kept = workdir.predictions("concat", seed)
        np.testing.assert_allclose(kept["output"], logits, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(kept["label"], label)
        assert record["metrics"]["valid"] == run.curves["valid"][run.selection.epoch[lane]][lane]
        assert record["selected"]["step"] == run.selection.step[lane]
    assert records[0]["params_sha256"] != records[1]["params_sha256"]


def test_the_test_split_is_opened_once_per_finished_group(finished):
    dataset, built, run, workdir, records, _, _ = finished
    mine = {"run": "concat, seeds 0, 1", "purpose": "score"}
    assert dataset.test_openings.count(mine) == 1
    assert [record["test_opening"] for record in records] == [mine, mine]
    assert all(len(record["clock"]["test_openings"]) == 1 for record in records)
    again = workdir.note_opening(mine)  # as a run does that was killed before its record
    assert len(again) == 2 and again[:1] == records[0]["clock"]["test_openings"]
    setting = Setting(resolve(tiny.config()), dataset, None)
    with pytest.raises(PermissionError, match="concat, seeds 0, 1 has opened"):
        finish(setting, workdir, built, SEEDS, run, None, {})


def test_a_diverged_seed_has_no_score(finished):
    good, bad = finished[5]
    assert (good["status"], good["diverged_at"]) == ("done", None)
    assert (bad["status"], bad["diverged_at"]) == ("diverged", 5)
    assert bad["metrics"] == {"valid": {}, "test": {}}
    assert good["metrics"] == finished[4][0]["metrics"]


def test_records_are_on_disk_and_name_what_ran(finished):
    _, built, _, _, records, _, kept = finished
    assert [(r["row"], r["seed"]) for r in kept] == [
        ("concat", 0), ("concat", 1), ("hurt", 0), ("hurt", 1)
    ]  # fmt: skip
    record = kept[0]
    assert record["config"]["fusion"] == {"name": "concat", "features": 8, "hidden": 8}
    assert record["config"]["train"]["lr"] == 1e-2
    assert "rows" not in record["config"]
    assert record["parameters"] == built.parameters
    assert record["reads"] == ["audio", "text"]
    assert record["reference_row"] == records[0]["data"]["card"]["optima"]["audio+text"]
    assert {"jax", "flax", "numpy", "python"} <= set(record["versions"])


def test_references_are_bounds_of_the_accuracy_only():
    card = {"optima": {"chance": 0.1, "a+b": 0.9, "a+b (pooled)": 0.5, "a": 0.3}}
    found = {r["name"]: r["value"] for r in references(card, ("b", "a"), "accuracy")}
    assert sorted(found.values()) == [0.1, 0.5, 0.9]
    assert any("pooled" in name for name, value in found.items() if value == 0.5)
    assert [r["value"] for r in references(card, ("a",), "accuracy")] == [0.1, 0.3]
    assert references(card, ("a", "b"), "f1_macro") == []
    assert references({}, ("a", "b"), "accuracy") == []
    other = card | {"optima_of": "exact"}
    assert references(other, ("a",), "accuracy") == []
    assert [r["value"] for r in references(other, ("a",), "exact")] == [0.1, 0.3]


def test_references_of_the_builder_come_with_any_metric():
    noted = [{"name": "frequency", "metric": "mrr", "value": 0.4}]
    assert references({"references": noted}, ("a",), "mrr") == noted
    found = references({"references": noted, "optima": {"a": 0.9}}, ("a",), "accuracy")
    assert found == [*noted, {"name": "Bayes optimum (a)", "metric": "accuracy", "value": 0.9}]
