"""The dataset of a manifest: what it keeps of each file, and that content alone makes it."""

import shutil

import numpy as np
import pytest

from mmfuse.data.datasets import files_fingerprint, make_builder, prepare
from mmfuse.data.own import cells as own_cells
from mmfuse.errors import InputError, ReportError
from tests import own_manifest

COUNT = 30


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    own_manifest.fabricate(folder, COUNT)
    return folder


def build(path, data_dir, **fields):
    return make_builder(
        "manifest", {"path": str(path), **fields}, data_dir=str(data_dir), raw_data=None
    )


def prepared(path, data_dir, **fields):
    builder = build(path, data_dir, **fields)
    prepare(builder)
    return builder


@pytest.fixture(scope="module")
def dataset(own, tmp_path_factory):
    return prepared(own / "my.csv", tmp_path_factory.mktemp("data"))


def test_every_value_of_every_example(dataset, own):
    rows = own_manifest.rows(COUNT)
    found = [row for split in ("train", "valid", "test") for row in dataset.as_data_source(split)]
    order = sorted(rows, key=lambda row: ("train", "valid", "test").index(row["split"]))
    assert [row["id"].decode() for row in found] == [row["id"] for row in order]
    for row, example in zip(order, found, strict=True):
        assert set(example) == set(own_manifest.COLUMNS) - {"split"}
        assert own_manifest.CLASSES[example["label"]] == row["label"]
        assert example["note"].decode() == row["note"]
        story = (own / row["story"]).read_bytes()[3:] if row["story"] else b""
        assert example["story"] == story
        for name in ("photo", "voice"):
            assert example[name] == ((own / row[name]).read_bytes() if row[name] else b"")
        vector = np.load(own / row["pose"])[None] if row["pose"] else np.zeros((0, 4))
        np.testing.assert_array_equal(example["pose"], vector.astype(np.float32))
        steps = np.load(own / row["motion"])["steps"] if row["motion"] else np.zeros((0, 3))
        np.testing.assert_array_equal(example["motion"], steps)
        assert example["motion"].dtype == example["pose"].dtype == np.float32


def test_the_card(dataset):
    card = dataset.info.metadata
    assert (card["name"], card["task"], card["classes"]) == ("manifest", "classification", 3)
    assert card["class_names"] == ["cat", "dog", "鸟"]
    assert card["modalities"] == sorted(own_manifest.COLUMNS[3:])
    assert card["kinds"]["voice"] == "sound"
    assert card["splits"] == {"train": 18, "valid": 6, "test": 6}
    assert {"source", "licence", "citation", "traps", "split_rule"} < set(card)


def test_csv_and_jsonl_and_a_second_time_give_the_same_bytes(dataset, own, tmp_path):
    path = own_manifest.write_jsonl(own / "my.jsonl", own_manifest.rows(COUNT))
    moved = shutil.copytree(own, tmp_path / "elsewhere")
    for number, again in enumerate((path, own / "my.csv", moved / "my.csv")):
        other = prepared(again, tmp_path / str(number))
        assert other.builder_config.name == dataset.builder_config.name
        assert files_fingerprint(other.data_path) == files_fingerprint(dataset.data_path)


def test_a_changed_file_is_another_dataset(dataset, own, tmp_path):
    folder = shutil.copytree(own, tmp_path / "own")
    row = next(row for row in own_manifest.rows(COUNT) if row["photo"].endswith("png"))
    with (folder / row["photo"]).open("ab") as file:
        file.write(b"more")  # behind the picture: the same pixels, other bytes
    other = prepared(folder / "my.csv", tmp_path)
    assert other.builder_config.name != dataset.builder_config.name
    assert files_fingerprint(other.data_path) != files_fingerprint(dataset.data_path)


def test_a_file_that_changes_between_check_and_preparation(own, tmp_path):
    folder = shutil.copytree(own, tmp_path / "own")
    builder = build(folder / "my.csv", tmp_path)
    row = next(row for row in own_manifest.rows(COUNT) if row["motion"])
    np.savez(folder / row["motion"], steps=np.zeros((2, 3), np.float32))
    with pytest.raises(InputError, match=r"'motion/.*' has changed since it was checked"):
        prepare(builder)
    assert not builder.data_path.exists()


def test_regression(tmp_path):
    rows = [
        {"id": f"{n}", "split": split, "target": f"{n / 4}", "note": f"t{n}"}
        for n, split in enumerate(("train", "train", "valid", "test"))
    ]
    builder = prepared(own_manifest.write_csv(tmp_path / "my.csv", rows), tmp_path / "data")
    (example,) = builder.as_data_source("test")
    assert example["label"] == 0.75
    assert builder.info.metadata["task"] == "regression"
    assert "classes" not in builder.info.metadata


def test_a_file_that_several_rows_share_is_read_once(own, tmp_path, monkeypatch):
    looked = []
    monkeypatch.setattr(own_cells, "read_picture", lambda data, name: looked.append(name) or PIXELS)
    rows = own_manifest.rows(COUNT)
    name = next(row["photo"] for row in rows if row["photo"])
    rows = [{k: row[k] for k in ("id", "split", "label")} | {"photo": name} for row in rows]
    build(own_manifest.write_csv(own / "shared.csv", rows), tmp_path, allow="shared")
    assert len(looked) == 1


PIXELS = np.zeros((2, 2, 3), np.uint8)


def test_refused(own, tmp_path):
    with pytest.raises(InputError, match=r"needs a file: --config.data.manifest=FILE.csv"):
        make_builder("manifest", {}, data_dir=str(tmp_path), raw_data=None)
    rows = own_manifest.rows(COUNT)
    rows[3]["split"] = "dev"
    with pytest.raises(ReportError, match="1 problem; see") as caught:
        build(own_manifest.write_csv(own / "bad.csv", rows), tmp_path)
    assert caught.value.lines[0].startswith("row 5, column 'split': unknown split 'dev'")
