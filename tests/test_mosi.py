"""MOSI from fabricated files in its formats, and from the real ones where they are."""

from collections import Counter

import numpy as np
import pytest

from mmfuse.data import mosi_sources, raw
from mmfuse.data.builder import same_rows
from mmfuse.data.datasets import files_fingerprint, make_builder, prepare
from mmfuse.data.mosi import MosiConfig
from mmfuse.errors import InputError
from tests import sequence_files

OFFICIAL = {"features": "transcript", "split": "official"}


def prepared(folder, data_dir, **fields):
    builder = make_builder("mosi", fields, data_dir=str(data_dir), raw_data=str(folder))
    prepare(builder)
    return builder


def read(builder) -> dict[str, dict]:
    """Examples of all splits by id, each with its split."""
    return {
        example["id"].decode(): example | {"split": split}
        for split in ("train", "valid", "test")
        for example in builder.as_data_source(split)
    }


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.delenv(raw.ENVIRONMENT, raising=False)
    sequence_files.fabricate_mosi(tmp_path / "raw")
    sequence_files.fabricate_mfn(tmp_path / "raw")
    sequence_files.fabricate_mustard(tmp_path / "raw")
    sequence_files.trust(tmp_path / "raw", monkeypatch)
    return tmp_path / "raw"


def test_every_utterance_keeps_its_own_features_words_score_and_split(folder, tmp_path):
    vectors = read(prepared(folder, tmp_path, validation="test"))
    words = read(prepared(folder, tmp_path, **OFFICIAL, task="regression"))
    spoken = sequence_files.mosi_utterances()
    assert set(vectors) == set(words) == {u["id"] for u in spoken}
    official = {"train": "train", "dev": "valid", "test": "test"}
    for u in spoken:
        found, said = vectors[u["id"]], words[u["id"]]
        for column, name in (("text", "text"), ("audio", "audio"), ("video", "video_features")):
            np.testing.assert_array_equal(found[column], u[name].astype(np.float32))
        assert found["label"] == (u["score"] >= 0)
        assert said["text"].decode() == u["words"]
        np.testing.assert_array_equal(said["audio"], found["audio"])
        assert said["label"] == np.float32(u["score"])
        assert said["split"] == official[u["official"]]


@pytest.mark.parametrize(
    ("validation", "valid"),
    [("test", {"v03", "v12"}), ("train", {"v01", "v10"})],  # every third of 6, every sixth of 12
)
def test_validation_is_whole_videos_by_the_stated_rule(folder, tmp_path, validation, valid):
    builder = prepared(folder, tmp_path, validation=validation)
    videos = {"train": set(), "valid": set(), "test": set()}
    for identity, example in read(builder).items():
        videos[example["split"]].add(identity.split("_")[0])
    testing = {"v00", "v03", "v06", "v09", "v12", "v15"}
    assert videos["valid"] == valid
    assert videos["test"] == testing - valid
    assert videos["train"] == {f"v{k:02d}" for k in range(18)} - testing - valid
    assert builder.info.metadata["validation"] == validation


def test_context_is_the_neighbours_in_the_same_video_and_the_middle_is_marked(folder, tmp_path):
    single = read(prepared(folder, tmp_path))
    found = read(prepared(folder, tmp_path, context=2))
    assert {i: e["split"] for i, e in found.items()} == {i: e["split"] for i, e in single.items()}
    for identity, example in found.items():
        video, index = identity.split("_")
        assert example["label"] == single[identity]["label"]
        for name in ("audio", "text", "video"):
            for step in range(5):
                there = single.get(f"{video}_{int(index) + step - 2}")
                expected = np.zeros_like(single[identity][name]) if there is None else there[name]
                np.testing.assert_array_equal(example[name][step, :-1], expected)
            assert example[name][:, -1].tolist() == [0, 0, 1, 0, 0]


def test_the_label_leak_is_refused_unless_it_is_named(folder, tmp_path):
    with pytest.raises(
        InputError, match=r"24 of the 31 official test videos.*98\.3 %.*allow_label_leak=True"
    ) as told:
        MosiConfig(split="official")
    assert "\n" not in str(told.value)
    card = prepared(folder, tmp_path, split="official", allow_label_leak=True).info.metadata
    assert any("these test numbers are too good" in trap for trap in card["traps"])
    assert MosiConfig(**OFFICIAL).name  # own text encoder: nothing leaks


def test_the_card_says_what_the_splits_are(folder, tmp_path):
    card = prepared(folder, tmp_path).info.metadata
    assert "10 videos" in card["split_rule"] and "not the published one" in card["split_rule"]
    assert (card["task"], card["classes"]) == ("classification", 2)
    scored = prepared(folder, tmp_path, task="regression").info.metadata
    assert (scored["task"], scored["score_range"]) == ("sentiment", [-3, 3])
    needed = {"name", "modalities", "source", "licence", "citation", "traps", "split_rule"}
    assert needed <= set(card)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"features": "utterances"}, "did you mean 'utterance'"),
        ({"split": "sdk"}, "unknown split 'sdk'; allowed: bclstm, official"),
        ({"task": "binry"}, "did you mean 'binary'"),
        ({"validation": "none"}, "unknown validation 'none'"),
        ({"context": -1}, "context -1 must be a whole number"),
        ({"context": 2, "features": "transcript"}, "context needs features='utterance'"),
        ({**OFFICIAL, "validation": "train"}, "official has its own"),
    ],
)
def test_bad_fields_are_named(fields, said):
    with pytest.raises(InputError, match=said):
        MosiConfig(**fields)


def test_every_field_is_part_of_the_name():
    fields = [{}, {"task": "regression"}, {"validation": "train"}, {"context": 1}, OFFICIAL]
    fields += [{"features": "transcript"}, {"split": "official", "allow_label_leak": True}]
    assert len({MosiConfig(**f).name for f in fields}) == len(fields)


def test_the_same_settings_give_the_same_bytes(folder, tmp_path):
    once, again = (prepared(folder, tmp_path / name, context=1) for name in "ab")
    assert files_fingerprint(once.data_path) == files_fingerprint(again.data_path)


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("data/audio/audio_train0.csv", lambda t: t.split("\n", 1)[1], "text 66, audio 65"),
        ("data/video/video_test0.csv", lambda t: "0," + t, "row 1 has 102 columns, expected 101"),
        ("data/text_test.csv", lambda t: t[t.index("\n") + 1 :] + t[: t.index("\n") + 1], "order"),
        ("label.csv", lambda t: t.replace(",3.0,", ",-3.0,"), "has score -3, but label 1"),
    ],
    ids=["rows", "columns", "order", "sign"],
)
def test_files_that_do_not_fit_each_other_are_refused(
    folder, tmp_path, monkeypatch, name, change, said
):
    path = folder / "mosi" / name
    path.write_bytes(change(path.read_text().replace("\r\n", "\n")).encode())
    sequence_files.trust(folder, monkeypatch)
    with pytest.raises(InputError, match=said) as caught:
        prepared(folder, tmp_path)
    assert "\n" not in str(caught.value)


def test_an_altered_file_is_refused_before_anything_is_written(folder, tmp_path):
    (folder / "mosi/label.csv").write_text("id,text,label,mode\n")
    with pytest.raises(InputError, match=r"label\.csv: truncated"):
        prepared(folder, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_parts_of_a_split_have_equal_rows():
    same_rows("mosi", "train", {"text": [1, 2], "audio": "ab"})
    with pytest.raises(InputError, match="'valid' differ in rows: text 1284, audio 1283"):
        same_rows("mosi", "valid", {"text": range(1284), "audio": range(1283)})


@pytest.fixture(scope="module")
def real(raw_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    return lambda **fields: prepared(raw_data, folder, **fields)


def test_real_bclstm_split_is_that_of_the_literature(real):
    # Poria et al. 2017: 62 and 31 videos, 1447 and 752 utterances; 1176 of 2199 positive.
    builder = real(validation="train")
    found = read(builder)
    sizes = Counter(e["split"] for e in found.values())
    assert (sizes["train"] + sizes["valid"], sizes["test"]) == (1447, 752)
    videos = {i.rpartition("_")[0]: e["split"] for i, e in found.items()}
    assert Counter(videos.values()) == {"train": 51, "valid": 11, "test": 31}
    assert sum(e["label"] for e in found.values()) == 1176
    assert round(np.mean([e["label"] for e in found.values() if e["split"] == "test"]), 3) == 0.621
    video = np.stack([e["video"] for e in found.values()])
    assert (video == 0).all(0).sum() == 32
    audio = np.stack([e["audio"] for e in found.values()])
    assert (round(float(audio.min()), 1), round(float(audio.max()))) == (-11.8, 376)


def test_real_test_videos_are_shared_10_to_21(real):
    found = read(real(task="regression"))
    videos = {i.rpartition("_")[0]: e["split"] for i, e in found.items()}
    assert Counter(videos.values()) == {"train": 62, "valid": 10, "test": 21}
    assert Counter(e["split"] for e in found.values()) == {"train": 1447, "valid": 252, "test": 500}
    for identity, (score, _) in mosi_sources.RECOVERED.items():
        assert found[identity]["label"] == np.float32(score)


def test_real_official_split_is_that_of_the_literature(real):
    # CMU-MOSI SDK: 52/10/31 videos, 1284/229/686 utterances.
    found = read(real(**OFFICIAL, task="regression"))
    assert Counter(e["split"] for e in found.values()) == {"train": 1284, "valid": 229, "test": 686}
    videos = {i.rpartition("_")[0]: e["split"] for i, e in found.items()}
    assert Counter(videos.values()) == {"train": 52, "valid": 10, "test": 31}
    train, test = (
        np.array([e["label"] for e in found.values() if e["split"] == s]) for s in ("train", "test")
    )
    assert np.abs(test - train.mean()).mean() == pytest.approx(1.464, abs=1e-3)  # mean predictor
    assert round(np.mean(test < 0), 3) == 0.552  # majority
    assert found["03bSnISJMiM_1"]["text"].decode() == "ANYHOW IT WAS REALLY GOOD"
