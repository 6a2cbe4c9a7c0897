"""The command ``ablate``: rows, plug-ins, and what its workdir then holds."""

import json
import logging
import re
import signal
import sys

import jax
import pytest

from experiments import cli
from mmfuse.lock import Lock
from mmfuse.params import load_params
from mmfuse.tables import FORMATS
from mmfuse.workdir import Workdir

pytest_plugins = ["tests.commands"]


def test_a_workdir_that_is_something_else(command, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("")
    before = sorted(tmp_path.rglob("*"))
    for name, said in (("file", "is a file"), ("thesis", "not empty and not an mmfuse workdir")):
        code, _, err = command(workdir=tmp_path / name, data_dir=tmp_path / "data")
        assert (code, len(err.splitlines())) == (2, 1)
        assert said in err
    assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "mine.py"])


def stamps(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_an_ablation_from_config_to_table(command, tmp_path):
    """One run, and what may and may not be done with its workdir afterwards."""
    work = tmp_path / "work"
    code, out, err = command("--rows=concat")
    assert code == 0, err
    assert "| concat" in out
    assert [r["row"] for r in Workdir(work).records()] == ["concat"] * 2
    first = {p: t for p, t in stamps(work).items() if p.name in ("record.json", "params.npz")}

    code, out, err = command()  # the other row is added
    assert code == 0, err
    assert out.index("concat") < out.index("text only")
    assert "[1/2] 1 of 2 finished before" in err
    assert "[2/2] text only: test accuracy 0." in err
    after = stamps(work)
    assert all(after[path] == stamp for path, stamp in first.items())
    assert {p.name for p in work.iterdir()} == {
        "ablation.json", "openings.jsonl", "runs", *(f"table.{name}" for name in FORMATS)
    }  # fmt: skip
    assert not list(work.rglob("checkpoints"))
    check_records(work)
    table = (work / "table.md").read_text()
    assert table.strip() in out
    for name in ("Bayes optimum (audio+text)", "chance"):
        assert name in table

    with Lock(work):
        code, _, err = command()
    assert (code, len(err.splitlines())) == (3, 1)
    assert "is in use by pid" in err
    before = stamps(work)
    for argument, said in (
        ("--config.train.lr=0.5", r"holds another ablation \(rows.concat.train.lr"),
        ("--config.seeds=0,1,2", r"holds another ablation \(seeds"),
        ("--config.data.preprocess.text.length=7", "holds another ablation"),
    ):
        code, _, err = command(argument)
        assert (code, len(err.splitlines())) == (2, 1)
        assert re.search(said, err)
    code, _, err = command("--config.data.builder.seed=1")
    assert code == 2
    assert stamps(work) == before

    tables = {p: p.read_bytes() for p in work.glob("table.*")}
    code, _, err = command()  # nothing left to do
    assert code == 0
    assert {p: p.read_bytes() for p in work.glob("table.*")} == tables


def check_records(work):
    for record in Workdir(work).records():
        assert record["status"] == "done"
        assert sum(map(sum, record["metrics"]["test"]["confusion"])) == 30
        assert sum(map(sum, record["metrics"]["valid"].get("confusion", [[40]]))) == 40
        epoch = record["selected"]["epoch"]
        assert record["curves"]["valid"][epoch] == record["metrics"]["valid"]
        assert record["seeds_in_group"] == [0, 1]
        assert record["replica_width"] == 2
        assert record["data"]["fingerprint"]
        folder = Workdir(work).seed(record["row"], record["seed"])
        params = load_params(folder / "params.npz")
        assert sum(x.size for x in leaves(params)) == record["parameters"]
        assert record["reads"] == (["audio", "text"] if record["row"] == "concat" else ["text"])
    values = json.loads((work / "table.json").read_text())
    assert values


def leaves(tree):
    for value in tree.values():
        yield from leaves(value) if isinstance(value, dict) else [value]


def test_another_version_of_the_code_is_not_mixed_in(command, tmp_path):
    assert command("--rows=text only")[0] == 0
    path = Workdir(tmp_path / "work").seed("text only", 0) / "record.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"versions": record["versions"] | {"jax": "0.1"}}))
    code, _, err = command()
    assert (code, len(err.splitlines())) == (2, 1)
    assert "one table cannot mix them" in err


def test_a_plug_in_of_fifteen_lines_is_a_row(command, tmp_path):
    fusion = "{'name': 'plugged_in:Sum', 'features': 8}"
    body = f"config.rows = {{'sum, mine': {{'fusion': {fusion}}}}}; config.baseline = ''"
    code, out, err = command(body=f"config.unlock(); {body}")
    assert code == 0, err
    assert "sum, mine" in out
    assert len(Workdir(tmp_path / "work").records()) == 2


def test_a_diverged_seed_is_shown_and_ends_with_three(command, tmp_path, caplog):
    caplog.set_level(logging.ERROR)
    body = "config.train.update(lr=1e38, optimizer='sgd', clip_norm=0.0, momentum=0.0)"
    code, out, err = command("--rows=text only", body=f"config.unlock(); {body}")
    assert code == 3, err
    records = Workdir(tmp_path / "work").records()
    assert [r["status"] for r in records] == ["diverged"] * 2
    assert all(r["diverged_at"] >= 0 and r["metrics"]["test"] == {} for r in records)
    assert "diverged" in out + err


def test_groups_of_seeds(command, tmp_path):
    """Seeds in groups of one: another replica width, and every seed still gets its record."""
    code, _, err = command("--config.parallel.replicas=1", "--rows=text only")
    assert code == 0, err
    records = Workdir(tmp_path / "work").records()
    assert [(r["seed"], r["seeds_in_group"], r["replica_width"]) for r in records] == [
        (0, [0], 1),
        (1, [1], 1),
    ]
    assert not list((tmp_path / "work").rglob("checkpoints"))


def test_dry_run_writes_nothing(command, tmp_path, tmp_path_factory):
    before = stamps(tmp_path) | stamps(tmp_path_factory.getbasetemp() / "tiny-data")
    code, out, err = command("--dry_run")
    assert code == 0, err
    for said in ("concat", "text only"):
        assert said in out
    parameters = [int(x.replace(",", "")) for x in re.findall(r"\b\d[\d,]{2,}\b", out)]
    assert parameters
    after = stamps(tmp_path) | stamps(tmp_path_factory.getbasetemp() / "tiny-data")
    assert set(after) - set(before) == {tmp_path / "mine.py"}


def test_the_compilation_cache_is_private(monkeypatch, tmp_path, caplog):
    told = {}
    monkeypatch.setattr(jax.config, "update", told.__setitem__)
    monkeypatch.setenv("MMFUSE_CACHE", str(tmp_path / "cache"))
    cli.use_compilation_cache()
    folder = tmp_path / "cache" / "mmfuse" / "xla"
    assert told["jax_compilation_cache_dir"] == str(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    told.clear()
    folder.chmod(0o777)
    cli.use_compilation_cache()
    assert "can be written by others" in caplog.text
    assert told == {}
    monkeypatch.setenv("MMFUSE_CACHE", "/proc/nowhere")
    cli.use_compilation_cache()
    assert "no compilation cache" in caplog.text
    assert told == {}


def test_the_second_signal_ends_at_once(surroundings):
    stop = cli.StopSignals()
    assert not stop()
    signal.raise_signal(signal.SIGTERM)
    assert stop()
    assert stop.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) != signal.SIG_DFL


def test_ctrl_c_before_training_is_quiet(monkeypatch, capsys):
    def interrupted(argv):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["x"])
    with pytest.raises(SystemExit, match="130"):
        cli.run_command(interrupted)
    assert capsys.readouterr().err == ""


def test_an_error_of_the_disk_is_one_line(monkeypatch, capsys):
    def full(argv):
        raise OSError(28, "No space left on device", "/full/disk")

    monkeypatch.setattr(sys, "argv", ["x"])
    with pytest.raises(SystemExit, match="3"):
        cli.run_command(full)
    assert capsys.readouterr().err == "error: No space left on device: '/full/disk'\n"
