"""YouTube opinions from a fabricated packed file, and from the real one where it is."""

import numpy as np
import pytest

from mmfuse.data import raw
from mmfuse.data.datasets import files_fingerprint, make_builder, prepare
from mmfuse.data.youtube import YoutubeConfig
from mmfuse.errors import InputError
from tests import sequence_files
from tests.sequence_files import MFN_SIZES


def prepared(folder, data_dir, **fields):
    builder = make_builder("youtube", fields, data_dir=str(data_dir), raw_data=str(folder))
    prepare(builder)
    return builder


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.delenv(raw.ENVIRONMENT, raising=False)
    root = sequence_files.fabricate(tmp_path / "raw")
    sequence_files.trust(root, monkeypatch)
    return root


def test_examples_are_the_rows_of_the_file(folder, tmp_path):
    builder = prepared(folder, tmp_path, modalities=("text", "audio", "video"))
    packed = np.load(folder / "youtube_mfn/youtube_mfn.npz")
    for split, n in MFN_SIZES.items():
        rows = list(builder.as_data_source(split))
        assert [row["id"].decode() for row in rows] == [f"{split}-{i:03d}" for i in range(n)]
        assert [row["label"] for row in rows] == packed[f"{split}_y"].argmax(1).tolist()
        for name in ("audio", "video", "text"):
            if (split, name) == ("train", "text"):
                assert {row["text"].shape for row in rows} == {(0, 300)}
            else:
                found = np.stack([row[name] for row in rows])
                np.testing.assert_array_equal(found, packed[f"{split}_{name}"])


def test_the_file_may_lie_beside_the_raw_folder(folder, tmp_path):
    (folder / "youtube_mfn").rename(folder.parent / "youtube_mfn")
    assert prepared(folder, tmp_path / "data").is_prepared()


@pytest.mark.parametrize("labels", [np.ones((48, 3)), np.eye(2)[np.zeros(48, int)]])
def test_labels_are_one_hot_over_three_classes(folder, tmp_path, monkeypatch, labels):
    path = folder / "youtube_mfn/youtube_mfn.npz"
    with np.load(path) as packed:
        np.savez(path, **{**packed, "train_y": labels})
    sequence_files.trust(folder, monkeypatch)
    with pytest.raises(InputError, match="'train' are not one-hot over 3 classes"):
        prepared(folder, tmp_path)


def test_text_alone_is_refused_and_bytes_are_reproduced(folder, tmp_path):
    with pytest.raises(InputError, match="youtube: text alone is refused"):
        YoutubeConfig(modalities=("text",))
    once, again = (prepared(folder, tmp_path / name) for name in "ab")
    assert files_fingerprint(once.data_path) == files_fingerprint(again.data_path)


def test_the_real_file_has_the_sizes_and_gaps_of_the_release(raw_data, tmp_path):
    # 173/36/60 videos; majority 45.0 %; 83 % of audio and 96 % of video steps are zeros.
    builder = prepared(raw_data, tmp_path)
    rows = {s: list(builder.as_data_source(s)) for s in ("train", "valid", "test")}
    assert {s: len(r) for s, r in rows.items()} == {"train": 173, "valid": 36, "test": 60}
    counts = np.bincount([row["label"] for row in rows["test"]])
    assert counts.max() / counts.sum() == 0.45
    every = [row for found in rows.values() for row in found]
    for name, share in (("audio", 0.83), ("video", 0.96)):
        assert np.mean([~row[name].any(1) for row in every]) == pytest.approx(share, abs=0.01)
