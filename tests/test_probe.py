"""The command ``probe`` on a tiny trained workdir: what it writes, and what it refuses."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from experiments import cli, probe, probe_entries
from mmfuse import probes
from mmfuse.probing import latency
from mmfuse.record import plain
from mmfuse.restored import restore_ablation
from mmfuse.workdir import Workdir
from tests import probed, tiny

ROWS = ("text only", "attends")


@pytest.fixture
def command(monkeypatch, capsys, tmp_path_factory):
    """Runs ``probe`` with these arguments: (code, stdout, stderr)."""
    monkeypatch.setattr(cli, "use_compilation_cache", lambda: None)

    def run(*arguments):
        given = [*arguments, f"--data_dir={tiny.data_dir(tmp_path_factory)}"]
        monkeypatch.setattr(sys, "argv", ["probe", *given])
        with pytest.raises(SystemExit) as caught:
            cli.run_command(probe.main)
        return caught.value.code, *capsys.readouterr()

    return run


@pytest.fixture
def workdir(tmp_path_factory, tmp_path):
    """A copy of the trained workdir."""
    base = tmp_path_factory.getbasetemp()
    made = probed.trained(str(base / "probed"), tiny.data_dir(tmp_path_factory))
    return Path(shutil.copytree(made, tmp_path / "work"))


def test_everything_that_is_asked_of_finished_runs(command, workdir, tmp_path, monkeypatch):
    for module in (latency, probe_entries):
        monkeypatch.setattr(module, "BATCHES", (1, 4))
    arguments = ["--examples=40", "--drawn=1", "--repeats=3", f"--into={tmp_path / 'page.md'}"]
    code, out, err = command(f"--workdir={workdir}", *arguments)
    assert code == 0, err
    assert "attends: modalities, noise, missing, attention, latency" in out
    found = probes.read(Workdir(workdir))
    assert all(
        set(content["rows"]) == set(ROWS) for what, content in found.items() if what != "samples"
    )
    assert found["samples"] is None, "a class is no sample"
    records = {(r["row"], str(r["seed"])): r for r in Workdir(workdir).records()}
    for what in probe_entries.TESTED:
        for row, entry in found[what]["rows"].items():
            (opening,) = entry["openings"]
            assert opening["run"] == f"{row}, seeds 0, 1" and "T" in opening["at"]
            assert opening["purpose"] == "probe modalities, noise, missing"
            for seed, value in entry["clean"]["values"].items():
                assert value == records[row, seed]["metrics"]["test"]["accuracy"]
                assert entry["params"][seed] == records[row, seed]["params_sha256"]
    alone = found["modalities"]["rows"]["text only"]
    for point in alone["points"]:
        if point["modalities"] == ["audio"]:  # which the row does not read
            assert point["values"] == alone["clean"]["values"]
            assert (point["difference"]["mean"], point["difference"]["sd"]) == (0, 0)
    for row, entry in found["missing"]["rows"].items():
        points = found["modalities"]["rows"][row]["points"]
        removed = {tuple(p["modalities"]): p for p in points if p["change"] == "removed"}
        for curve in entry["curves"]:
            assert curve["x"][0] == 0 and curve["points"][0] == entry["clean"]
            if curve["kind"] == "modality":  # it ends where the modality is always absent
                assert curve["points"][-1]["values"] == removed[(curve["modality"],)]["values"]
    check_explained(found["attention"]["rows"])
    for entry in found["latency"]["rows"].values():
        assert [b["batch"] for b in entry["batches"]] == [1, 4]
        assert all(b["low"] <= b["median"] <= b["high"] for b in entry["batches"])
        assert entry["at_best"] == min(b["per_example"] for b in entry["batches"])
    assert "**Latency of the forward pass**" in (tmp_path / "page.md").read_text()
    assert "seconds" not in json.dumps({k: v for k, v in found.items() if k != "latency"})


def check_explained(rows):
    assert rows["attends"]["attention"] and not rows["text only"]["attention"]
    assert rows["attends"]["examples"] == 40
    for entry in rows.values():
        shares = [share["summary"]["mean"] for share in entry["shares"].values()]
        assert sum(shares) == pytest.approx(1)
        assert entry["completeness"]["summary"]["mean"] < 0.05
        assert len(entry["drawn"]) == 1
        words = [p for p in entry["drawn"][0]["pieces"] if p["kind"] == "words"]
        assert words and all(len(p["words"]) == len(p["weights"]) for p in words)
    pieces = rows["attends"]["drawn"][0]["pieces"]
    assert {p["by"] for p in pieces} == {"attention", "integrated gradients"}
    assert {p["head"] for p in pieces if p["map"] == "text<-audio"} == {0, 1}
    mean = next(p for p in pieces if (p["by"], p["modality"]) == ("attention", "text"))
    assert sum(mean["weights"]) == pytest.approx(1, abs=1e-2)


def test_a_row_whose_score_is_not_that_of_its_record_is_refused(command, workdir):
    path = Workdir(workdir).seed("text only", 0) / "record.json"
    record = json.loads(path.read_text())
    record["metrics"]["test"]["accuracy"] += 0.2
    path.write_text(json.dumps(record))
    code, _, err = command(f"--workdir={workdir}", "--rows=text only", "--what=noise")
    assert code == 2 and len(err.splitlines()) == 1
    assert "row 'text only', seed 0: test accuracy is" in err and "the code has changed" in err
    assert not (workdir / "probes").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--what=noises"], "--what has no 'noises'; did you mean 'noise'"),
        (["--what=,"], "--what is empty; allowed: modalities, noise"),
        (["--rows=("], "is not a regular expression"),
        (["--rows=mbt"], "matches no finished row"),
        (["--examples=0"], "--examples must be at least 1, got 0"),
        (["--config.seeds=1"], "unknown flag '--config.seeds': the workdir has its config"),
    ],
)
def test_bad_input_is_one_line(command, workdir, arguments, said):
    code, out, err = command(f"--workdir={workdir}", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ") and said in err and len(err.splitlines()) == 1
    assert not (workdir / "probes").exists()


def test_parameters_that_are_not_those_of_the_record_are_refused(command, workdir):
    folder = Workdir(workdir).seed("text only", 1)
    shutil.copy(Workdir(workdir).seed("text only", 0) / "params.npz", folder / "params.npz")
    code, _, err = command(f"--workdir={workdir}", "--rows=text only", "--what=noise")
    assert code == 2 and "is not the file that its record.json tells of" in err
    (folder / "params.npz").unlink()
    code, _, err = command(f"--workdir={workdir}", "--rows=text only", "--what=noise")
    assert code == 2 and "params.npz' is missing" in err


def test_other_data_is_refused(command, workdir):
    path = workdir / "ablation.json"
    content = json.loads(path.read_text())
    content["identity"]["data_fingerprint"] = "0" * 64
    path.write_text(json.dumps(content))
    code, _, err = command(f"--workdir={workdir}", "--what=noise")
    assert code == 2 and "the data differs from what" in err


def test_the_ablation_of_a_workdir_is_that_of_its_config(workdir):
    ablation = restore_ablation(Workdir(workdir))
    content = Workdir(workdir).ablation()
    del content["identity"]["data_fingerprint"]
    assert plain(ablation.identity()) == content["identity"]
    assert [row.name for row in ablation.rows] == list(ROWS)
    assert ablation.baseline == "attends" and ablation.rows[0].train.batch == 16
