import numpy as np
import pytest
import scipy.io

from mmfuse.data import cub_image_text, raw
from mmfuse.data.cub_image_text import CubConfig, CubImageText
from mmfuse.data.datasets import files_fingerprint, make_builder, prepare
from mmfuse.errors import InputError
from tests import pair_files


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.delenv(raw.ENVIRONMENT, raising=False)
    pair_files.write_birds(tmp_path / "raw", np.random.default_rng(0))
    trust(tmp_path / "raw", monkeypatch)
    return tmp_path / "raw"


def trust(root, monkeypatch):
    trusted = pair_files.trusted_file(root, cub_image_text.MAT)
    monkeypatch.setattr(cub_image_text, "MAT", trusted)


def prepared(folder, data_dir, **fields):
    builder = make_builder(
        "cub_image_text", fields, data_dir=str(data_dir), raw_data=str(folder)
    )  # fmt: skip
    prepare(builder)
    return builder


def test_every_bird_is_there_once_with_its_features(folder, tmp_path):
    builder = prepared(folder, tmp_path / "data")
    content = scipy.io.loadmat(folder / cub_image_text.MAT.path)
    seen = []
    for split, each in (("train", 7), ("valid", 1), ("test", 2)):
        columns = pair_files.columns(builder, split)
        assert np.bincount(columns["label"]).tolist() == [each] * 10
        for i, identity in enumerate(columns["id"]):
            row = int(identity.decode().removeprefix("bird-"))
            seen.append(row)
            assert columns["label"][i] == content["Y"][row, 0] - 1
            for view, name in enumerate(("image", "text")):
                expected = content["X"][0, view][row].astype(np.float32)
                np.testing.assert_array_equal(columns[name][i], expected)
    assert sorted(seen) == list(range(100))


def test_preparing_twice_gives_the_same_bytes_and_another_seed_another_split(folder, tmp_path):
    once, again = (prepared(folder, tmp_path / name) for name in "ab")
    other = prepared(folder, tmp_path / "a", split_seed=1)
    assert files_fingerprint(once.data_path) == files_fingerprint(again.data_path)
    assert files_fingerprint(once.data_path) != files_fingerprint(other.data_path)


def test_features_of_another_width_are_named(folder, tmp_path, monkeypatch):
    views = np.empty((1, 2), object)
    views[0, 0], views[0, 1] = np.zeros((3, 1024)), np.zeros((3, 299))
    scipy.io.savemat(folder / cub_image_text.MAT.path, {"X": views, "Y": np.ones((3, 1))})
    trust(folder, monkeypatch)
    with pytest.raises(InputError, match=r"text features \(3, 299\), expected \(3, 300\)"):
        prepared(folder, tmp_path / "data")


@pytest.mark.parametrize("seed", [-1, 0.5, True, 2**32])
def test_a_bad_seed_is_named(seed):
    with pytest.raises(InputError, match=f"cub_image_text: split_seed {seed} must be"):
        CubConfig(split_seed=seed)


def test_real_file_is_as_upstream_describes_it(raw_data, tmp_path, monkeypatch):
    """600 birds, 60 of each of 10 species, 420/60/120; picture features are not negative."""
    monkeypatch.delenv(raw.ENVIRONMENT, raising=False)
    builder = prepared(raw_data, tmp_path / "data")
    assert isinstance(builder, CubImageText)
    for split, each in (("train", 42), ("valid", 6), ("test", 12)):
        columns = pair_files.columns(builder, split)
        assert np.bincount(columns["label"]).tolist() == [each] * 10
        assert np.stack(columns["image"]).shape == (10 * each, 1024)
        assert np.stack(columns["text"]).shape == (10 * each, 300)
        assert np.stack(columns["image"]).min() >= 0
    assert builder.info.metadata["splits"] == {"train": 420, "valid": 60, "test": 120}
