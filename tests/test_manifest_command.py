"""The commands that a user types on their own files: counts, problems, exit codes, a training."""

import json
import re
import shutil
import sys

import pytest

from experiments import cli, manifest
from mmfuse.workdir import Workdir
from tests import own_manifest

pytest_plugins = ["tests.commands"]


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    own_manifest.fabricate(folder)
    return folder


@pytest.fixture
def check(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["manifest", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.run_command(manifest.main)
        return caught.value.code, *capsys.readouterr()

    return run


def test_a_sound_manifest(check, own):
    code, out, err = check(own / "my.csv")
    assert (code, err) == (0, "")
    for line in (
        r"my.csv: 200 rows, classification of 3 classes",
        r"train +122  cat 41, dog 41, 鸟 40",
        r"valid +39  cat 13, dog 13, 鸟 13",
        r"photo +picture +\d+ +\d+ +\d+  20..40 x 20..40 pixels",
        r"voice +sound +\d+ +\d+ +\d+  0.2..0.4 s, \d+ at 8000 Hz, \d+ at 16000 Hz",
        r"pose +features +\d+ +\d+ +\d+  width 4, 1 steps",
        r"motion +features +\d+ +\d+ +\d+  width 3, 2..7 steps",
        r"note: column 'voice': sample rates differ",
    ):
        assert re.search(line, out), line


def test_problems_are_lines_on_stderr_and_exit_2(check, own, tmp_path):
    rows = own_manifest.rows()
    rows[3]["split"], rows[7]["photo"], rows[9]["id"] = "tran", "photo/none.png", "row8"
    folder = shutil.copytree(own, tmp_path / "own")
    path = own_manifest.write_csv(folder / "my.csv", rows)
    code, out, err = check(path)
    assert code == 2
    assert "200 rows" in out
    *lines, last = err.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "row 5, column 'split'", "row 9, column 'photo'", "row 11, column 'id'"
    ]  # fmt: skip
    assert last == f"error: {path}: 3 problems; see {path}.problems.txt"


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("", 5),
        ("id,label,note\na,x,t\n", 2),
        ("id,split,note\na,train,t\n", 3),
        ("id,split,label,note\na,train,1,t\nb,train,2,u\nc,train,x,v\n", 5),
        ("id,split,target\na,train,x\n", 4),
    ],
)
def test_counts_of_a_manifest_that_lacks_columns(check, text, faults, tmp_path):
    (tmp_path / "my.csv").write_text(text)
    code, out, err = check(tmp_path / "my.csv")
    assert (code, len(err.splitlines())) == (2, faults + 1), err
    assert re.search(r"my.csv: \d rows", out)


def test_wrong_arguments(check, own):
    for arguments, said in (
        ((own / "mine.csv",), "no manifest"),
        ((), "the following arguments are required"),
        ((own / "my.csv", "--alow=rare"), "unknown flag '--alow'; did you mean '--allow'"),
        ((own / "my.csv", "--config.seeds=1"), "this command reads no config"),
        ((own / "my.csv", "--allow=all"), "unknown allowance 'all'"),
    ):
        code, out, err = check(*arguments)
        assert (code, out, len(err.splitlines())) == (2, "", 1), err
        assert said in err


def test_a_manifest_of_200_files_trains_and_a_changed_file_does_not_go_on(command, own, tmp_path):
    """The planted signal is in every column, so every row must be far above chance, a third."""
    folder = shutil.copytree(own, tmp_path / "own")
    arguments = (
        f"--config.data.manifest={folder / 'my.csv'}", "--config.train.epochs=4",
        "--config.train.lr=0.01", "--config.kinds.sound.preprocess.seconds=0.4",
        "--config.parallel.devices=1", "--config.seeds=0",
        "--rows=concat|pose only",
    )  # fmt: skip
    given = {"config": "configs/manifest.py", "data_dir": tmp_path / "data"}
    code, _, err = command(*arguments, **given)
    assert code == 0, err
    scores = {
        record["row"]: record["metrics"]["test"]["accuracy"]
        for record in Workdir(tmp_path / "work").records()
    }
    assert set(scores) == {"concat", "pose only"}
    assert scores["concat"] > 0.8
    assert scores["pose only"] > 0.5
    table = json.loads((tmp_path / "work" / "table.json").read_text())
    assert table

    row = next(row for row in own_manifest.rows() if row["photo"])
    with (folder / row["photo"]).open("ab") as file:
        file.write(b"more")
    code, _, err = command(*arguments, **given)
    assert (code, "holds another ablation (data_fingerprint" in err) == (2, True), err
    (folder / row["photo"]).unlink()
    code, _, err = command(*arguments, **given)
    assert (code, len(err.splitlines())) == (2, 2)
    assert "missing file" in err
