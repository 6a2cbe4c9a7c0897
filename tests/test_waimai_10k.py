from pathlib import Path

import numpy as np
import pytest

from mmfuse.data import raw, waimai_10k
from mmfuse.data.datasets import files_fingerprint, make_builder, prepare
from mmfuse.data.splits import duplicate_groups
from mmfuse.data.waimai_10k import Waimai10kConfig
from mmfuse.errors import InputError
from tests import pair_files, stream_files

SPLITS = ("train", "valid", "test")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.delenv(raw.ENVIRONMENT, raising=False)
    stream_files.write_reviews(tmp_path / "raw")
    stream_files.trust(tmp_path / "raw", monkeypatch)
    return tmp_path / "raw"


def prepared(folder, data_dir, **fields):
    builder = make_builder("waimai_10k", fields, data_dir=str(data_dir), raw_data=str(folder))
    prepare(builder)
    return builder


def by_id(builder) -> dict[int, tuple]:
    found = {}
    for split in SPLITS:
        columns = pair_files.columns(builder, split)
        for identity, text, label in zip(*(columns[n] for n in ("id", "text", "label")), strict=1):
            found[int(identity)] = (text.decode(), int(label), split)
    return found


def test_the_packed_form_keeps_its_split_and_both_forms_hold_the_same(folder, tmp_path):
    packed = by_id(prepared(folder, tmp_path / "data"))
    wanted = stream_files.reviews()
    rows = zip(*(wanted[name].tolist() for name in ("text", "label", "split")), strict=True)
    assert packed == dict(enumerate(rows))
    upstream = by_id(prepared(folder, tmp_path / "data", form="upstream"))
    assert {i: row[:2] for i, row in upstream.items()} == {i: r[:2] for i, r in packed.items()}


def test_equal_reviews_stay_together_whatever_the_seed(folder, tmp_path):
    seen = set()
    for seed in range(6):
        builder = prepared(folder, tmp_path / "data", form="upstream", split_seed=seed)
        found = by_id(builder)
        assert found[7][2] == found[21][2]
        seen.add(files_fingerprint(builder.data_path))
    assert len(seen) == 6


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"label": np.full(40, 2)}, "label 2; allowed: 0, 1"),
        ({"split": np.array(["dev"] * 40)}, "split 'dev'; allowed: train, valid, test"),
        ({"label": np.zeros(39, int)}, "text 40, label 39, split 40"),
    ],
)
def test_a_bad_packed_file_is_refused(folder, tmp_path, monkeypatch, changed, said):
    stream_files.write_reviews(folder, **changed)
    stream_files.trust(folder, monkeypatch)
    with pytest.raises(InputError, match=said) as caught:
        prepared(folder, tmp_path / "data")
    assert "\n" not in str(caught.value)


def test_a_bad_row_of_the_table_is_named(folder, tmp_path, monkeypatch):
    (folder / waimai_10k.TABLE.path).write_text("label,review\n1,好\n好,1\n")
    stream_files.trust(folder, monkeypatch)
    with pytest.raises(InputError, match="line 3: label '好'; expected 0"):
        prepared(folder, tmp_path / "data", form="upstream")


@pytest.mark.parametrize(
    ("fields", "said"),
    [({"form": "pakced"}, "did you mean 'packed'"), ({"split_seed": 1}, "form packed 1"),
     ({"form": "upstream", "split_seed": -1}, "form upstream -1")],
)  # fmt: skip
def test_bad_fields_are_named(fields, said):
    with pytest.raises(InputError, match=said):
        Waimai10kConfig(**fields)


def test_real_reviews_are_as_described(raw_data):
    """11,987 reviews, 9,590/1,198/1,199; 4,000 positive; 11,980 different ones, none split."""
    path = raw.place(waimai_10k.PACKED, Path(raw_data))
    raw.check(waimai_10k.PACKED, path)
    packed = waimai_10k.read_packed(path)
    assert [int(np.sum(packed["split"] == split)) for split in SPLITS] == [9_590, 1_198, 1_199]
    assert np.bincount(packed["label"]).tolist() == [7_987, 4_000]
    test = packed["label"][packed["split"] == "test"]
    assert 100 * np.mean(test == 0) == pytest.approx(66.6, abs=0.05)
    groups = duplicate_groups(packed["text"].tolist())
    assert groups.max() + 1 == 11_980
    assert len(set(zip(groups.tolist(), packed["split"].tolist(), strict=True))) == 11_980
    assert len(set(zip(groups.tolist(), packed["label"].tolist(), strict=True))) == 11_987
    raw.check(waimai_10k.TABLE, Path(raw_data) / waimai_10k.TABLE.path)
    table = waimai_10k.read_table(Path(raw_data) / waimai_10k.TABLE.path)
    for name, column in table.items():
        np.testing.assert_array_equal(column, packed[name])
