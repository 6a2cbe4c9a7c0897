"""The workdir: what it refuses, before it writes anything, and what it gives back."""

import copy
import json
import os

import pytest

from mmfuse.errors import InputError
from mmfuse.lock import WorkdirBusy
from mmfuse.workdir import Workdir, check_workdir, open_workdir, row_folder, row_name

IDENTITY = {
    "name": "t",
    "seeds": (0, 1),
    "data": {"name": "helpdesk", "snr": 0.5},
    "rows": {"tfn": {"fusion": {"name": "tensor"}}, "concat": {"fusion": {"name": "concat"}}},
}


def _changed(**changes):
    return {**copy.deepcopy(IDENTITY), **changes}


@pytest.mark.parametrize(
    "name",
    [
        "tfn",
        "a/b",
        "..",
        ".",
        ".hidden",
        "100 %",
        "x%2Fy",
        "文本",
        "a\\b:c*?",
        "~",
        " ",
        "A_b+c=1,@-.",
        "\n",
    ],
)
def test_row_folder_is_safe_and_undone(name):
    folder = row_folder(name)
    assert row_name(folder) == name
    assert folder.isascii() and not set(folder) & set('/\\:*?"<>|~ \n') and folder[0] != "."


def test_row_folders_differ():
    names = ["a", "A/", "a%2F", "a/", "x" * 300, "x" * 301, "x" * 150, "中" * 200, "中" * 201]
    folders = [row_folder(name) for name in names]
    assert len(set(folders)) == len(names) and max(map(len, folders)) <= 150


def test_row_without_a_name():
    with pytest.raises(InputError, match="empty name"):
        row_folder("")


def test_open_makes_the_folder_and_reopens(tmp_path):
    path = tmp_path / "runs with space" / "中"
    with open_workdir(path, IDENTITY, baseline="tfn") as workdir:
        assert workdir.ablation()["row_order"] == ["tfn", "concat"]
        with pytest.raises(WorkdirBusy, match="pid"), open_workdir(path, IDENTITY):
            pass
    assert os.listdir(path) == ["ablation.json"]
    with open_workdir(path, IDENTITY, baseline="concat"):
        pass
    assert Workdir(path).ablation()["baseline"] == "concat"


def test_rows_may_be_added_and_reordered(tmp_path):
    with open_workdir(tmp_path, IDENTITY):
        pass
    rows = {"new": {"fusion": {"name": "gated"}}, **dict(reversed(IDENTITY["rows"].items()))}
    with open_workdir(tmp_path, _changed(rows=rows)) as workdir:
        assert workdir.ablation()["row_order"] == ["new", "concat", "tfn"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data": {"name": "helpdesk", "snr": 1.0}}, "data.snr: 0.5 there, 1.0 here"),
        ({"seeds": (0, 1, 2)}, r"seeds: \[0, 1\] there, \[0, 1, 2\] here"),
        ({"extra": 1}, "extra: nothing there, 1 here"),
        (
            {"rows": {"tfn": {"fusion": {"name": "gated"}}}},
            "rows.concat.fusion.name: 'concat' there",
        ),
    ],
)
def test_another_ablation_is_refused(tmp_path, changes, said):
    with open_workdir(tmp_path, IDENTITY):
        pass
    before = (tmp_path / "ablation.json").read_bytes()
    with (
        pytest.raises(InputError, match=said) as error,
        open_workdir(tmp_path, _changed(**changes)),
    ):
        pass
    assert "\n" not in str(error.value)
    assert (tmp_path / "ablation.json").read_bytes() == before
    assert os.listdir(tmp_path) == ["ablation.json"]


def test_many_differences_are_cut(tmp_path):
    with open_workdir(tmp_path, IDENTITY):
        pass
    with pytest.raises(InputError, match="and 4 more"):
        check_workdir(tmp_path, {"k": 1})


def test_what_is_not_known_yet_is_not_compared(tmp_path):
    with open_workdir(tmp_path, _changed(fingerprint="abc")):
        pass
    check_workdir(tmp_path, IDENTITY, unknown=("fingerprint",))
    with pytest.raises(InputError, match="fingerprint: 'abc' there, nothing here"):
        check_workdir(tmp_path, IDENTITY)


def test_write_table(tmp_path):
    with open_workdir(tmp_path, IDENTITY) as workdir:
        assert workdir.write_table("md", "| a |\n").read_text() == "| a |\n"
    assert (tmp_path / "table.md").is_file()


def test_file_is_refused(tmp_path):
    path = tmp_path / "x"
    path.write_text("mine")
    for place in (path, path / "below"):
        with pytest.raises(InputError), open_workdir(place, IDENTITY):
            pass
    assert path.read_text() == "mine"


def test_foreign_folder_is_refused_untouched(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match=r"thesis\.tex"), open_workdir(tmp_path, IDENTITY):
        pass
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_unwritable_folder_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    with pytest.raises(InputError, match="no permission"), open_workdir(tmp_path / "a", IDENTITY):
        pass
    assert os.listdir(tmp_path) == []


def test_leftovers_of_a_kill_are_accepted(tmp_path):
    for name in ("lock", "lock.takeover", ".ablation.json.77.tmp"):
        (tmp_path / name).write_text('{"pid": 1, "host": "", "ticks": 0}' if "lock" in name else "")
    check_workdir(tmp_path, IDENTITY)


def test_check_writes_nothing(tmp_path):
    check_workdir(tmp_path / "new", IDENTITY)
    assert os.listdir(tmp_path) == []


def test_records_round_trip_in_the_order_of_the_config(tmp_path):
    with open_workdir(tmp_path, IDENTITY) as workdir:
        for row in ("concat", "tfn"):
            for seed in (10, 2):
                assert not workdir.has_record(row, seed)
                path = workdir.write_record({"row": row, "seed": seed, "status": "done", "x": 0.1})
                assert path.parent == workdir.seed(row, seed) and workdir.has_record(row, seed)
    found = Workdir(tmp_path).records()
    order = [("tfn", 2), ("tfn", 10), ("concat", 2), ("concat", 10)]
    assert [(r["row"], r["seed"]) for r in found] == order
    assert found[0] == {"format": 1, "row": "tfn", "seed": 2, "status": "done", "x": 0.1}


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "3"])
def test_damaged_record_is_named(tmp_path, content):
    with open_workdir(tmp_path, IDENTITY) as workdir:
        path = workdir.write_record({"row": "tfn", "seed": 0})
        path.write_text(content)
        with pytest.raises(InputError, match=r"record\.json' is damaged"):
            workdir.has_record("tfn", 0)


def test_record_of_a_later_version_is_refused(tmp_path):
    with open_workdir(tmp_path, IDENTITY) as workdir:
        path = workdir.write_record({"row": "tfn", "seed": 0})
        path.write_text(json.dumps({"format": 2}))
        with pytest.raises(InputError, match="format 2"):
            workdir.records()


def test_no_workdir(tmp_path):
    with pytest.raises(InputError, match="no such workdir"):
        Workdir(tmp_path / "x").records()
    with pytest.raises(InputError, match="not an mmfuse workdir"):
        Workdir(tmp_path).ablation()
