"""The command ``tune``: equal trials, the test split sealed, and then an ordinary ablation."""

import csv
import io
import json
import re

import numpy as np
import pytest

from experiments import tune
from mmfuse.data.loader import Dataset
from mmfuse.trials import Trials
from mmfuse.workdir import Workdir
from tests import tiny
from tests.kills import Tuning

pytest_plugins = ["tests.commands"]
FILES = ("tuning.json", "tuning.csv", "tuning.md", "table.json", "table.tex")


def read(work):
    return {name: (work / name).read_bytes() for name in FILES}


def columns(monkeypatch):
    """What is read of the data, and when a trial is stored, in order."""
    seen = []
    original, add = Dataset._columns, Trials.add

    def watched(self, split, indices):
        seen.append(split)
        return original(self, split, indices)

    def added(self, row, trial):
        seen.append("trial")
        return add(self, row, trial)

    monkeypatch.setattr(Dataset, "_columns", watched)
    monkeypatch.setattr(Trials, "add", added)
    return seen


def test_a_tuning_from_config_to_tables(tuning, command, tmp_path, monkeypatch):
    """Every row gets the same trials; what is chosen is trained as ``ablate`` trains it."""
    seen, work = columns(monkeypatch), tmp_path / "work"
    space = {"train": {"lr": ("log", 1e-3, 1.0)}}
    body = f"config.unlock(); config.tune = {{'space': {space}}}"
    code, out, err = tuning("--trials=3", body=body)
    assert code == 0, err
    assert seen.count("trial") == 6
    last = len(seen) - seen[::-1].index("trial")
    assert "test" not in seen[:last] and "test" in seen[last:]
    assert (work / "table.md").read_text() in out and (work / "tuning.md").read_text() in out
    assert "concat: 3 trials, best valid accuracy" in err
    trials = list(csv.DictReader(io.StringIO((work / "tuning.csv").read_text())))
    drawn = [t["train.lr"] for t in trials]
    assert drawn[:3] == drawn[3:] and len(set(drawn)) == 3
    assert not list(work.glob("tuning/runs/*"))

    rows = {row["name"]: row for row in json.loads((work / "tuning.json").read_text())["rows"]}
    records = Workdir(work).records()
    for record in records:
        chosen = rows[record["row"]]["chosen"]
        best = max(float(t["valid_score"]) for t in trials if t["method"] == record["row"])
        assert rows[record["row"]]["score"] == best
        for key, value in chosen.items():
            assert record["config"]["train"][key.removeprefix("train.")] == value
        assert record["config"]["tuned"]["trials"] == 3
        assert record["seed"] in (0, 1)

    before = read(work)
    code, again, err = tuning("--trials=3", body=body)  # nothing is left to do
    assert (code, read(work)) == (0, before)
    assert out == again
    assert seen.count("trial") == 6

    entries = {name: row["chosen"] for name, row in rows.items()}
    change = "config.rows[n].train = {k[6:]: v for k, v in c.items()}"
    plain = f"config.unlock()\n    for n, c in {entries}.items(): {change}"
    code, _, err = command("--rows=concat", body=plain, workdir=tmp_path / "plain")
    assert code == 0, err
    for ours, theirs in zip(records[:2], Workdir(tmp_path / "plain").records(), strict=True):
        for key in ("row", "seed", "metrics", "params_sha256", "row_config"):
            assert ours[key] == theirs[key]

    page = tmp_path / "page.md"
    for arguments in ((), (f"--into={page}",)):
        monkeypatch.setattr("sys.argv", ["tune", f"--workdir={work}", *arguments])
        assert tune.main([f"--workdir={work}", *arguments]) == 0
    text = page.read_text()
    assert "<!-- table tiny -->" in text and "E[best of 3]" in text and "Bayes optimum" in text
    refusals(tuning, command, work, body)


def refusals(tuning, command, work, body):
    """Nothing but the same command may go on in the workdir."""
    for arguments, said in (
        (("--trials=4",), r"another ablation \(tune.trials: 3 there, 4 here"),
        (("--trials=3", "--config.train.epochs=3"), r"another ablation \(rows.concat.train.epochs"),
        (("--trials=3", "--space=train.lr=log,1e-2,1"), r"another ablation \(tune.space"),
    ):
        code, _, err = tuning(*arguments, body=body)
        assert (code, len(err.splitlines())) == (2, 1)
        assert re.search(said, err), err
    code, _, err = command(body=body)
    assert code == 2 and "holds another ablation" in err


def test_the_test_split_is_sealed_while_trials_run(tuning, monkeypatch, tmp_path):
    def peeking(built, dataset, *rest, **more):
        list(dataset.open_test(16, run="a trial", purpose="a better choice"))

    monkeypatch.setattr(tune, "train_group", peeking)
    code, _, err = tuning("--trials=1")
    assert code == 3
    assert "the test split is sealed while settings are tuned" in err
    assert not (tmp_path / "work" / "table.md").exists()


def test_a_row_whose_trials_all_diverge_is_told_and_left_out(tuning, tmp_path):
    body = "config.unlock(); config.train.update(optimizer='sgd', clip_norm=0.0, momentum=0.0)"
    space = ("--space=train.lr=log,1e38,3e38", "--trials=2", "--rows=text only")
    code, _, err = tuning(*space, body=body)
    assert code == 2
    assert err.splitlines()[-1].startswith("error: no trial of any row has a score")
    text = (tmp_path / "work/tuning.md").read_text()
    assert "| text only | - | 2 | - | - | - | - |" in text  # one epoch each, then they stop
    assert "text only 2" in text and "order depends" not in text


@pytest.mark.parametrize(
    "arguments, said",
    [
        (("--trials=0",), "--trials must be a whole number >= 1, got 0"),
        (("--trials=2.5",), "--trials must be a whole number >= 1, got 2.5"),
        ((), "--trials must be a whole number >= 1, got nothing"),
        (("--trails=3",), "unknown flag '--trails'; did you mean '--trials'"),
        (("--trials=3", "--space=train.lrr=log,1,2"), "did you mean 'lr'"),
        (("--trials=3", "--space=train.epochs=log,1,2"), "epochs: expected int, got 1"),
        (("--trials=3", "--rows=z"), "matches no row"),
    ],
)
def test_bad_input_writes_nothing(tuning, tmp_path, arguments, said):
    code, out, err = tuning(*arguments, data_dir=tmp_path / "data")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert said in err
    assert not (tmp_path / "work").exists() and not (tmp_path / "data").exists()


def test_a_workdir_of_something_else(tuning, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    (work / "thesis.tex").write_text("")
    assert "not empty and not an mmfuse workdir" in tuning("--trials=1")[2]
    (work / "thesis.tex").rename(work / "ablation.json")
    assert "holds an ablation that was not tuned" in tuning("--trials=1")[2]
    assert [path.name for path in work.iterdir()] == ["ablation.json"]
    monkey = [f"--workdir={work}", "--trials=3"]
    with pytest.raises(ValueError, match="--config is missing: --trials needs one"):
        tune.main(monkey)
    with pytest.raises(ValueError, match="holds no finished tuning"):
        tune.main(monkey[:1])


def test_sigkill_at_random_times(tmp_path_factory):
    """Killed while trials run and while the chosen settings are trained: the same in the end."""
    tiny.dataset(tmp_path_factory)
    place, data = tmp_path_factory.mktemp("kill"), tiny.data_dir(tmp_path_factory)
    rng, whole, killed = np.random.default_rng(), *(Tuning(place / n, data) for n in "ab")
    whole.finish()
    assert len(whole.hashes()) == 2 * 4 + 3 + 3
    assert whole.leftovers() == []
    for steps in (rng.integers(0, 10), rng.integers(8, 22)):  # of 24 for trials, 24 for the rows
        assert killed.kill_after(rng.uniform(0, 0.1), steps=int(steps))
    killed.finish()
    assert killed.hashes() == whole.hashes()
    assert killed.leftovers() == []
