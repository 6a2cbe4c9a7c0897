from pathlib import Path

import numpy as np
import pytest

from mmfuse.data import emodb, raw
from mmfuse.data.datasets import files_fingerprint
from mmfuse.errors import InputError
from tests.graph_files import SPLITS, place, prepared, rows, trust
from tests.speech_files import clips


def write(root, monkeypatch, **changed):
    monkeypatch.delenv(raw.ENVIRONMENT, raising=False)
    columns = clips(np.random.default_rng(0)) | changed
    np.savez(place(root, emodb.PACKED), **columns)
    trust(root, emodb, monkeypatch, "PACKED")
    return columns


def test_each_speaker_is_in_one_split(tmp_path, monkeypatch):
    columns = write(tmp_path / "raw", monkeypatch)
    for speaker, after in ((3, 8), (12, 13), (16, 3)):
        builder = prepared("emodb", tmp_path / "raw", tmp_path / "data", speaker=speaker)
        found = {s: {int(row["id"][:2]) for row in rows(builder, s)} for s in SPLITS}
        assert (found["test"], found["valid"]) == ({speaker}, {after})
        assert found["train"] == set(emodb.SPEAKERS) - {speaker, after}
        assert (
            f"test is speaker {speaker}, valid is speaker {after}"
            in (builder.info.metadata["split_rule"])
        )
    first, second = rows(builder, "test")
    assert (first["id"], first["text"], first["label"]) == (b"16a01Wa", b"a01", 0)
    assert (second["text"], second["label"]) == (b"b10", 5)
    np.testing.assert_allclose(first["audio"], columns["logmel"][-2] / 255 * 80 - 80, atol=1e-4)
    assert first["audio"].min() >= -80 and first["audio"].max() <= 0


def test_preparing_twice_gives_the_same_bytes(tmp_path, monkeypatch):
    write(tmp_path, monkeypatch)
    once, again = (prepared("emodb", tmp_path, tmp_path / name) for name in "ab")
    assert files_fingerprint(once.data_path) == files_fingerprint(again.data_path)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"class_name": np.array(emodb.CLASS_NAMES[::-1])}, "expected .'anger', 'boredom'"),
        ({"label": np.zeros(20, np.int8)}, "clip '03b10Ta' with speaker 3, sentence b10 and l"),
        ({"label": np.full(20, 7, np.int8)}, "clip '03a01Wa' with speaker 3"),
        ({"speaker": np.full(20, 4, np.int8)}, "clip '03a01Wa' with speaker 4"),
        ({"label": np.zeros(19, np.int8)}, "differ in rows: clip 20, logmel 20"),
        ({"logmel": np.zeros((20, 99, 41), np.uint8)}, r"logmel is uint8 \(99, 41\)"),
    ],
)
def test_what_does_not_fit_is_named(changed, said, tmp_path, monkeypatch):
    write(tmp_path, monkeypatch, **changed)
    with pytest.raises(InputError, match=said):
        prepared("emodb", tmp_path, tmp_path / "data")


def test_references_are_those_of_models_that_never_heard_the_speaker(tmp_path, monkeypatch):
    found = clips(np.random.default_rng(1), 3)
    told = {
        r["name"].split(",")[0]: r for r in emodb.references(found) if r["metric"] == "accuracy"
    }
    assert told["logistic regression on sentence"]["value"] == 1  # here the sentence tells it all
    noise = told["logistic regression on pooled log-mel"]["value"]
    assert abs(noise - 0.5) < 4 * np.sqrt(0.25 / 60)  # and the sound nothing
    loud = found["logmel"] // 4 + np.where(found["label"] == 5, 100, 0)[:, None, None]
    same = found | {"logmel": loud.astype(np.uint8), "sentence": np.full(60, "a01")}
    told = {(r["name"].split(",")[0], r["metric"]): r["value"] for r in emodb.references(same)}
    assert told["logistic regression on pooled log-mel", "recall_macro"] == 1
    assert told["logistic regression on sentence", "recall_macro"] == 0.5
    # A speaker whose emotions sound the other way round: all its clips are missed.
    turned = np.where(found["speaker"] == 9, 5 - found["label"], found["label"])
    loud = found["logmel"] // 4 + np.where(turned == 5, 100, 0)[:, None, None]
    odd = emodb.references(same | {"logmel": loud.astype(np.uint8)})
    assert odd[0]["value"] == pytest.approx(0.9)
    write(tmp_path, monkeypatch)
    builder = prepared("emodb", tmp_path, tmp_path / "data")
    assert builder.info.metadata["references"] == emodb.references(clips(np.random.default_rng(0)))


def test_pooling_takes_mean_deviation_and_steps():
    x = np.array([[[0, 10], [4, 10], [2, 10]]], np.uint8)
    wanted = [2, 10, np.std([0, 4, 2]), 0, 3, 0]
    np.testing.assert_allclose(emodb.pooled(x)[0], wanted)


def test_pooled_sound_is_that_of_the_frames_in_decibels(tmp_path, monkeypatch):
    write(tmp_path, monkeypatch)
    frames, pooled = (
        list(rows(prepared("emodb", tmp_path, tmp_path / "data", audio=audio), "test"))
        for audio in emodb.AUDIO
    )
    assert [row["id"] for row in frames] == [row["id"] for row in pooled]
    for long, short in zip(frames, pooled, strict=True):
        x = long["audio"].astype(np.float64)
        wanted = [*x.mean(0), *x.std(0), *np.abs(x[1:] - x[:-1]).mean(0)]
        np.testing.assert_allclose(short["audio"], wanted, atol=1e-3)


@pytest.mark.parametrize(
    ("field", "said"),
    [({"speaker": 4}, "speaker 4; allowed: 3, 8, 9"), ({"audio": "pool"}, "audio 'pool'.*pooled")],
)
def test_an_unknown_field_is_named(field, said):
    with pytest.raises(InputError, match=said):
        emodb.EmodbConfig(**field)


def test_the_real_clips_are_as_described(raw_data, tmp_path, monkeypatch):
    """535 clips, 10 speakers, 10 sentences in every emotion but for a few; counts of classes."""
    path = raw.place(emodb.PACKED, Path(raw_data))
    if not path.exists():
        pytest.skip("needs emodb_logmel.npz beside the upstream files")
    found = emodb.read(path)
    assert np.bincount(found["label"]).tolist() == [127, 81, 46, 69, 71, 62, 79]
    speakers, counts = np.unique(found["speaker"], return_counts=True)
    assert dict(zip(speakers.tolist(), counts.tolist(), strict=True)) == dict(
        zip(emodb.SPEAKERS, (49, 58, 43, 38, 55, 35, 61, 69, 56, 71), strict=True)
    )
    assert len(np.unique(found["sentence"])) == 10
    disgust = {s: int(((found["speaker"] == s) & (found["label"] == 2)).sum()) for s in (3, 8, 10)}
    assert disgust == {3: 1, 8: 0, 10: 1}
    monkeypatch.delenv(raw.ENVIRONMENT, raising=False)
    builder = prepared("emodb", raw_data, tmp_path / "data", speaker=12)
    assert [builder.info.splits[s].num_examples for s in SPLITS] == [439, 61, 35]
