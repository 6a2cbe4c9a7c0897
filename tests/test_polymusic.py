from pathlib import Path

import numpy as np
import pytest

from mmfuse.data import polymusic, raw
from mmfuse.data.datasets import files_fingerprint, make_builder, prepare
from mmfuse.data.polymusic import PolymusicConfig, voices_of
from mmfuse.errors import InputError
from mmfuse.tasks import make_task
from tests import pair_files, stream_files

SPLITS = ("train", "valid", "test")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.delenv(raw.ENVIRONMENT, raising=False)
    stream_files.write_pieces(tmp_path / "raw")
    stream_files.trust(tmp_path / "raw", monkeypatch)
    return tmp_path / "raw"


def prepared(folder, data_dir, **fields):
    builder = make_builder("polymusic", fields, data_dir=str(data_dir), raw_data=str(folder))
    prepare(builder)
    return builder


@pytest.mark.parametrize(("seed", "corpus"), [*enumerate(polymusic.VOICES)])
def test_a_window_is_the_past_of_its_label_and_never_more(folder, tmp_path, seed, corpus):
    builder = prepared(folder, tmp_path / "data", corpus=corpus, history=3)
    for split, rolls in stream_files.pieces(seed).items():
        columns = pair_files.columns(builder, split)
        places = [(n, t) for n, roll in enumerate(rolls) for t in range(1, len(roll))]
        assert [i.decode() for i in columns["id"]] == [f"{split}-{n}-{t}" for n, t in places]
        for row, (number, step) in enumerate(places):
            np.testing.assert_array_equal(columns["label"][row], rolls[number][step])
            voices = [columns[voice][row] for voice in polymusic.VOICES[corpus]]
            together = np.bitwise_or.reduce(voices)
            np.testing.assert_array_equal(together, rolls[number][max(0, step - 3) : step])
            assert columns["group"][row].decode() == f"{split}-{number}"
        labels = make_task(builder.info.metadata).labels(columns)
        assert labels.shape == (len(places), 88)


@pytest.mark.parametrize(
    ("notes", "jsb"),  # bass, tenor, alto, soprano
    [
        ((), [(), (), (), ()]),
        ((5,), [(5,), (5,), (5,), (5,)]),
        ((5, 9), [(5,), (5,), (9,), (9,)]),
        ((5, 7, 9), [(5,), (7,), (7,), (9,)]),
        ((1, 3, 5, 7), [(1,), (3,), (5,), (7,)]),
        ((1, 3, 4, 5, 7), [(1,), (3,), (4, 5), (7,)]),
    ],
)
def test_notes_are_sung_from_the_lowest_to_the_highest_voice(notes, jsb):
    roll = np.zeros((2, 88), np.uint8)
    roll[1, list(notes)] = 1
    sung = voices_of(roll, "jsb")
    assert [tuple(np.flatnonzero(sung[name][1])) for name in polymusic.VOICES["jsb"]] == jsb
    assert not any(voice[0].any() for voice in sung.values())
    tune = voices_of(roll, "nottingham")
    assert tuple(np.flatnonzero(tune["melody"][1])) == notes[-1:]
    assert tuple(np.flatnonzero(tune["chord"][1])) == notes[:-1]


def test_every_thins_train_and_valid_but_not_test(folder, tmp_path):
    whole, thin = (prepared(folder, tmp_path / "data", every=every) for every in (1, 4))
    for split in SPLITS:
        ids = [pair_files.columns(builder, split)["id"] for builder in (whole, thin)]
        assert ids[1] == (ids[0] if split == "test" else ids[0][::4])


def test_preparing_twice_gives_the_same_bytes(folder, tmp_path):
    once, again = (prepared(folder, tmp_path / name) for name in "ab")
    assert files_fingerprint(once.data_path) == files_fingerprint(again.data_path)


@pytest.mark.parametrize(
    ("roll", "said"),
    [
        (np.zeros((5, 87)), r"piece 1 of 'validdata': expected \[steps, 88\].* found \(5, 87\)"),
        (np.zeros((1, 88)), r"at least 2 steps, found \(1, 88\)"),
        (np.full((5, 88), 0.5), "keys are 0 or 1"),
        (np.array(["a note"]), r"expected \[steps, 88\]"),
    ],
)
def test_a_bad_piece_is_named(folder, tmp_path, monkeypatch, roll, said):
    stream_files.write_pieces(folder, valid=[np.zeros((3, 88), np.uint8), roll])
    stream_files.trust(folder, monkeypatch)
    with pytest.raises(InputError, match=said) as caught:
        prepared(folder, tmp_path / "data")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "said"),
    [({"corpus": "jbs"}, "did you mean 'jsb'"), ({"history": 0}, "history 0"),
     ({"every": True}, "every True")],
)  # fmt: skip
def test_bad_fields_are_named(fields, said):
    with pytest.raises(InputError, match=said):
        PolymusicConfig(**fields)


def marginal_nll(pieces) -> float:
    """NLL of a predicted step under the share of training steps in which each key sounds."""
    train, test = (np.concatenate([roll[1:] for roll in pieces[s]]) for s in ("train", "test"))
    p = (train.sum(0) + 1) / (len(train) + 2)
    return float(-(test @ np.log(p) + (1 - test) @ np.log1p(-p)).mean())


@pytest.mark.parametrize(
    ("corpus", "sequences", "steps", "nll", "fewer"),
    [
        ("jsb", [229, 76, 77], [13_807, 4_602, 4_725], 11.09, 0.10),
        ("nottingham", [694, 173, 170], [176_561, 45_513, 44_463], 10.26, 0.08),
    ],
)
def test_real_pieces_are_as_described(raw_data, corpus, sequences, steps, nll, fewer):
    """Sizes, the marginal baseline of all predicted steps, the share of steps under four notes."""
    source = polymusic.FILES[corpus]
    raw.check(source, Path(raw_data) / source.path)
    pieces = polymusic.read_pieces(Path(raw_data) / source.path)
    assert [len(pieces[split]) for split in SPLITS] == sequences
    assert [sum(map(len, pieces[split])) for split in SPLITS] == steps
    assert marginal_nll(pieces) == pytest.approx(nll, abs=0.005)
    notes = np.concatenate(pieces["train"]).sum(1)
    assert np.mean(notes < 4) == pytest.approx(fewer, abs=0.01)
    roll = pieces["valid"][0]
    np.testing.assert_array_equal(np.bitwise_or.reduce([*voices_of(roll, corpus).values()]), roll)
