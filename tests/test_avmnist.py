import hashlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core import shuffle

from mmfuse.data import avmnist_sources, image, raw
from mmfuse.data.avmnist import Avmnist, AvmnistConfig
from mmfuse.errors import InputError
from tests import avmnist_files

tfds.disable_progress_bar()
TINY = {"n_train": 40, "n_valid": 10, "n_test": 20, "spec_size": 28}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.delenv(raw.ENVIRONMENT, raising=False)
    root = avmnist_files.fabricate(tmp_path / "raw")
    avmnist_files.trust(root, monkeypatch)
    return root


def prepare(folder, data_dir, **fields) -> Avmnist:
    config = AvmnistConfig(**TINY | fields)
    builder = Avmnist(config=config, data_dir=str(data_dir), raw_data=str(folder))
    builder.download_and_prepare()
    return builder


def read(builder, split) -> dict[str, np.ndarray]:
    rows = builder.as_data_source(split)
    rows = rows.__getitems__(list(range(len(rows))))
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def files(builder) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in builder.data_path.iterdir()
    }


def test_prepared_features_splits_and_card(folder, tmp_path):
    builder = prepare(folder, tmp_path / "data")
    card = builder.info.metadata
    for split, size in card["splits"].items():
        columns = read(builder, split)
        assert columns["image"].shape == (size, 28, 28, 1)
        assert columns["image"].dtype == np.uint8
        assert columns["audio"].shape == (size, 28, 28, 1)
        assert columns["audio"].dtype == np.float16
        assert columns["label"].dtype == np.int64
        said = [identity.decode().split("/") for identity in columns["id"]]
        assert [int(clip[0]) for _, clip in said] == columns["label"].tolist()
        numbers = [int(name.split("-")[2]) for name, _ in said]
        low, high = {"train": (0, 50), "valid": (50, 60), "test": (0, 20)}[split]
        assert len(set(numbers)) == size
        assert all(low <= number < high for number in numbers)
        assert card["distinct_clips"][split] == len({clip for _, clip in said})
        assert {int(clip.split("_")[2]) for _, clip in said} <= {
            "train": {10, 11},
            "valid": {5},
            "test": {0, 1},
        }[split]
    assert card["clip_pool"] == {"train": 60, "valid": 30, "test": 60}
    assert (card["classes"], card["modalities"]) == (10, ["audio", "image"])
    assert {"licence", "citation", "source", "traps", "snr_db", "protocol"} <= set(card)


def test_statistics_are_those_of_the_stored_training_values(folder, tmp_path):
    builder = prepare(folder, tmp_path / "data")
    columns = read(builder, "train")
    for name, scale in (("image", 255), ("audio", 1)):
        values = columns[name].astype(np.float64) / scale
        expected = {"mean": values.mean(), "std": values.std()}
        assert builder.info.metadata["statistics"][name] == pytest.approx(expected)


def test_components_keep_a_quarter_of_the_training_variance_or_what_is_asked(folder, tmp_path):
    card = prepare(folder, tmp_path / "data").info.metadata
    rows = image.read_idx(folder / "mnist/train-images-idx3-ubyte.gz")[:50].reshape(50, -1)
    share = np.cumsum(np.linalg.svd(rows - rows.mean(0), compute_uv=False) ** 2)
    share /= share[-1]
    k = card["components"]
    assert share[k - 2] < 0.25 <= share[k - 1]
    assert card["kept_variance"] == pytest.approx(share[k - 1], abs=1e-6)
    two = prepare(folder, tmp_path / "data", components=2)
    assert two.info.metadata["components"] == 2
    blurred = read(two, "train")["image"].reshape(40, -1).astype(float)
    size = np.linalg.svd(blurred - blurred.mean(0), compute_uv=False)
    assert size[2] < 0.1 * size[1]  # two directions, and the rounding


def test_changed_test_images_change_no_training_or_validation_example(
    folder, tmp_path, monkeypatch
):
    before = prepare(folder, tmp_path / "a")
    rng = np.random.default_rng(9)
    path = folder / "mnist/t10k-images-idx3-ubyte.gz"
    avmnist_files.write_idx(path, rng.integers(0, 99, (20, 28, 28), np.uint8))
    avmnist_files.trust(folder, monkeypatch)
    after = prepare(folder, tmp_path / "b")
    for split, same in (("train", True), ("valid", True), ("test", False)):
        equal = (read(before, split)["image"] == read(after, split)["image"]).all()
        assert equal == same
    assert before.info.metadata["statistics"] == after.info.metadata["statistics"]


def test_the_same_settings_give_the_same_bytes(folder, tmp_path):
    once, again = (prepare(folder, tmp_path / name) for name in "ab")
    assert files(once) == files(again)
    other = prepare(folder, tmp_path / "a", seed=1)
    assert other.data_path != once.data_path
    assert (read(other, "train")["audio"] != read(once, "train")["audio"]).any()


def test_a_prepared_dataset_is_read_again_without_raw_files(folder, tmp_path):
    first = prepare(folder, tmp_path / "data")
    later = Avmnist(config=AvmnistConfig(**TINY), data_dir=str(tmp_path / "data"))
    later.download_and_prepare()
    assert later.info.metadata == first.info.metadata
    np.testing.assert_array_equal(read(later, "test")["audio"], read(first, "test")["audio"])


def test_a_split_beyond_the_memory_limit_of_tfds_needs_no_tensorflow(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(shuffle, "MAX_MEM_BUFFER_SIZE", 0)
    assert len(prepare(folder, tmp_path / "data").as_data_source("train")) == 40
    assert shuffle.MAX_MEM_BUFFER_SIZE == 0


def test_faulty_raw_files_are_one_line_and_nothing_is_written(folder, tmp_path):
    images = folder / "mnist/train-images-idx3-ubyte.gz"
    sound = folder / "fsdd/recordings/3_theo_5.wav"
    noise = folder / avmnist_sources.PREPARED_NOISE.path
    wholes = {path: path.read_bytes() for path in (images, sound, noise)}
    cases = [
        (images, None, "missing"),
        (images, wholes[images][:-20], "truncated"),
        (sound, wholes[sound][:-2], "altered"),
        (sound, None, "expected 150 files"),
        (noise, wholes[noise][:-1] + b"!", "altered"),
        (noise, None, "found 0 of 400"),
    ]
    for path, content, said in cases:
        path.unlink() if content is None else path.write_bytes(content)
        with pytest.raises(InputError, match=said) as caught:
            prepare(folder, tmp_path / "data")
        assert "\n" not in str(caught.value)
        path.write_bytes(wholes[path])
    assert not (tmp_path / "data").exists()


def test_the_raw_folder_may_come_from_the_environment(folder, tmp_path, monkeypatch):
    monkeypatch.setenv(raw.ENVIRONMENT, str(folder))
    builder = Avmnist(config=AvmnistConfig(**TINY), data_dir=str(tmp_path / "data"))
    builder.download_and_prepare()
    assert builder.is_prepared()


def test_every_field_is_part_of_the_name():
    fields = {
        "protocol": "speaker",
        "snr_db": 0.1234567,
        "n_train": 7,
        "n_valid": 8,
        "n_test": 9,
        "spec_size": 28,
        "components": 5,
        "seed": 3,
    }
    names = {AvmnistConfig(**{field: value}).name for field, value in fields.items()}
    names |= {AvmnistConfig().name, AvmnistConfig(snr_db=None).name}
    assert len(names) == len(fields) + 2
    assert AvmnistConfig().name == "index-snr-5.0-55000-5000-10000-spec112-kauto-seed0"
    assert not any("/" in name for name in names)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("protocol", "speakers", "did you mean 'speaker'"),
        ("snr_db", float("nan"), "snr_db nan"),
        ("snr_db", "clean", "snr_db clean"),
        ("spec_size", 56, "28 or 112"),
        ("components", 0, "components 0"),
        ("n_train", 55_001, "from 1 to 55000"),
        ("n_test", 0, "n_test 0"),
        ("n_valid", 2.5, "n_valid 2.5"),
        ("seed", -1, "seed -1"),
    ],
)
def test_bad_fields_are_named(field, value, said):
    with pytest.raises(InputError, match=said):
        AvmnistConfig(**{field: value})


def test_tensorflow_is_not_imported():
    code = (
        "import sys, mmfuse.data.avmnist;"
        "sys.exit(any(name.split('.')[0] == 'tensorflow' for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture(scope="module")
def real(raw_data, tmp_path_factory):
    fields = {"n_train": 1500, "n_valid": 100, "n_test": 800, "spec_size": 28}
    return prepare(raw_data, tmp_path_factory.mktemp("real"), **fields)


def test_real_images_keep_four_components_and_28_percent_of_the_variance(real):
    card = real.info.metadata
    assert card["components"] == 4
    assert card["kept_variance"] == pytest.approx(0.284, abs=1e-3)


def test_real_pools_have_2400_300_and_300_clips(real):
    card = real.info.metadata
    assert card["clip_pool"] == {"train": 2400, "valid": 300, "test": 300}
    assert all(card["distinct_clips"][s] <= card["clip_pool"][s] for s in card["clip_pool"])
    assert card["distinct_clips"]["train"] > 1000


def test_real_digits_can_be_read_from_either_modality_but_not_well(real):
    train, test = read(real, "train"), read(real, "test")
    for name, low, high in (("image", 0.5, 0.7), ("audio", 0.35, 0.55)):
        accuracy = ridge_accuracy(train[name], train["label"], test[name], test["label"])
        assert low < accuracy < high, (name, accuracy)


def ridge_accuracy(x, labels, y, y_labels, penalty=1e3) -> float:
    """Test accuracy of ridge regression on one-hot labels: the plainest of linear readers."""
    x, y = (a.reshape(len(a), -1).astype(np.float64) for a in (x, y))
    mean, std = x.mean(0), x.std(0) + 1e-6
    x, y = (x - mean) / std, (y - mean) / std
    weights = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ np.eye(10)[labels])
    return np.mean((y @ weights).argmax(1) == y_labels)
