import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from mmfuse.checkpoint import Checkpoints
from mmfuse.data import datasets, loader
from mmfuse.data.datasets import make_builder
from mmfuse.data.loader import Dataset, epoch_order, host_part
from mmfuse.data.text import normalise
from mmfuse.errors import InputError
from mmfuse.loop import train_group
from mmfuse.tasks import Classification
from tests import tiny


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return tiny.dataset(tmp_path_factory)


class Faulty:
    """A builder whose columns are changed after reading."""

    def __init__(self, builder, change):
        self._builder, self._change = builder, change

    def __getattr__(self, name):
        return getattr(self._builder, name)

    def as_data_source(self, split):
        source, change = self._builder.as_data_source(split), self._change

        class Source:
            def __getitems__(self, indices):
                rows = [dict(row) for row in source.__getitems__(indices)]
                return [change(split, row) for row in rows]

        return Source()


def faulty(dataset, change, **fields):
    return Dataset(
        Faulty(dataset._builder, change), tiny.PREPROCESS, **{"resident_bytes": 2**31} | fields
    )


def test_batch_tree(dataset):
    batch = dataset.batch("train", [3, 0])
    assert set(batch) == {"inputs", "masks", "label"}
    assert {m: x.shape for m, x in batch["inputs"].items()} == {"audio": (2, 4, 8), "text": (2, 8)}
    assert {m: x.shape for m, x in batch["masks"].items()} == {"audio": (2, 4), "text": (2, 8)}
    assert all(mask.dtype == bool for mask in batch["masks"].values())
    assert (batch["label"].dtype, batch["inputs"]["audio"].dtype) == (np.int32, np.float32)
    other = dataset.batch("train", [0, 3])
    np.testing.assert_array_equal(batch["inputs"]["audio"][::-1], other["inputs"]["audio"])
    assert dataset.sizes == {"train": 100, "valid": 40, "test": 30}
    assert dataset.modalities == ("audio", "text")
    assert dataset.task == Classification(8)


def test_resident_arrays_are_the_training_split_in_order(dataset):
    whole, some = dataset.train_arrays(), dataset.batch("train", range(10, 20))
    assert dataset.resident
    assert len(whole["label"]) == 100
    np.testing.assert_array_equal(whole["label"][10:20], some["label"])
    np.testing.assert_array_equal(whole["inputs"]["audio"][10:20], some["inputs"]["audio"])


def test_statistics_come_from_training_only(dataset):
    def change(split, row):
        return row if split == "train" else row | {"audio": row["audio"] // 2, "text": b"zebra"}

    other = faulty(dataset, change)
    states = [{m: p.state() for m, p in d.preprocessors.items()} for d in (dataset, other)]
    assert states[0] == states[1]
    audio = dataset.train_arrays()["inputs"]["audio"]
    np.testing.assert_allclose(audio.mean((0, 1)), 0, atol=1e-4)


def test_eval_batches_weigh_the_padding_zero(dataset):
    batches = list(dataset.eval_batches("valid", 16))
    assert [batch["weight"].sum() for batch in batches] == [16, 16, 8]
    assert all(batch["label"].shape == (16,) for batch in batches)
    labels = np.concatenate([b["label"][b["weight"] > 0] for b in batches])
    np.testing.assert_array_equal(labels, dataset.batch("valid", range(40))["label"])


def test_the_test_split_is_closed_until_it_is_opened_and_every_opening_counts(tmp_path_factory):
    dataset = tiny.dataset(tmp_path_factory)
    with pytest.raises(PermissionError, match="open_test"):
        dataset.batch("test", [0])
    with pytest.raises(PermissionError, match="open_test"):
        dataset.eval_batches("test", 8)
    assert dataset.test_openings == []
    score, curve = ({"run": "concat, seeds 0", "purpose": p} for p in ("score", "curve"))
    weights = [batch["weight"].sum() for batch in dataset.open_test(8, **score)]
    assert weights == [8, 8, 8, 6]
    list(dataset.open_test(30, **curve))
    assert dataset.test_openings == [score, curve]
    with pytest.raises(PermissionError, match=r"concat, seeds 0 has opened .* for 'curve' before"):
        dataset.open_test(30, **curve)
    for read in (dataset.batch, dataset.raw, dataset.eval_batches):  # open to nobody else
        for split in ("test", "train+test", "all", "test[:3]"):
            with pytest.raises(PermissionError, match="closed"):
                read(split, 8)


def test_training_never_touches_the_test_split(dataset, tmp_path):
    """Whatever is read of it raises: fitting, building, training, selecting do not."""

    def touched(split, row):
        assert split != "test", "the test split was read"
        return row

    for resident_bytes in (2**31, 0):
        other = faulty(dataset, touched, resident_bytes=resident_bytes)
        built, devices = tiny.built(other, epochs=1)
        checkpoints = Checkpoints(tmp_path / str(resident_bytes))
        run, *_ = train_group(built, other, devices, (0,), checkpoints)
        assert run.selection.epoch == [0]
        assert other.test_openings == []
    with pytest.raises(AssertionError, match="was read"):
        list(other.open_test(16, run="any", purpose="score"))


@pytest.mark.parametrize("wrong", [8, -1, 1000])
def test_a_label_out_of_range_names_its_example(dataset, wrong):
    def change(split, row):
        return row | {"label": wrong} if row["id"] == b"train-000017" else row

    with pytest.raises(
        InputError, match=rf"'label' of example 'train-000017'.*: {wrong} is outside 0..7"
    ):
        faulty(dataset, change)


def test_a_faulty_label_outside_training_is_found_when_it_is_read(dataset):
    change = lambda split, row: row | {"label": 99} if split == "test" else row  # noqa: E731
    other = faulty(dataset, change)
    with pytest.raises(InputError, match=r"'label' of example 'test-\d+' of split 'test': 99"):
        list(other.open_test(8, run="any", purpose="score"))


def test_nan_names_its_example(dataset):
    other = tiny.PREPROCESS | {"audio": {"name": "array"}}

    def change(split, row):
        audio = row["audio"][:64].astype(np.float32).reshape(8, 8)
        if row["id"] == b"valid-000005":
            audio[3, 3] = np.inf
        return row | {"audio": audio}

    made = Dataset(Faulty(dataset._builder, change), other, resident_bytes=2**31)
    assert made.train_arrays()["inputs"]["audio"].shape == (100, 8, 8)
    with pytest.raises(InputError, match="NaN or Inf in 'audio' of example 'valid-000005'"):
        list(made.eval_batches("valid", 40))


PREPARE = """
import sys
from mmfuse.data.datasets import files_fingerprint, make_builder, prepare
fields = {"variant": "unique", "n_train": 12, "n_valid": 4, "n_test": 4}
builder = make_builder("helpdesk", fields, data_dir=sys.argv[1], raw_data=None)
prepare(builder)
print(builder.info.splits["train"].num_examples, files_fingerprint(builder.data_path))
"""


def test_other_processes_write_the_same_bytes_in_one_folder_too(tmp_path):
    """Maps are serialised in an order of their own in each process, unless one takes care."""
    root = Path(__file__).parent.parent
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PREPARE, str(tmp_path / folder)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=root,
        )
        for folder in ("one", "two", "two", "two")
    ]  # fmt: skip
    said = [process.communicate() for process in running]
    assert [process.returncode for process in running] == [0] * 4, said
    assert len({out for out, _ in said}) == 1
    count, digest = said[0][0].split()
    assert (count, len(digest)) == ("12", 64)


def test_fingerprint_changes_with_files_and_preprocessing(dataset, tmp_path_factory, tmp_path):
    again = tiny.dataset(tmp_path_factory)
    assert again.fingerprint == dataset.fingerprint
    other = tiny.PREPROCESS | {"text": tiny.PREPROCESS["text"] | {"length": 7}}
    assert tiny.dataset(tmp_path_factory, preprocess=other).fingerprint != dataset.fingerprint
    learned = faulty(dataset, lambda split, row: row | {"text": row["text"] + b" zebra"})
    assert learned.fingerprint != dataset.fingerprint  # another vocabulary
    for name in ("a.array_record-0", "b.array_record-0"):
        (tmp_path / name).write_bytes(b"x")
    before = datasets.files_fingerprint(tmp_path)
    (tmp_path / "a.array_record-0").write_bytes(b"y")
    changed = datasets.files_fingerprint(tmp_path)
    (tmp_path / "a.array_record-0").rename(tmp_path / "aa.array_record-0")
    assert len({before, changed, datasets.files_fingerprint(tmp_path)}) == 3


def test_epoch_order_is_pure_complete_and_keyed_by_seed_and_epoch():
    order = epoch_order(3, 5, 50, 8)
    assert (order.shape, order.dtype) == ((7, 8), np.int32)
    flat = order.ravel()
    assert sorted(flat[:50]) == list(range(50))
    assert (flat[50:] == -1).all()
    np.testing.assert_array_equal(order, epoch_order(3, 5, 50, 8))
    others = [epoch_order(s, e, 50, 8) for s, e in ((3, 6), (4, 5), (5, 3), (2**32 - 1, 0))]
    kept = {tuple(o.ravel()) for o in [order, *others]}
    assert len(kept) == 5
    assert (epoch_order(0, 0, 16, 8) >= 0).all()  # no padding where none is needed


def test_epoch_order_does_not_change_between_versions():
    """If this fails, another numpy shuffles otherwise: records of before cannot be reproduced."""
    assert epoch_order(1, 2, 10, 5).tolist() == [[1, 4, 5, 0, 7], [6, 8, 2, 3, 9]]


def test_stream_gives_the_ordered_examples(tmp_path_factory):
    streamed = tiny.dataset(tmp_path_factory, resident_bytes=0)
    assert not streamed.resident
    assert streamed.train_arrays() is None
    orders = [np.array([[[4, 2], [7, -1]]]), np.array([[[0, 1], [2, 3]]])]
    found = list(streamed.stream(orders))
    for order, batch in zip(orders, found, strict=True):
        expected = streamed.batch("train", np.maximum(order, 0).ravel())
        assert batch["inputs"]["text"].shape == (*order.shape, 8)
        np.testing.assert_array_equal(batch["label"].ravel(), expected["label"])
        np.testing.assert_array_equal(
            batch["inputs"]["text"].reshape(4, 8), expected["inputs"]["text"]
        )


def test_evaluation_is_read_ahead_in_the_same_batches(dataset, tmp_path_factory):
    streamed = tiny.dataset(tmp_path_factory, resident_bytes=0)
    pairs = zip(streamed.eval_batches("valid", 16), dataset.eval_batches("valid", 16), strict=True)
    for found, expected in pairs:
        jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert expected["index"].tolist() == [*range(32, 40), *[39] * 8]
    with pytest.raises(PermissionError, match="open_test"):
        streamed.eval_batches("test", 8)


def test_the_processes_share_every_batch_of_an_epoch():
    """Together they read each example once; none depends on what the others read."""
    whole = epoch_order(3, 5, 50, 8)
    parts = [host_part(epoch_order(3, 5, 50, 8), process, 4) for process in range(4)]
    assert [part.shape for part in parts] == [(7, 2)] * 4
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)
    flat = np.concatenate([part.ravel() for part in parts])
    assert sorted(flat[flat >= 0]) == list(range(50))
    replicas = np.stack([whole, epoch_order(4, 5, 50, 8)], axis=1)  # [steps, R, B]
    np.testing.assert_array_equal(host_part(replicas, 1, 4)[:, 0], parts[1])
    np.testing.assert_array_equal(host_part(whole, 0, 1), whole)
    with pytest.raises(InputError, match="batch 8 is not divisible by 3 processes"):
        host_part(whole, 0, 3)


def test_what_is_fitted_on_is_limited_in_bytes_too(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(loader, "READ_AT_ONCE", 10)
    monkeypatch.setattr(loader, "FIT_BYTES", 25 * 8000 * 2)  # 25 waveforms alone would fill it
    dataset = tiny.dataset(tmp_path_factory)
    audio = dataset.train_arrays()["inputs"]["audio"]
    assert len(audio) == 100
    means = [np.abs(audio[:n].mean((0, 1))).max() for n in (10, 20, 30, 100)]
    assert np.argmin(means) in (0, 1, 2)
    assert min(means) < 1e-4 < means[3]


def test_large_training_splits_are_fitted_on_their_first_part(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(loader, "FIT_LIMIT", 30)
    dataset = tiny.dataset(tmp_path_factory)
    assert len(dataset.train_arrays()["label"]) == 100
    audio = dataset.train_arrays()["inputs"]["audio"]
    np.testing.assert_allclose(audio[:30].mean((0, 1)), 0, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "fields", "said"),
    [
        ("helpdsk", {}, "unknown dataset 'helpdsk' in data.name.*did you mean 'helpdesk'"),
        ("helpdesk", {"n_trian": 3}, "no field 'n_trian' in data.builder.*did you mean 'n_train'"),
        ("helpdesk", {"version": 3}, "no field 'version'"),
    ],
)
def test_unknown_datasets_and_fields(name, fields, said, tmp_path):
    with pytest.raises(InputError, match=said):
        make_builder(name, fields, data_dir=str(tmp_path), raw_data=None)


def test_unknown_modality(tmp_path_factory):
    with pytest.raises(InputError, match=r"no modality 'audoi'.*did you mean 'audio'"):
        tiny.dataset(tmp_path_factory, preprocess={"audoi": {"name": "log_mel"}})


def test_one_column_can_be_two_modalities(tmp_path_factory):
    characters = {"name": "text", "column": "text", "level": "character", "length": 40}
    both = tiny.dataset(
        tmp_path_factory, preprocess={"text": tiny.PREPROCESS["text"], "letters": characters}
    )
    assert both.modalities == ("letters", "text")
    (said,) = both.raw("valid", [3])["text"]
    batch, letters = both.batch("valid", [3]), both.preprocessors["letters"]
    said = " ".join(normalise(said.decode()).split())
    real = batch["inputs"]["letters"][batch["masks"]["letters"]]
    assert "".join(letters.vocabulary.words[i - 2] for i in real) == said
    alone = tiny.dataset(tmp_path_factory, preprocess={"text": tiny.PREPROCESS["text"]})
    np.testing.assert_array_equal(
        batch["inputs"]["text"], alone.batch("valid", [3])["inputs"]["text"]
    )
    with pytest.raises(InputError, match=r"no modality 'txet'.*did you mean 'text'"):
        tiny.dataset(tmp_path_factory, preprocess={"letters": {"name": "text", "column": "txet"}})
