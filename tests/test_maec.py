import csv
from pathlib import Path

import numpy as np
import pytest

from mmfuse.data import maec, maec_sources, raw
from mmfuse.data.datasets import files_fingerprint, make_builder, prepare
from mmfuse.data.maec import MaecConfig
from mmfuse.errors import InputError
from mmfuse.tasks import make_task
from tests import pair_files, stream_files

SPLITS = ("train", "valid", "test")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.delenv(raw.ENVIRONMENT, raising=False)
    stream_files.write_calls(tmp_path / "raw")
    stream_files.trust(tmp_path / "raw", monkeypatch)
    return tmp_path / "raw"


def prepared(folder, data_dir, **fields):
    builder = make_builder("maec", fields, data_dir=str(data_dir), raw_data=str(folder))
    prepare(builder)
    return builder


def expected():
    """Scaled voice and defined [rows, 29] of the fabricated calls, from the definitions."""
    arrays = stream_files.calls()
    train = sum(stream_files.CALLS["train"])
    voice = arrays["audio_feat"].astype(float)
    defined = np.unpackbits(arrays["audio_defined"], axis=1)[:, :29] == 1
    voice[:, 1], voice[:, 2] = voice[:, 1:3].min(1), voice[:, 1:3].max(1)
    defined[voice == -300] = False
    known = np.ma.array(voice, mask=~defined)
    scaled = (known - known[:train].mean(0)) / known[:train].std(0)
    return np.clip(scaled, -5, 5).filled(0), defined


def test_examples_pair_each_sentence_with_the_next_of_its_call(folder, tmp_path):
    builder = prepared(folder, tmp_path / "data", history=2)
    voice, defined = expected()
    start, call = 0, 0
    for split, sizes in stream_files.CALLS.items():
        columns = pair_files.columns(builder, split)
        task = make_task(builder.info.metadata)
        labels, row = task.labels(columns), 0
        for size in sizes:
            for t in range(size - 1):
                now = start + t
                assert columns["id"][row].decode() == f"2015_{call}-{t}"
                assert columns["group"][row].decode() == f"2015_{call}"
                assert columns["text"][row].decode().startswith(f"Call {now} is naïve, ")
                np.testing.assert_allclose(columns["audio"][row], voice[now], atol=1e-6)
                past = voice[max(start, now - 2) : now]
                assert columns["history"][row].shape == past.shape
                np.testing.assert_allclose(columns["history"][row], past, atol=1e-6)
                np.testing.assert_allclose(labels["value"][row], voice[now + 1], atol=1e-6)
                np.testing.assert_array_equal(labels["mask"][row], defined[now + 1])
                row += 1
            start, call = start + size, call + 1
        assert row == len(columns["id"])
    assert builder.info.metadata["feature_names"][:3] == list(stream_files.ORDER)


def test_silence_is_undefined_and_the_lowest_intensity_the_lower_one(folder, tmp_path):
    """Rows 3 and 26 are silent; the last call has its columns in order, the others swapped."""
    calls, names = maec_sources.read(folder / maec.PACKED.path)
    low, high = (names.index(name) for name in stream_files.ORDER[1:])
    for call in calls:
        assert (call.voice[:, low] <= call.voice[:, high]).all()
    silent = [~call.defined[:, low] for call in calls]
    assert np.flatnonzero(np.concatenate(silent)).tolist() == [3, 26]
    assert all(call.defined[:, high].all() for call in calls)


def test_only_training_calls_shape_the_scale(folder, tmp_path, monkeypatch):
    scales = []
    for change in (0, 1000):
        arrays = stream_files.calls()
        arrays["audio_feat"][sum(stream_files.CALLS["train"]) :] += change
        stream_files.write_calls(folder, **arrays)
        calls, _ = maec_sources.read(folder / maec.PACKED.path)
        scales.append(maec_sources.Scale.fit(calls))
    np.testing.assert_array_equal(scales[0].mean, scales[1].mean)
    np.testing.assert_array_equal(scales[0].std, scales[1].std)


def test_an_outlier_is_clipped(folder):
    calls, _ = maec_sources.read(folder / maec.PACKED.path)
    far = [maec_sources.Call("", "train", [""], np.full((1, 29), v), np.ones((1, 29), bool))
           for v in (1e9, -1e9)]  # fmt: skip
    scale = maec_sources.Scale.fit(calls)
    assert scale(far[0]).tolist() == [[5] * 29] and scale(far[1]).tolist() == [[-5] * 29]


def test_words_of_the_next_sentence(folder, tmp_path):
    builder = prepared(folder, tmp_path / "data", target="words", words=4, history=0)
    words = builder.info.metadata["words"]
    assert words[:2] == ["call", "naïve"], "'is' and 'and' are function words"
    columns = pair_files.columns(builder, "train")
    assert "history" not in columns
    assert [label[:2].tolist() for label in columns["label"]] == [[1, 1]] * len(columns["id"])
    place = words.index("word0")
    assert columns["label"][0][place] == 0, "sentence 1 has word1 alone"
    assert columns["label"][3][place] == 1, (
        "the first of the next call is told of sentence 5, with word0"
    )
    assert make_task(builder.info.metadata).labels(columns).shape == (12, 4)


def test_words_are_those_of_training_alone():
    nothing = np.zeros((1, 29))
    said = {"train": "beta alpha alpha", "valid": "gamma " * 9, "test": "delta " * 9}
    calls = [maec_sources.Call(s, s, [words], nothing, nothing > 0) for s, words in said.items()]
    assert maec.frequent(calls, 2) == ["alpha", "beta"]
    with pytest.raises(InputError, match="only 2 words"):
        maec.frequent(calls, 3)


def test_too_many_words_are_refused(folder, tmp_path):
    with pytest.raises(InputError, match="words 501, but training has only"):
        prepared(folder, tmp_path / "data", target="words", words=501)


def test_preparing_twice_gives_the_same_bytes(folder, tmp_path):
    once, again = (prepared(folder, tmp_path / name) for name in "ab")
    assert files_fingerprint(once.data_path) == files_fingerprint(again.data_path)


def _worse() -> dict[str, tuple[dict, str]]:
    arrays = stream_files.calls()
    nan = arrays["audio_feat"].copy()
    nan[4, 2] = np.nan
    bytes_ = arrays["sentence_utf8"].copy()
    bytes_[0] = 0xFF
    return {
        "rows": (
            {"audio_feat": nan[:-1]},
            r"'audio_feat' has shape \(26, 29\), expected \(27, 29\)",
        ),
        "nan": ({"audio_feat": nan}, "NaN or Inf in row 4"),
        "names": ({"audio_name": np.array(["x"] * 29)}, "has no 'Minimum intensity'"),
        "split": ({"split": np.array(["dev"] * 6)}, "split 'dev'; allowed: train"),
        "calls": ({"call": arrays["call"][1:]}, "call 5, split 6"),
        "utf8": ({"sentence_utf8": bytes_}, "sentence 0 is not UTF-8"),
        "offset": ({"sentence_offset": arrays["sentence_offset"][::-1]}, "must rise from 0"),
    }


@pytest.mark.parametrize("fault", list(_worse()))
def test_a_bad_file_is_refused(folder, tmp_path, monkeypatch, fault):
    changed, said = _worse()[fault]
    stream_files.write_calls(folder, **changed)
    stream_files.trust(folder, monkeypatch)
    with pytest.raises(InputError, match=said) as caught:
        prepared(folder, tmp_path / "data")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "said"),
    [({"target": "voise"}, "did you mean 'voice'"), ({"history": -1}, "history -1"),
     ({"words": 9}, "no influence on target 'voice'"),
     ({"target": "words", "words": 0}, "words 0")],
)  # fmt: skip
def test_bad_fields_are_named(fields, said):
    with pytest.raises(InputError, match=said):
        MaecConfig(**fields)


@pytest.fixture(scope="module")
def real(raw_data):
    path = raw.place(maec.PACKED, Path(raw_data))
    raw.check(maec.PACKED, path)
    return (*maec_sources.read(path), np.load(path, allow_pickle=False))


def test_real_calls_are_as_described(real):
    """320 calls of 272 companies, 35,856 sentences; none of the companies in two splits."""
    calls, names, packed = real
    assert [sum(call.split == split for call in calls) for split in SPLITS] == [220, 40, 60]
    assert sum(len(call.sentences) for call in calls) == 35_856
    splits = {}
    for call in calls:
        splits.setdefault(call.name.split("_")[1], set()).add(call.split)
    assert {len(found) for found in splits.values()} == {1}
    low, high, mean = (names.index(f"{n} intensity") for n in ("Minimum", "Maximum", "Mean"))
    upstream = packed["audio_feat"]
    swapped = upstream[:, low] > upstream[:, high]
    assert swapped.mean() == pytest.approx(0.91, abs=0.005)
    of_call = np.split(swapped, np.cumsum(packed["n_sentences"])[:-1])
    assert sum(found.mean() > 0.9 for found in of_call) == 293, "the others are in order"
    for call in calls:
        known = call.defined[:, [low, high, mean]].all(1)
        assert (call.voice[known, low] <= call.voice[known, mean] + 1e-3).all()
        assert (call.voice[known, high] >= call.voice[known, mean] - 1e-3).all()
    bits = np.unpackbits(packed["audio_defined"], axis=1)[:, :29]
    lost = bits.sum() - sum(call.defined.sum() for call in calls)
    assert lost == 381, "lowest intensities of silence"


def test_real_upstream_calls_read_as_the_packed_ones(real, raw_data):
    calls, names, _ = real
    by_name = {call.name: call for call in calls}
    folders = sorted((Path(raw_data) / "maec/MAEC_Dataset").iterdir())
    assert len(folders) == 12
    for folder in folders:
        call = by_name[folder.name]
        text = (folder / "text.txt").read_text(encoding="utf-8").splitlines()
        assert [line.strip() for line in text] == [s.strip() for s in call.sentences]
        with (folder / "features.csv").open(encoding="utf-8") as file:
            header, *rows = csv.reader(file)
        assert [name.strip() for name in header] == names
        mean = names.index("Mean pitch")
        for cells, voice, defined in zip(rows, call.voice, call.defined, strict=True):
            assert defined[mean] == ("undefined" not in cells[mean])
            if defined[mean]:
                assert voice[mean] == pytest.approx(float(cells[mean]), rel=1e-5)
