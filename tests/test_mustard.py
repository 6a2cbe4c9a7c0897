"""MUStARD from fabricated files, and from the real ones where they are."""

import json
from collections import Counter

import numpy as np
import pytest

from mmfuse.data import raw
from mmfuse.data.datasets import files_fingerprint, make_builder, prepare
from mmfuse.data.mustard import MustardConfig
from mmfuse.errors import InputError
from tests import sequence_files


def prepared(folder, data_dir, **fields):
    builder = make_builder("mustard", fields, data_dir=str(data_dir), raw_data=str(folder))
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
    root = sequence_files.fabricate(tmp_path / "raw")
    sequence_files.trust(root, monkeypatch)
    return root


def test_lines_are_whole_and_the_test_split_is_that_of_the_fold(folder, tmp_path):
    found = read(prepared(folder, tmp_path, fold=2))
    lines = json.loads((folder / "mustard/sarcasm_data.json").read_text())
    assert set(found) == set(lines)
    for place, (identity, line) in enumerate(lines.items()):
        example = found[identity]
        assert example["utterance"].decode() == line["utterance"]
        assert example["speaker"].decode() == line["speaker"]
        assert example["label"] == line["sarcasm"]
        assert (example["split"] == "test") == (place % 5 == 2)
    assert found["1_60"]["context"] == b"BOB: How was it?"
    assert found["1_61"]["context"] == b"BOB: How was it? ANN: It was 1."


def test_validation_is_an_eighth_of_each_class_drawn_by_the_seed(folder, tmp_path):
    found = {seed: read(prepared(folder, tmp_path, seed=seed)) for seed in (0, 1)}
    for examples in found.values():
        counts = Counter((e["split"], int(e["label"])) for e in examples.values())
        for label in (0, 1):
            assert counts["valid", label] == (counts["train", label] + counts["valid", label]) // 8
    valid = [{i for i, e in found[s].items() if e["split"] == "valid"} for s in (0, 1)]
    assert valid[0] != valid[1]


def test_the_speaker_may_be_one_hot(folder, tmp_path):
    builder = prepared(folder, tmp_path, speaker="one_hot")
    names = builder.info.metadata["speakers"]
    assert names == ["ANN", "BOB", "CAT"]
    assert found_speakers(read(builder), names) == found_speakers(read(prepared(folder, tmp_path)))


def found_speakers(examples, names=None) -> dict[str, str]:
    if names is None:
        return {i: e["speaker"].decode() for i, e in examples.items()}
    assert all(e["speaker"].sum() == 1 for e in examples.values())
    return {i: names[int(e["speaker"].argmax())] for i, e in examples.items()}


def test_a_fold_that_is_not_a_partition_is_refused(folder, tmp_path, monkeypatch):
    path = folder / "mustard/split_indices.json"
    folds = json.loads(path.read_text())
    folds[1][0][0] = folds[1][1][0]
    path.write_text(json.dumps(folds))
    sequence_files.trust(folder, monkeypatch)
    with pytest.raises(InputError, match="fold 1 does not hold each of the 75 lines once"):
        prepared(folder, tmp_path, fold=1)
    assert prepared(folder, tmp_path, fold=0).is_prepared()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"fold": 5}, "fold 5 must be a whole number from 0 to 4"),
        ({"fold": True}, "fold True"),
        ({"speaker": "onehot"}, "did you mean 'one_hot'"),
        ({"seed": -1}, "seed -1"),
    ],
)
def test_bad_fields_are_named(fields, said):
    with pytest.raises(InputError, match=said):
        MustardConfig(**fields)


def test_names_and_bytes(folder, tmp_path):
    fields = [{}, {"fold": 1}, {"speaker": "one_hot"}, {"seed": 1}]
    assert len({MustardConfig(**f).name for f in fields}) == 4
    once, again = (prepared(folder, tmp_path / name) for name in "ab")
    assert files_fingerprint(once.data_path) == files_fingerprint(again.data_path)


def test_real_folds_share_690_lines_half_of_them_sarcastic(raw_data, tmp_path):
    # 690 lines, 345 of each class; five folds with 138 test lines each.
    tests = []
    for fold in range(5):
        found = read(prepared(raw_data, tmp_path, fold=fold))
        assert len(found) == 690
        assert sum(int(e["label"]) for e in found.values()) == 345
        tests += [i for i, e in found.items() if e["split"] == "test"]
    assert (len(tests), len(set(tests))) == (690, 690)
    assert np.mean([e["split"] == "valid" for e in found.values()]) == pytest.approx(0.1, abs=0.01)
    chandler = [e["label"] for e in found.values() if e["speaker"] == b"CHANDLER"]
    assert (len(chandler), sum(chandler)) == (158, 120)  # the trap that the card names
