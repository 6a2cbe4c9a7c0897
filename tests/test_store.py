"""Values that are kept between launches."""

import os
import time

import pytest

from mmfuse import store as module
from mmfuse.store import Store, shapes_of, surroundings


def test_a_value_is_made_once(tmp_path):
    made = []

    def make():
        made.append(1)
        return {"parameters": 7}

    for _ in range(2):
        assert Store(tmp_path / "new").cached({"row": "a"}, make) == {"parameters": 7}
    assert len(made) == 1
    assert Store(tmp_path / "new").load({"row": "b"}) is None
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


def test_without_a_folder_nothing_is_kept():
    store = Store()
    assert not store.keeps
    store.save("a", 1)
    assert store.load("a") is None
    assert store.cached("a", lambda: 2) == 2


@pytest.mark.parametrize("harm", ["flip", "cut", "empty"])
def test_a_damaged_file_counts_as_absent(tmp_path, harm):
    store = Store(tmp_path)
    store.save("a", list(range(100)))
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    content[60] ^= 1
    path.write_bytes({"flip": bytes(content), "cut": content[:-9], "empty": b""}[harm])
    assert store.load("a") is None
    assert store.cached("a", lambda: 3) == 3
    assert store.load("a") == 3


def test_other_code_is_another_key(tmp_path, monkeypatch):
    Store(tmp_path).save("a", 1)
    monkeypatch.setattr(module, "code_sha256", lambda: "other")
    assert Store(tmp_path).load("a") is None


def test_an_option_of_the_compiler_is_another_key(monkeypatch):
    before = surroundings()
    monkeypatch.setenv("XLA_FLAGS", os.environ.get("XLA_FLAGS", "") + " --xla_cpu_enable_x=1")
    assert surroundings() != before


def test_what_was_used_longest_ago_goes_first(tmp_path):
    store = Store(tmp_path, limit=2500)
    for name in "abc":
        store.save(name, bytes(1000))
        time.sleep(0.02)
        store.load("a")  # used again: younger than the others
        time.sleep(0.02)
    assert [store.load(name) is not None for name in "abc"] == [True, False, True]


def test_a_folder_that_cannot_be_written_is_no_reason_to_stop(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    store = Store(tmp_path / "file")
    store.save("a", 1)
    assert "nothing is kept" in caplog.text
    assert store.load("a") is None


def test_shapes_of_a_tree_are_plain():
    import numpy as np

    assert shapes_of({"b": np.zeros((2, 3)), "a": np.int32(1)}) == [
        ["['a']", [], "int32"],
        ["['b']", [2, 3], "float64"],
    ]
