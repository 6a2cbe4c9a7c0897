import csv
import json

import numpy as np
import pytest

from mmfuse.data import banking77, raw
from mmfuse.data.banking77 import Banking77Config
from mmfuse.data.datasets import files_fingerprint, make_builder, prepare
from mmfuse.errors import InputError
from tests import pair_files

SPLITS = ("train", "valid", "test")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.delenv(raw.ENVIRONMENT, raising=False)
    pair_files.write_bank(tmp_path / "raw", np.random.default_rng(0))
    trust(tmp_path / "raw", monkeypatch)
    return tmp_path / "raw"


def trust(root, monkeypatch):
    for name in ("TRAIN", "TEST", "CATEGORIES"):
        trusted = pair_files.trusted_file(root, getattr(banking77, name))
        monkeypatch.setattr(banking77, name, trusted)


def prepared(folder, data_dir, **fields):
    builder = make_builder("banking77", fields, data_dir=str(data_dir), raw_data=str(folder))
    prepare(builder)
    return builder


def test_texts_and_labels_are_those_of_the_tables(folder, tmp_path):
    builder = prepared(folder, tmp_path / "data")
    names = json.loads((folder / banking77.CATEGORIES.path).read_text())
    tables = {}
    for part, source in (("train", banking77.TRAIN), ("test", banking77.TEST)):
        with (folder / source.path).open(newline="") as file:
            tables[part] = list(csv.reader(file))[1:]
    seen = []
    for split, each in (("train", 4), ("valid", 1), ("test", 1)):
        columns = pair_files.columns(builder, split)
        assert np.bincount(columns["label"]).tolist() == [each] * 77
        for identity, text, label in zip(
            *(columns[n] for n in ("id", "text", "label")), strict=True
        ):
            part, row = identity.decode().split("-")
            assert [text.decode(), names[label]] == tables[part][int(row)]
            assert part == ("test" if split == "test" else "train")
            seen.append(identity)
    assert len(set(seen)) == len(seen) == 77 * 6
    assert builder.info.metadata["class_names"] == names


def test_preparing_twice_gives_the_same_bytes_and_another_seed_another_split(folder, tmp_path):
    once, again = (prepared(folder, tmp_path / name) for name in "ab")
    other = prepared(folder, tmp_path / "a", split_seed=1)
    assert files_fingerprint(once.data_path) == files_fingerprint(again.data_path)
    assert files_fingerprint(once.data_path) != files_fingerprint(other.data_path)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("hello,intent_99", "line 3: no intent 'intent_99'; did you mean"),
        ("hello", "line 3: 1 cells"),
        ("a,b,intent_3", "line 3: 3 cells"),
    ],
)
def test_a_bad_row_is_named(folder, tmp_path, monkeypatch, line, said):
    (folder / banking77.TEST.path).write_text(f"text,category\nfine,intent_1\n{line}\n")
    trust(folder, monkeypatch)
    with pytest.raises(InputError, match=said) as caught:
        prepared(folder, tmp_path / "data")
    assert "\n" not in str(caught.value)


def test_a_bad_seed_is_named():
    with pytest.raises(InputError, match="banking77: split_seed -1"):
        Banking77Config(split_seed=-1)


def test_real_files_are_as_upstream_describes_them(raw_data, tmp_path, monkeypatch):
    """77 intents, 10,003 training and 3,080 test questions, 40 a class in test."""
    monkeypatch.delenv(raw.ENVIRONMENT, raising=False)
    builder = prepared(raw_data, tmp_path / "data")
    columns = {split: pair_files.columns(builder, split) for split in SPLITS}
    counts = {split: np.bincount(c["label"], minlength=77) for split, c in columns.items()}
    assert counts["train"].sum() + counts["valid"].sum() == 10_003
    assert counts["test"].tolist() == [40] * 77
    both = counts["train"] + counts["valid"]
    assert (both.min(), both.max()) == (35, 187)
    assert (abs(counts["valid"] - both / 10) <= 0.5).all()
    names = builder.info.metadata["class_names"]
    assert (len(names), names[0]) == (77, "card_arrival")
    known = {text.decode().lower().strip() for s in SPLITS[:2] for text in columns[s]["text"]}
    repeated = sum(text.decode().lower().strip() in known for text in columns["test"]["text"])
    assert repeated == 6, "the trap on the card"
