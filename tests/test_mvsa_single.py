from pathlib import Path

import numpy as np
import pytest

from mmfuse.data import mvsa_single, raw
from mmfuse.data.datasets import files_fingerprint, make_builder, prepare
from mmfuse.data.mvsa_single import MvsaSingleConfig, decode_text
from mmfuse.data.splits import duplicate_groups
from mmfuse.errors import InputError
from tests import pair_files

SPLITS = ("train", "valid", "test")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.delenv(raw.ENVIRONMENT, raising=False)
    pair_files.write_tweets(tmp_path / "raw", np.random.default_rng(0))
    trust(tmp_path / "raw", monkeypatch)
    return tmp_path / "raw"


def trust(root, monkeypatch):
    for name in ("PACKED", "LABELS"):
        trusted = pair_files.trusted_file(root, getattr(mvsa_single, name))
        monkeypatch.setattr(mvsa_single, name, trusted)


def prepared(folder, data_dir, **fields):
    builder = make_builder("mvsa_single", fields, data_dir=str(data_dir), raw_data=str(folder))
    prepare(builder)
    return builder


def by_id(builder) -> dict[int, tuple]:
    """``{guid: (text, label, picture, split)}``."""
    found = {}
    for split in SPLITS:
        columns = pair_files.columns(builder, split)
        for i, identity in enumerate(columns["id"]):
            pair = (columns["text"][i].decode(), int(columns["label"][i]), columns["image"][i])
            found[int(identity)] = (*pair, split)
    return found


def test_the_packed_form_keeps_its_split(folder, tmp_path):
    builder = prepared(folder, tmp_path / "data")
    assert [builder.info.splits[split].num_examples for split in SPLITS] == [60, 10, 10]
    found = by_id(builder)
    with np.load(folder / mvsa_single.PACKED.path) as file:
        for i, guid in enumerate(file["guid"]):
            text, label, picture, split = found.pop(int(guid))
            assert (text, label, split) == (file["text"][i], file["label"][i], file["split"][i])
            np.testing.assert_array_equal(picture, file["image"][i])
    assert not found


def test_both_forms_hold_the_same_pairs(folder, tmp_path):
    packed = by_id(prepared(folder, tmp_path / "data"))
    upstream = by_id(prepared(folder, tmp_path / "data", form="upstream"))
    assert packed.keys() == upstream.keys()
    for guid, (text, label, picture, _) in packed.items():
        assert upstream[guid][:2] == (text, label)
        np.testing.assert_array_equal(upstream[guid][2], picture)


def test_the_upstream_form_keeps_repeats_together_whatever_the_seed(folder, tmp_path):
    for seed in range(6):
        found = by_id(prepared(folder, tmp_path / "data", form="upstream", split_seed=seed))
        splits = {guid: split for guid, (*_, split) in found.items()}
        assert splits[5] == splits[7], "the same picture"
        assert splits[9] == splits[11], "the same text"
        for split, size in zip(SPLITS, (64, 8, 8), strict=True):
            assert abs(sum(s == split for s in splits.values()) - size) <= 4


def test_preparing_twice_gives_the_same_bytes(folder, tmp_path):
    for form in ("packed", "upstream"):
        once, again = (prepared(folder, tmp_path / name, form=form) for name in "ab")
        assert files_fingerprint(once.data_path) == files_fingerprint(again.data_path)


def test_missing_pairs_are_counted_and_the_first_is_named(folder, tmp_path):
    (folder / "mvsa_single/data/9.txt").unlink()
    (folder / "mvsa_single/data/41.jpg").unlink()
    with pytest.raises(InputError, match=r"2 of 80 labelled pairs are missing, first 41.jpg"):
        prepared(folder, tmp_path / "data", form="upstream")


def test_an_unknown_tag_or_class_is_named(folder, tmp_path, monkeypatch):
    (folder / mvsa_single.LABELS.path).write_text("guid,tag\n1,positive\n3,glad\n")
    with np.load(folder / mvsa_single.PACKED.path) as file:
        columns = dict(file) | {"class_name": np.array(["positive", "neutral", "negative"])}
    np.savez(folder / mvsa_single.PACKED.path, **columns)
    trust(folder, monkeypatch)
    with pytest.raises(InputError, match="line 3: '3,glad'; expected a number and one of negative"):
        prepared(folder, tmp_path / "data", form="upstream")
    with pytest.raises(InputError, match=r"class_name .*expected"):
        prepared(folder, tmp_path / "data")


def test_texts_are_utf8_or_gb18030():
    assert decode_text("naïve – 你好 \r\n".encode()) == "naïve – 你好"
    assert decode_text("naïve – 你好".encode("gb18030")) == "naïve – 你好"
    assert "�" in decode_text(b"ok \xff\xff")


@pytest.mark.parametrize(
    ("fields", "said"),
    [({"form": "pakced"}, "did you mean 'packed'"), ({"split_seed": 1}, "form packed 1"),
     ({"form": "upstream", "split_seed": -1}, "form upstream -1")],
)  # fmt: skip
def test_bad_fields_are_named(fields, said):
    with pytest.raises(InputError, match=said):
        MvsaSingleConfig(**fields)


@pytest.fixture(scope="module")
def real(raw_data):
    path = raw.place(mvsa_single.PACKED, Path(raw_data))
    raw.check(mvsa_single.PACKED, path)
    return mvsa_single.read_packed(path)


def test_real_pairs_are_as_described(real, raw_data, tmp_path, monkeypatch):
    """4,000 pairs, 3,199/400/401; 1,193 negative, 419 neutral, 2,388 positive; 3,839 groups."""
    monkeypatch.delenv(raw.ENVIRONMENT, raising=False)
    builder = prepared(raw_data, tmp_path / "data")
    sizes = [builder.info.splits[split].num_examples for split in SPLITS]
    assert sizes == [3_199, 400, 401]
    assert np.bincount(real["label"]).tolist() == [1_193, 419, 2_388]
    assert real["image"].shape == (4_000, 64, 64, 3)
    groups = duplicate_groups(real["text"].tolist(), [a.tobytes() for a in real["image"]])
    assert groups.max() + 1 == 3_839
    pairs = set(zip(groups.tolist(), real["split"].tolist(), strict=True))
    assert len(pairs) == 3_839, "no repeat is in two splits"
    labels = np.array(pair_files.columns(builder, "test")["label"])
    assert 100 * np.mean(labels == 2) == pytest.approx(59.6, abs=0.05)


def test_real_labels_are_those_of_the_upstream_table(real, raw_data):
    tags = mvsa_single.read_labels(Path(raw_data) / mvsa_single.LABELS.path)
    names = [mvsa_single.CLASS_NAMES[label] for label in real["label"]]
    assert dict(zip(real["guid"].tolist(), names, strict=True)) == tags


def test_real_upstream_pairs_read_as_the_packed_ones(real, raw_data):
    data = Path(raw_data) / "mvsa_single/data"
    rows = {int(guid): row for row, guid in enumerate(real["guid"])}
    paths = sorted(data.glob("*.jpg"))
    assert len(paths) == 40
    for path in paths:
        row = rows[int(path.stem)]
        picture = mvsa_single.shrink(path)
        np.testing.assert_array_equal(picture, real["image"][row])
        assert decode_text(path.with_suffix(".txt").read_bytes()) == real["text"][row]


def test_the_real_upstream_form_says_what_is_missing(raw_data, tmp_path, monkeypatch):
    monkeypatch.delenv(raw.ENVIRONMENT, raising=False)
    with pytest.raises(InputError, match="3960 of 4000 labelled pairs are missing"):
        prepared(raw_data, tmp_path / "data", form="upstream")
