"""ICT-MMMO from fabricated h5 files, and from the real ones where they are."""

import h5py
import numpy as np
import pytest

from mmfuse.data import mfn, raw
from mmfuse.data.datasets import files_fingerprint, make_builder, prepare
from mmfuse.data.ict_mmmo import IctMmmoConfig
from mmfuse.data.loader import Dataset
from mmfuse.errors import InputError
from tests import sequence_files
from tests.sequence_files import MFN_SIZES

FEATURES = {"name": "features", "zero_is_missing": True, "sentinel": -255.0, "length": 20}


def prepared(folder, data_dir, **fields):
    builder = make_builder("ict_mmmo", fields, data_dir=str(data_dir), raw_data=str(folder))
    prepare(builder)
    return builder


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.delenv(raw.ENVIRONMENT, raising=False)
    root = sequence_files.fabricate(tmp_path / "raw")
    sequence_files.trust(root, monkeypatch)
    return root


def h5(folder, name) -> np.ndarray:
    with h5py.File(folder / f"ict_mmmo_mfn/{name}.h5") as file:
        return file["d1"][()]


def test_examples_are_the_rows_of_the_files(folder, tmp_path):
    builder = prepared(folder, tmp_path)
    for split, n in MFN_SIZES.items():
        rows = list(builder.as_data_source(split))
        assert [row["id"].decode() for row in rows] == [f"{split}-{i:03d}" for i in range(n)]
        for name in ("audio", "video"):
            expected = h5(folder, f"{name}_{split}").astype(np.float32)
            np.testing.assert_array_equal(np.stack([row[name] for row in rows]), expected)
        labels = [row["label"] for row in rows]
        np.testing.assert_array_equal(labels, h5(folder, f"y_{split}").astype(np.float32))
    assert builder.info.metadata["absent"]["train"] == {"audio": 1, "video": 1}


def test_two_classes_meet_at_three_and_a_half(folder, tmp_path):
    rows = prepared(folder, tmp_path, task="binary").as_data_source("train")
    scores = h5(folder, "y_train")
    assert 3.5 in scores
    assert [row["label"] for row in rows] == [int(score >= 3.5) for score in scores]


def test_text_is_absent_in_training_and_there_elsewhere(folder, tmp_path):
    builder = prepared(folder, tmp_path, modalities=("video", "text", "audio"))
    dataset = Dataset(builder, dict.fromkeys(mfn.WIDTHS, FEATURES), resident_bytes=2**31)
    train, valid = dataset.train_arrays(), dataset.batch("valid", range(10))
    assert not train["masks"]["text"].any() and not train["inputs"]["text"].any()
    assert valid["masks"]["text"].any(1).sum() == 9  # the first is all zeros
    assert dataset.card["absent"]["train"]["text"] == 48
    assert dataset.card["modalities"] == ["audio", "text", "video"]


def test_zero_frames_are_masked_and_sentinels_are_the_mean(folder, tmp_path):
    builder = prepared(folder, tmp_path)
    dataset = Dataset(builder, dict.fromkeys(("audio", "video"), FEATURES), resident_bytes=2**31)
    train, audio = dataset.train_arrays(), h5(folder, "audio_train")
    np.testing.assert_array_equal(train["masks"]["audio"], audio.any(2))
    assert train["inputs"]["audio"][1, 3, 7] == 0
    known = audio[audio.any(2)][:, 7]
    known = known[known != -255]
    assert dataset.preprocessors["audio"].learned.mean[7] == pytest.approx(known.mean(), abs=1e-5)


def test_nan_names_the_example(folder, tmp_path, monkeypatch):
    with h5py.File(folder / "ict_mmmo_mfn/audio_train.h5", "r+") as file:
        file["d1"][5, 2, 3] = np.nan
    sequence_files.trust(folder, monkeypatch)
    builder = prepared(folder, tmp_path)
    with pytest.raises(InputError, match=r"'audio' of example 'train-005' of split 'train'.*nan"):
        Dataset(builder, {"audio": FEATURES}, resident_bytes=0)


@pytest.mark.parametrize(
    ("shape", "said"),
    [((48, 20, 73), r"expected an array \[N, 20, 74\] as 'd1', found \(48, 20, 73\)"),
     ((47, 20, 74), "'train' differ in rows: audio 47, video 48, label 48"),
     (None, "d1")],
)  # fmt: skip
def test_arrays_of_another_shape_are_refused(folder, tmp_path, monkeypatch, shape, said):
    with h5py.File(folder / "ict_mmmo_mfn/audio_train.h5", "w") as file:
        if shape:
            file["d1"] = np.ones(shape)
    sequence_files.trust(folder, monkeypatch)
    with pytest.raises(InputError, match=said):
        prepared(folder, tmp_path)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"task": "binari"}, "did you mean 'binary'"),
        ({"modalities": ("text",)}, "text alone is refused: the word vectors"),
        ({"modalities": ("audio", "vidio")}, "unknown modality 'vidio'.*did you mean 'video'"),
        ({"modalities": ("audio", "audio")}, "list of different names"),
        ({"modalities": ()}, "list of different names"),
    ],
)
def test_bad_fields_are_named(fields, said):
    with pytest.raises(InputError, match=said):
        IctMmmoConfig(**fields)


def test_names_and_bytes(folder, tmp_path):
    assert IctMmmoConfig(modalities=("video", "audio")).name == IctMmmoConfig().name
    fields = [{}, {"task": "binary"}, {"modalities": ("audio",)}]
    assert len({IctMmmoConfig(**f).name for f in fields}) == 3
    once, again = (prepared(folder, tmp_path / name) for name in "ab")
    assert files_fingerprint(once.data_path) == files_fingerprint(again.data_path)


def test_real_files_have_the_sizes_and_gaps_of_the_release(raw_data, tmp_path):
    # 220/40/80 reviews; about 7 % of audio and 18 % of video steps missing; majority 65.0 %.
    builder = prepared(raw_data, tmp_path, task="binary", modalities=("audio", "text", "video"))
    rows = {s: list(builder.as_data_source(s)) for s in ("train", "valid", "test")}
    assert {s: len(r) for s, r in rows.items()} == {"train": 220, "valid": 40, "test": 80}
    assert np.mean([r["label"] for r in rows["test"]]) == 0.65
    every = [row for found in rows.values() for row in found]
    assert {row["audio"].shape for row in every} == {(20, 74)}
    for name, share in (("audio", 0.07), ("video", 0.18)):
        missing = np.mean([~row[name].any(1) for row in every])
        assert missing == pytest.approx(share, abs=0.01)
    audio = np.stack([row["audio"] for row in every])
    assert np.unique(np.argwhere(audio == -255)[:, 2]).tolist() == [7]
    assert builder.info.metadata["absent"]["train"]["text"] == 220
