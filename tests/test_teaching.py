"""A table with compressed rows and a teacher, from config to table to exported files."""

import json
import sys

import numpy as np
import pytest

from experiments import cli
from experiments import export as command_export
from mmfuse.ablation import resolve
from mmfuse.errors import InputError
from mmfuse.params import load_params
from mmfuse.workdir import Workdir
from tests import tiny

pytest_plugins = ["tests.commands"]

BODY = """config.train.epochs = 1
    rows = {
        "taught": {
            "fusion": {"name": "unimodal", "modality": "text", "features": 8},
            "compression": {"name": "distil", "teacher": "concat"},
            "baseline": "concat",
        },
        "concat": {"fusion": {"name": "concat", "features": 8, "hidden": 8}},
        "int8": {
            "fusion": {"name": "concat", "features": 8, "hidden": 8},
            "compression": {"name": "int8"},
            "baseline": "taught",
        },
    }
    config.rows = type(config)(rows)
"""


def test_from_config_to_table_to_files(command, tmp_path, tmp_path_factory, monkeypatch, capsys):
    code, _, err = command("--rows=taught", body=BODY)
    assert code == 2 and "row 'taught' learns from row 'concat', whose seed 0 has not" in err
    code, out, err = command(body=BODY)
    assert code == 0, err
    trained = [line.split("] ")[1].split(":")[0] for line in err.splitlines() if "accuracy" in line]
    assert trained == ["concat", "int8", "taught"]  # the teacher first, else as they come
    work = Workdir(tmp_path / "work")
    records = {(r["row"], r["seed"]): r for r in work.records()}
    assert "auxiliary/distil" in records["taught", 0]["curves"]["train"][0]
    plain, int8 = records["concat", 0], records["int8", 0]
    assert plain["size_bytes"] == 4 * plain["parameters"] > int8["size_bytes"]
    assert int8["clock"]["latency_seconds"] > 0 and int8["clock"]["exported_bytes"] > 0
    assert int8["config"]["compression"] == {"name": "int8"}
    assert int8["curves"]["train"] == plain["curves"]["train"]  # it is compressed afterwards
    kept = load_params(work.seed("int8", 0) / "params.npz")["fusion"]["hidden"]["kernel"]
    scale = np.abs(kept).max(0) / 127
    np.testing.assert_allclose(kept / scale, np.round(kept / scale), atol=1e-3)
    check_table(work, out)
    check_export(tmp_path, tmp_path_factory, monkeypatch, capsys)


def test_a_row_that_is_taught_costs_something_before_its_teacher_is_there(command):
    code, out, err = command("--dry_run", "--rows=taught", body=BODY, workdir=None)
    assert code == 0, err
    assert "taught" in out


def test_a_row_that_is_taught_is_not_tuned(tuning):
    code, _, err = tuning("--trials=2", body=BODY)
    assert code == 2 and len(err.splitlines()) == 1
    assert "row 'taught' learns from row 'concat': trials have no finished teacher" in err


def check_table(work, out):
    """Every row against its own baseline, and what the stored models take."""
    content = json.loads((work.path / "table.json").read_text())
    rows = {row["name"]: row for row in content["rows"]}
    assert [rows[name]["baseline"] for name in ("taught", "concat", "int8")] == [
        "concat", "", "taught",
    ]  # fmt: skip
    for name in ("taught", "int8"):
        mine, base = (
            rows[x]["metrics"]["accuracy"]["mean"] for x in (name, rows[name]["baseline"])
        )
        assert rows[name]["difference"]["mean"] == pytest.approx(mine - base)
    head = out.splitlines()[0]
    for title in (
        "Δ own baseline",
        "Effective FLOPs",
        "Sparsity (%)",
        "Size",
        "Exported",
        "Latency",
    ):
        assert title in head
    assert "Own baseline: taught with concat. int8 with taught." in out


def check_export(tmp_path, tmp_path_factory, monkeypatch, capsys):
    given = [f"--workdir={tmp_path / 'work'}", f"--into={tmp_path / 'files'}"]
    given += [f"--data_dir={tiny.data_dir(tmp_path_factory)}"]

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["export", *given, *arguments])
        with pytest.raises(SystemExit) as caught:
            cli.run_command(command_export.main)
        return caught.value.code, *capsys.readouterr()

    code, out, err = run("--row=int8", "--seed=1")
    assert (code, err) == (0, "") and "outputs differ by 0.0e+00" in out
    names = {path.name for path in (tmp_path / "files").iterdir()}
    assert names == {"program.xz", "weights.npz", "about.json"}
    for arguments, said in (
        (("--row=int9",), "no such finished row; did you mean 'int8'"),
        (("--row=int8", "--seed=7"), "--seed=7: row 'int8' has not finished it"),
    ):
        code, _, err = run(*arguments)
        assert code == 2 and said in err and len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"compression": {"name": "distil", "teacher": "nobody"}}, "teacher 'nobody' is no other"),
        ({"compression": {"name": "distil", "teacher": "text only"}}, "is no other row"),
        ({"baseline": "concatt"}, "baseline 'concatt' is no other row; did you mean 'concat'"),
    ],
)
def test_rows_name_other_rows(changes, said):
    config = tiny.config()
    config.rows["text only"].update(changes)
    with pytest.raises(InputError, match=said):
        resolve(config)


def test_nobody_learns_in_a_circle():
    config = tiny.config()
    for one, other in (("concat", "text only"), ("text only", "concat")):
        config.rows[one].compression = {"name": "distil", "teacher": other}
    with pytest.raises(InputError, match="rows that learn from it teach it"):
        resolve(config)
