"""``digit_stream`` from tiny files: what is shown, what is asked for, and what is known of it."""

import numpy as np
import pytest

from mmfuse.data import digit_answers, digit_chain, raw
from mmfuse.data.audio import log_mel
from mmfuse.data.avmnist_sources import load_clips, load_digits
from mmfuse.data.datasets import files_fingerprint, make_builder, prepare
from mmfuse.data.digit_stream import DigitStreamConfig
from mmfuse.data.helpdesk_factors import MODALITIES
from mmfuse.data.loader import Dataset
from mmfuse.errors import InputError
from tests import avmnist_files, pair_files

SIZES = {"n_train": 60, "n_valid": 20, "n_test": 40}
RECORDED = {"train": {10, 11}, "valid": {5}, "test": {0, 1}}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.delenv(raw.ENVIRONMENT, raising=False)
    root = avmnist_files.fabricate(tmp_path / "raw")
    avmnist_files.trust(root, monkeypatch)
    return root


def prepared(folder, data_dir, **fields):
    fields = SIZES | fields
    builder = make_builder("digit_stream", fields, data_dir=str(data_dir), raw_data=str(folder))
    prepare(builder)
    return builder


@pytest.fixture
def upstream(folder):
    """{split: (pictures, digits, {name of a clip: frames})}."""
    digits = load_digits({f"mnist/{path.name}": path for path in (folder / "mnist").iterdir()})
    frames = {}
    for clip in load_clips(folder / "fsdd"):
        wave = np.zeros((1, 6400), np.float32)
        wave[0, : min(6400, len(clip.samples))] = clip.samples[:6400]
        frames[clip.name] = log_mel(wave, 8000, 512, 256, 32)[0]
    train, last = digits["train"], avmnist_files.TRAIN
    written = {"train": [x[:last] for x in train], "valid": [x[last:] for x in train]}
    written["test"] = digits["test"]
    return {
        split: (*written[split], {n: f for n, f in frames.items() if int(n.split("_")[2]) in which})
        for split, which in RECORDED.items()
    }


def test_each_modality_shows_the_digit_of_its_code(folder, tmp_path, upstream):
    builder = prepared(folder, tmp_path / "data")
    for split, (pictures, digits, frames) in upstream.items():
        columns = pair_files.columns(builder, split)
        assert len(columns["id"]) == SIZES[f"n_{split}"]
        for row, codes in enumerate(columns["codes"]):
            shown = dict(zip(MODALITIES, codes, strict=True))
            assert columns["text"][row].decode() == digit_answers.NAMES[shown["text"]]
            same = (pictures[..., None] == columns["image"][row]).all((1, 2, 3))
            assert set(digits[same]) == {shown["image"]}
            heard = [
                int(name[0])
                for name, of in frames.items()
                if (of.astype(np.float16) == columns["audio"][row][..., 0]).all()
            ]
            assert heard == [shown["audio"]]
            assert columns["label"][row] == columns["label_class"][row]
        np.testing.assert_array_equal(columns["label"][:-1], columns["digit"][1:])


def test_without_errors_all_show_the_digit(folder, tmp_path):
    none = dict.fromkeys((f"{m}_error" for m in MODALITIES), 0.0)
    columns = pair_files.columns(
        prepared(folder, tmp_path, by_three=1.0, by_one=0.0, **none), "train"
    )
    digits = np.array(columns["digit"])
    np.testing.assert_array_equal(columns["codes"], np.repeat(digits[:, None], 3, axis=1))
    np.testing.assert_array_equal(columns["label"], (digits + 3) % 10)


@pytest.mark.parametrize("target", ["image", "sound", "word"])
def test_what_is_to_be_generated_is_clean_and_of_the_next_digit(folder, tmp_path, upstream, target):
    builder = prepared(folder, tmp_path / "data", target=target)
    scale = builder.info.metadata.get("sound")
    for split, (pictures, digits, frames) in upstream.items():
        columns = pair_files.columns(builder, split)
        for label, following in zip(columns["label"], columns["label_class"], strict=True):
            if target == "image":
                same = (pictures[..., None] == label).all((1, 2, 3))
                assert set(digits[same]) == {following}
            elif target == "sound":
                clean = label * scale["std"] + scale["mean"]
                near = {n[:8] for n, f in frames.items() if np.allclose(f, clean, atol=1e-3)}
                assert near == {f"{following}_george"}
            else:
                word = builder.info.metadata["word"]
                told = "".join(word[i - 2] for i in label if i > 2)
                assert told == digit_answers.NAMES[following] and 2 in label


def test_the_same_seed_gives_the_same_bytes(folder, tmp_path):
    one, two = (prepared(folder, tmp_path / name, target="image") for name in ("a", "b"))
    assert files_fingerprint(one.data_path) == files_fingerprint(two.data_path)
    judges = [(builder.data_path / "judge.npz").read_bytes() for builder in (one, two)]
    assert judges[0] == judges[1]
    other = prepared(folder, tmp_path / "a", target="image", seed=1)
    assert files_fingerprint(other.data_path) != files_fingerprint(one.data_path)
    shown = [np.array(pair_files.columns(b, "test")["codes"]) for b in (one, other)]
    assert (shown[0] != shown[1]).any()


@pytest.mark.parametrize("target", ["image", "sound"])
def test_the_references_of_a_generated_target(folder, tmp_path, upstream, target):
    """By the task itself: the expected output as the output of a model."""
    builder = prepared(folder, tmp_path / "data", target=target)
    card = dict(builder.info.metadata)
    columns = pair_files.columns(builder, "test")
    config = builder.builder_config
    table = digit_chain.joint(config.chain, config.errors)
    codes = np.array(columns["codes"])
    belief = digit_chain.posterior(table, dict(zip(MODALITIES, codes.T, strict=True)))
    pictures, digits, frames = upstream["train"]
    if target == "image":
        clean, all_digits = pictures / 255, digits
    else:
        own = [int(name[0]) if "george" in name else -1 for name in frames]
        digits, all_digits = np.array(own), np.array([int(name[0]) for name in frames])
        clean = (np.stack([*frames.values()]) - card["sound"]["mean"]) / card["sound"]["std"]
    means = np.stack([clean[digits == d].mean(0) for d in range(10)])
    made = np.einsum("nd,dij->nij", belief, means)
    preprocess = {"text": {"name": "text", "length": 1, "stop_words": False, "min_count": 1}}
    task = Dataset(builder, preprocess, resident_bytes=0).task
    assert task.judge.accuracy(clean, all_digits) > 0.9, "it knows what it was fitted on"
    output = made if target == "sound" else np.log(made / (1 - made))[..., None]
    label = task.labels(columns)
    output = np.clip(output, -13.8, 13.8).astype(np.float32)
    sums = task.sums(output, label, np.ones(len(codes), np.float32))
    found = task.scores({k: np.asarray(v) for k, v in sums.items()} | {"count": len(codes)})
    name = "Mean of the next example given the shown digits"
    said = {r["metric"]: r["value"] for r in card["references"] if r["name"] == name}
    assert found == pytest.approx(said, rel=1e-3) and len(said) == 3
    assert card["optima_of"] == "recognised" and card["optima"]["audio+image+text"] > 0.7


def test_the_best_perplexity_of_a_word_is_that_of_the_posterior(folder, tmp_path):
    builder = prepared(folder, tmp_path, target="word", text_error=0.0, by_three=1.0, by_one=0.0)
    said = builder.info.metadata["references"][0]
    assert said["metric"] == "perplexity" and said["value"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"target": "immage"}, "did you mean 'image'"),
        ({"audio_error": 1.5}, "audio_error 1.5 must be a number from 0 to 1"),
        ({"by_one": 0.2}, r"by_three \+ by_one 1\.1 must be a number from 0 to 1"),
        ({"n_test": 0}, "n_test 0 must be a whole number"),
    ],
)
def test_mistakes(fields, said):
    with pytest.raises(InputError, match=said):
        DigitStreamConfig(**fields)


@pytest.mark.parametrize(("target", "least"), [("image", 0.93), ("sound", 0.93)])
def test_the_judge_reads_real_clean_digits(raw_data, tmp_path, target, least):
    builder = prepared(raw_data, tmp_path, target=target, n_test=2000)
    card = dict(builder.info.metadata)
    assert card["judge"]["accuracy"] > least
    expected = [r["value"] for r in card["references"]
                if r["name"].startswith("Mean") and r["metric"] == "recognised"]  # fmt: skip
    optimum = card["optima"]["audio+image+text"]
    assert abs(expected[0] - optimum) < 0.03, "the mean of what may come is read as the likeliest"
