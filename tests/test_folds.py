"""Folds: what they train, and one record of what all of them said."""

import itertools
import json

import numpy as np
import pytest

from experiments import folds, table
from mmfuse.ablation import resolve
from mmfuse.errors import InputError
from mmfuse.folds import each_fold, joined, pool
from mmfuse.params import save_params
from mmfuse.restored import restore_ablation
from mmfuse.tasks.classification import confusion_scores
from mmfuse.workdir import Workdir, open_workdir
from tests import tiny
from tests.records import make_record

pytest_plugins = ["tests.commands"]
CARD = {"name": "helpdesk", "task": "classification", "classes": 3, "modalities": ["audio", "text"]}


def config(values=(0, 1)):
    made = tiny.config()
    made.data.folds = {"seed": values}
    return made


def said(seed, size):
    rng = np.random.default_rng(seed)
    return {"output": rng.normal(size=(size, 3)).astype(np.float32), "label": np.arange(size) % 3}


def fold(folder, number, size, rows=("concat",), **changes):
    """A workdir with two runs of a row, of seeds 0 and 1, on a test part of its own."""
    with open_workdir(folder, {"name": f"fold {number}"}) as workdir:
        for row, seed in itertools.product(rows, (0, 1)):
            card = CARD | {"split_rule": f"test is part {number}"}
            data = {"name": "helpdesk", "fingerprint": str(number) * 64, "card": card}
            record = make_record(row, seed, 0.5, data=data, **changes)
            record["metrics"]["valid"] = {"accuracy": 0.2 + 0.2 * number, "loss": None}
            workdir.write_record(record)
            folder_of = workdir.seed(row, seed)
            save_params(folder_of / "predictions.npz", said(10 * number + seed, size))
    return Workdir(folder)


@pytest.fixture
def parts(tmp_path):
    return {"seed=0": fold(tmp_path / "a", 0, 5), "seed=1": fold(tmp_path / "b", 1, 9)}


def test_every_fold_is_the_ablation_with_one_field_changed():
    ablation = resolve(config((3, 8)))
    each = each_fold(ablation)
    assert list(each) == ["seed=3", "seed=8"]
    plain = resolve(tiny.config()).identity()
    for value, one in zip((3, 8), each.values(), strict=True):
        wanted = json.loads(json.dumps(plain))
        wanted["data"]["builder"]["seed"] = value
        assert json.loads(json.dumps(one.identity())) == wanted
    assert ablation.identity()["data"]["folds"] == {"seed": [3, 8]}


def test_a_pooled_record_scores_all_test_parts_as_one(parts, tmp_path):
    ablation = resolve(config())
    with open_workdir(tmp_path / "all", ablation.identity()) as workdir:
        pool(ablation, workdir, parts)
    records = workdir.records()
    assert [(r["row"], r["seed"]) for r in records] == [("concat", 0), ("concat", 1)]
    assert {r["status"] for r in records} == {"done"}
    for record in records:
        seed = record["seed"]
        both = [said(seed, 5), said(10 + seed, 9)]
        output, label = (np.concatenate([x[k] for x in both]) for k in ("output", "label"))
        confusion = np.zeros((3, 3), int)
        np.add.at(confusion, (label, output.argmax(1)), 1)
        test = record["metrics"]["test"]
        assert {k: v for k, v in test.items() if k != "loss"} == confusion_scores(confusion)
        log_p = output - np.log(np.exp(output).sum(1, keepdims=True))
        assert test["loss"] == pytest.approx(-log_p[np.arange(14), label].mean(), rel=1e-5)
        assert record["metrics"]["valid"] == {"accuracy": pytest.approx(0.3)}
        kept = workdir.predictions("concat", seed)
        np.testing.assert_array_equal(kept["output"], output)
        assert kept["fold"].tolist() == [0] * 5 + [1] * 9
        assert record["clock"]["train_seconds"] == 2 * (12.3 + seed)
        assert record["data"]["card"] == CARD | {"folds": {"seed": [0, 1]}}
        assert record["config"]["data"]["folds"] == {"seed": [0, 1]}
        assert "params_sha256" not in record and "curves" not in record


def test_a_run_that_failed_in_one_fold_has_no_score_and_a_missing_one_no_record(parts, tmp_path):
    lost = fold(tmp_path / "c", 2, 4, status="diverged", diverged_at=7)
    (lost.seed("concat", 1) / "record.json").unlink()
    ablation = resolve(config((0, 1, 2)))
    with open_workdir(tmp_path / "all", ablation.identity()) as workdir:
        pool(ablation, workdir, parts | {"seed=2": lost})
    (record,) = workdir.records()
    assert (record["seed"], record["status"], record["diverged_at"]) == (0, "diverged", 7)
    assert record["metrics"] == {"valid": {}, "test": {}}


def test_a_known_value_of_every_fold_is_named_as_their_mean_where_it_differs(tmp_path):
    def known(**values):
        return [{"name": n, "metric": "accuracy", "value": v} for n, v in values.items()]

    found = known(bias=0.5, chance=0.25, lost=0.1), known(chance=0.25, bias=0.75)
    made = {f"seed={n}": fold(tmp_path / str(n), n, 5, reference=of) for n, of in enumerate(found)}
    ablation = resolve(config())
    with open_workdir(tmp_path / "all", ablation.identity()) as workdir:
        records = pool(ablation, workdir, made)
    wanted = known(**{"bias, mean of the folds": 0.625, "chance": 0.25})
    assert [record["reference"] for record in records] == [wanted, wanted]


def test_the_table_of_all_folds_compares_a_row_with_its_own_baseline(tmp_path):
    made, names = config(), ("concat", "text only", "again")
    made.rows["again"] = made.rows["concat"].to_dict() | {"baseline": "text only"}

    def trained(of_fold, path):
        fold(path, of_fold.data["builder"]["seed"], 5, rows=names)
        return 0

    assert folds.train(resolve(made), str(tmp_path / "all"), trained, "") == 0
    shown = table.summarised(
        Workdir(tmp_path / "all"), table.parse([f"--workdir={tmp_path / 'all'}"])
    )
    assert {row.name: row.baseline for row in shown.rows} == {
        "concat": "", "text only": "concat", "again": "text only",
    }  # fmt: skip


def test_scores_of_examples_cannot_be_pooled():
    with pytest.raises(InputError, match="folds of this task cannot be pooled"):
        joined([{"output": {"mrr": np.ones(3)}, "label": np.ones(3)}] * 2)


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ({"seed": (1,)}, "folds.seed must be two or more different values, got .1."),
        ({"seed": (1, 1)}, "two or more different values"),
        ({"seed": 3}, "two or more different values, got 3"),
        ({"seed": (0, 1), "n_test": (3, 4)}, "one field of config.data.builder, not 2"),
    ],
)
def test_bad_folds_are_named(field, text):
    made = tiny.config()
    made.data.folds = field
    with pytest.raises(InputError, match=text):
        resolve(made)


def test_one_command_trains_all_folds_and_goes_on_where_it_stopped(command, tmp_path):
    body = "config.data.folds = {'seed': (0, 1)}\n    config.train.epochs = 1"
    code, out, err = command("--rows=text only", body=body)
    assert code == 0, err
    assert out.count("| Method") == 1 and "Over the 2 folds" not in out  # one row: nothing to test
    assert "the 2 folds alone give Accuracy a standard error" in out
    work = Workdir(tmp_path / "work")
    first = work.records()
    each = [Workdir(tmp_path / "work/folds" / name).records() for name in ("seed=0", "seed=1")]
    for number, record in enumerate(first):
        counts = [np.array(of[number]["metrics"]["test"]["confusion"]) for of in each]
        assert record["metrics"]["test"]["confusion"] == sum(counts).tolist()
    assert each[0][0]["data"]["fingerprint"] != each[1][0]["data"]["fingerprint"]
    with pytest.raises(InputError, match=r"is pooled of folds: give one of those, in '.*/folds'"):
        restore_ablation(work)
    code, again, err = command("--rows=text only", body=body)
    assert (code, again) == (0, out), err
    assert work.records() == first
    code, _, err = command("--rows=text only", body=body.replace("(0, 1)", "(0, 2)"))
    assert code == 2 and "holds another ablation" in err and err.count("\n") == 1


def test_bad_input_writes_nothing(refused):
    refused("no field 'sede'", body="config.data.folds = {'sede': (0, 1)}")
    refused("matches no row", "--rows=nothing", body="config.data.folds = {'seed': (0, 1)}")
