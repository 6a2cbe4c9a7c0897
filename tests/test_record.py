"""Records: atomic files, exact JSON, provenance, and no jax."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mmfuse import record


def test_write_atomic_replaces_and_leaves_nothing_behind(tmp_path):
    path = tmp_path / "a b 中.json"
    record.write_atomic(path, "one")
    record.write_atomic(path, b"two")
    assert path.read_bytes() == b"two" and os.listdir(tmp_path) == [path.name]


def test_write_atomic_keeps_the_old_file_when_it_fails(tmp_path, monkeypatch):
    path = tmp_path / "x"
    record.write_atomic(path, "old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "no space")))
    with pytest.raises(OSError, match="no space"):
        record.write_atomic(path, "new")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["x"]


def test_json_is_canonical_and_exact():
    value = {"b": [0.1, np.float32(0.1), np.int64(3)], "a": (True, None, "中"), "p": Path("x/y")}
    text = record.dumps(value)
    assert text == record.dumps(dict(reversed(value.items())))
    back = json.loads(text)
    assert back["b"] == [0.1, float(np.float32(0.1)), 3] and back["a"] == [True, None, "中"]
    assert back["p"] == "x/y" and list(back) == ["a", "b", "p"]


def test_json_has_no_number_that_is_not_finite():
    value = {"x": [float("nan"), float("inf"), -np.float32(np.inf)], "y": np.array([1.0, np.nan])}
    assert record.plain(value) == {"x": [None, "Infinity", "-Infinity"], "y": [1.0, None]}


def test_json_refuses_what_is_no_data():
    with pytest.raises(TypeError, match="object"):
        record.dumps({"x": object()})


def test_flatten():
    tree = {"a": {"b": 1, "c": {}}, "d": [1, {"e": 2}]}
    assert record.flatten(tree) == {"a.b": 1, "a.c": {}, "d": [1, {"e": 2}]}
    assert record.flatten({}) == {}


def test_strip_clock():
    assert record.strip_clock({"row": "a", "clock": {"train_seconds": 1.0}}) == {"row": "a"}


def test_versions():
    found = record.versions()
    assert found["python"] == sys.version.split()[0] and found["numpy"] == np.__version__


def test_code_sha256_follows_the_code_and_nothing_else(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "a.py").write_text("x = 1\n")
    first = record.code_sha256(tmp_path)
    (tmp_path / "notes.md").write_text("a result")
    assert record.code_sha256(tmp_path) == first
    (tmp_path / "inner" / "a.py").write_text("x = 2\n")
    second = record.code_sha256(tmp_path)
    (tmp_path / "inner" / "a.py").rename(tmp_path / "inner" / "b.py")
    assert len({first, second, record.code_sha256(tmp_path)}) == 3
    assert len(record.code_sha256()) == 64


def _git(folder, *arguments):
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


def test_git_state(tmp_path):
    nothing = {"commit": None, "dirty": None, "diff": None}
    assert record.git_state(tmp_path) == nothing
    _git(tmp_path, "init")
    (tmp_path / "a.py").write_text("x = 1\n")
    assert record.git_state(tmp_path) == nothing  # no commit yet
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "-m", "one")
    clean = record.git_state(tmp_path)
    assert len(clean["commit"]) == 40 and clean["dirty"] is False and clean["diff"] is None

    (tmp_path / "results.json").write_text("{}")  # a result does not make the code dirty
    assert record.git_state(tmp_path) == clean
    (tmp_path / "a.py").write_text("x = 2\n")
    changed = record.git_state(tmp_path)
    assert changed["commit"] == clean["commit"] and changed["dirty"] is True
    (tmp_path / "new.py").write_text("y = 1\n")
    new = record.git_state(tmp_path)
    assert len({changed["diff"], new["diff"], None}) == 3
    assert record.git_state(tmp_path) == new


def test_git_state_of_an_installed_copy(tmp_path, monkeypatch):
    """A package below somebody else's repository must not claim that repository's commit."""
    _git(tmp_path, "init")
    (tmp_path / "theirs.py").write_text("")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "-m", "theirs")
    copy = tmp_path / "venv" / "mmfuse"
    copy.mkdir(parents=True)
    (copy / "record.py").write_text("")
    monkeypatch.setattr(record, "__file__", str(copy / "record.py"))
    assert record.git_state()["commit"] is None


def test_git_state_without_git(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert record.git_state(tmp_path)["commit"] is None


def test_no_jax():
    code = "import sys, mmfuse.workdir, mmfuse.tables; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
