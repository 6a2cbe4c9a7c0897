import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from mmfuse.data import easy_vqa, raw
from mmfuse.data.datasets import files_fingerprint, make_builder, prepare
from mmfuse.data.easy_vqa import EasyVqaConfig, shrink, validation_images
from mmfuse.errors import InputError
from tests import pair_files

SPLITS = ("train", "valid", "test")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.delenv(raw.ENVIRONMENT, raising=False)
    pair_files.write_shapes(tmp_path / "raw", np.random.default_rng(0))
    trusted = pair_files.trusted_file(tmp_path / "raw", easy_vqa.ARCHIVE)
    monkeypatch.setattr(easy_vqa, "ARCHIVE", trusted)
    return tmp_path / "raw"


def prepared(folder, data_dir, **fields):
    builder = make_builder("easy_vqa", fields, data_dir=str(data_dir), raw_data=str(folder))
    prepare(builder)
    return builder


def test_examples_are_those_of_the_archive_and_no_image_is_in_two_splits(folder, tmp_path):
    builder = prepared(folder, tmp_path / "data", size=64)
    archive = zipfile.ZipFile(folder / easy_vqa.ARCHIVE.path)
    tables = {
        part: json.loads(archive.read(f"{easy_vqa.FOLDER}/{part}/questions.json"))
        for part in ("train", "test")
    }
    images, rows = {}, []
    for split, size in (("train", 72), ("valid", 8), ("test", 40)):
        columns = pair_files.columns(builder, split)
        assert len(columns["id"]) == size
        for i, identity in enumerate(columns["id"]):
            name, image = identity.decode().split("/image-")
            part, row = name.split("-")
            assert part == ("test" if split == "test" else "train")
            expected = [columns["text"][i].decode(), pair_files.ANSWERS[columns["label"][i]]]
            assert tables[part][int(row)] == [*expected, int(image)]
            data = archive.read(f"{easy_vqa.FOLDER}/{part}/images/{image}.png")
            np.testing.assert_array_equal(columns["image"][i], Image.open(io.BytesIO(data)))
            images.setdefault(split, set()).add((part, image))
            rows.append(identity)
    assert len(set(rows)) == 120
    assert [len(images[split]) for split in SPLITS] == [18, 2, 10]
    assert len(set.union(*images.values())) == 30
    assert builder.info.metadata["class_names"] == pair_files.ANSWERS


def test_limits_keep_the_start_of_a_split(folder, tmp_path):
    whole = prepared(folder, tmp_path / "data")
    part = prepared(folder, tmp_path / "data", n_train=10, n_valid=3, n_test=4)
    for split, size in (("train", 10), ("valid", 3), ("test", 4)):
        ids = pair_files.columns(part, split)["id"]
        assert ids == pair_files.columns(whole, split)["id"][:size]
        assert len(ids) == size


def test_a_limit_beyond_the_file_is_named(folder, tmp_path):
    with pytest.raises(InputError, match="n_valid 9: there are 8 questions"):
        prepared(folder, tmp_path / "data", n_valid=9)


def test_preparing_twice_gives_the_same_bytes_and_another_seed_another_split(folder, tmp_path):
    once, again = (prepared(folder, tmp_path / name) for name in "ab")
    other = prepared(folder, tmp_path / "a", split_seed=1)
    assert files_fingerprint(once.data_path) == files_fingerprint(again.data_path)
    assert files_fingerprint(once.data_path) != files_fingerprint(other.data_path)


def test_validation_images_are_a_tenth():
    assert len(validation_images(list(range(4000)), 0)) == 400
    assert validation_images([3, 5] * 5, 0) <= {3, 5}


def test_shrinking_averages_blocks_and_rounds():
    picture = np.zeros((4, 4, 3), np.uint8)
    picture[:2, :2, 0] = [[1, 2], [2, 2]]  # mean 1.75
    picture[:2, 2:, 1] = [[0, 1], [0, 1]]  # mean 0.5: to the even 0
    picture[2:, 2:, 2] = 255
    expected = np.zeros((2, 2, 3))
    expected[0, 0, 0], expected[1, 1, 2] = 2, 255
    np.testing.assert_array_equal(shrink(picture, 2), expected)
    np.testing.assert_array_equal(shrink(picture, 4), picture)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [("size", 48, "size 48; allowed: 64, 32, 16"), ("n_train", -1, "n_train -1"),
     ("n_test", 2.5, "n_test 2.5"), ("split_seed", -1, "split_seed -1")],
)  # fmt: skip
def test_bad_fields_are_named(field, value, said):
    with pytest.raises(InputError, match=f"easy_vqa: {said}"):
        EasyVqaConfig(**{field: value})


def test_every_field_is_part_of_the_name():
    fields = {"size": 16, "n_train": 7, "n_valid": 7, "n_test": 7, "split_seed": 7}
    names = {EasyVqaConfig(**{field: value}).name for field, value in fields.items()}
    assert len(names | {EasyVqaConfig().name}) == 6


def test_real_archive_is_as_upstream_describes_it(raw_data, tmp_path, monkeypatch):
    """38,575 questions on 4,000 images (28,407 yes or no), 9,673 on 1,000 (7,136); 13 answers."""
    monkeypatch.delenv(raw.ENVIRONMENT, raising=False)
    builder = prepared(raw_data, tmp_path / "data", size=16)
    answers = builder.info.metadata["class_names"]
    yes_no = {answers.index("yes"), answers.index("no")}
    columns = {split: pair_files.columns(builder, split) for split in SPLITS}
    images = {
        split: {identity.decode().split("/")[1] for identity in c["id"]}
        for split, c in columns.items()
    }
    sizes = {split: len(c["id"]) for split, c in columns.items()}
    binary = {s: sum(int(x) in yes_no for x in c["label"]) for s, c in columns.items()}
    assert len(answers) == 13
    assert (sizes["train"] + sizes["valid"], sizes["test"]) == (38_575, 9_673)
    assert (binary["train"] + binary["valid"], binary["test"]) == (28_407, 7_136)
    assert {split: len(found) for split, found in images.items()} == {
        "train": 3_600, "valid": 400, "test": 1_000,
    }  # fmt: skip
    assert not images["train"] & images["valid"]
    assert len({text for c in columns.values() for text in c["text"]}) == 107
    majority = np.bincount(columns["train"]["label"]).argmax()
    assert abs(100 * np.mean(np.array(columns["test"]["label"]) == majority) - 36.4) < 1
    assert columns["test"]["image"][0].shape == (16, 16, 3)
