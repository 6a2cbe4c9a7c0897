from pathlib import Path

import numpy as np
import pytest

from mmfuse.data import onecommon, raw
from mmfuse.data.datasets import files_fingerprint, make_builder, prepare
from mmfuse.data.loader import Dataset
from mmfuse.data.onecommon import OnecommonConfig
from mmfuse.data.onecommon_render import render
from mmfuse.data.onecommon_sources import YOU, read
from mmfuse.data.onecommon_turns import own_words
from mmfuse.errors import InputError
from mmfuse.tasks import make_task
from tests import pair_files, stream_files

SPLITS = ("train", "valid", "test")
WORDY = {"min_count": 1, "length": 6}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.delenv(raw.ENVIRONMENT, raising=False)
    stream_files.write_dialogues(tmp_path / "raw")
    stream_files.trust(tmp_path / "raw", monkeypatch)
    return tmp_path / "raw"


def prepared(folder, data_dir, **fields):
    builder = make_builder("onecommon", fields, data_dir=str(data_dir), raw_data=str(folder))
    prepare(builder)
    return builder


def sides(folder, split="train"):
    return read(folder / onecommon.FILES[split].path, split, paired=split != "train")


def test_selection_shows_the_view_and_the_whole_dialogue(folder, tmp_path):
    builder = prepared(folder, tmp_path / "data")
    for split, dialogues in stream_files.DIALOGUES.items():
        columns = pair_files.columns(builder, split)
        lines = (folder / onecommon.FILES[split].path).read_text().splitlines()
        assert len(lines) == len(columns["id"]) == dialogues * (1 if split == "train" else 2)
        for i, line in enumerate(lines):
            numbers = line.split("</input>")[0].split()[1:]
            np.testing.assert_allclose(columns["view"][i].ravel(), list(map(float, numbers)))
            said = line.split("<dialogue> ")[1].split(" <selection>")[0]
            told = said.replace("YOU:", "yousay").replace("THEM:", "theysay").replace("<eos>", "")
            assert columns["dialogue"][i].decode().split() == told.split()
            assert columns["label"][i] == int(line.split("<output> ")[1].split()[0])
        labels = make_task(builder.info.metadata).labels(columns)
        assert labels["place"].tolist() == [int(label) for label in columns["label"]]
        assert labels["in"]["uncorrelated"].tolist() == [int(u) for u in columns["uncorrelated"]]


def test_groups_and_subsets(folder, tmp_path):
    columns = pair_files.columns(prepared(folder, tmp_path / "data"), "test")
    groups = [group.decode() for group in columns["group"]]
    assert groups[::2] == groups[1::2] and len(set(groups)) == 5
    assert [int(u) for u in columns["uncorrelated"]] == [1, 0] * 5
    agreed = [int(number % 3 > 0) for number in range(5)]
    assert [int(s) for s in columns["success_only"]] == [x for a in agreed for x in (a, 0)]
    columns = pair_files.columns(prepared(folder, tmp_path / "data"), "train")
    assert len(set(columns["group"])) == 60 and not any(columns["success_only"])


def test_a_picture_comes_with_the_places_to_point_at_and_nothing_else_of_the_dots(folder, tmp_path):
    tokens = pair_files.columns(prepared(folder, tmp_path / "data"), "valid")
    builder = prepared(folder, tmp_path / "data", view="picture")
    pictures = pair_files.columns(builder, "valid")
    for view, picture, dots in zip(tokens["view"], pictures["view"], pictures["dots"], strict=True):
        np.testing.assert_array_equal(picture, render(view))
        np.testing.assert_array_equal(dots, view[:, :2])
    assert builder.info.metadata["points_at"] == "dots"
    assert "dots" in builder.info.metadata["modalities"]


def test_a_disc_has_its_place_size_and_grey():
    view = np.zeros((7, 4))
    view[:, 0], view[0] = 3, (0.5, -0.25, 1, -1)  # the others are outside of the picture
    darkness = 255.0 - render(view)[..., 0]
    y, x = (np.arange(64) @ darkness.sum(1 - axis) / darkness.sum() for axis in (0, 1))
    assert ((x + 0.5) / 32 - 1, (y + 0.5) / 32 - 1) == pytest.approx((0.5, -0.25), abs=0.01)
    assert darkness.max() == 255 - 53, "grey 128 - 75 in the middle"
    area = np.pi * (32 * 13 / 200) ** 2
    assert darkness.sum() / darkness.max() == pytest.approx(area, rel=0.05)
    view[0, 2] = -1
    smaller = (255.0 - render(view)).sum() / darkness.max()
    assert smaller == pytest.approx(np.pi * (32 * 7 / 200) ** 2, rel=0.1)


def test_generation_tells_the_next_own_turn_from_what_was_said_before(folder, tmp_path):
    builder = prepared(folder, tmp_path / "data", task="generation", **WORDY)
    words, task = builder.info.metadata["word"], make_task(builder.info.metadata)
    assert builder.info.metadata["vocabulary"] == len(words) + 2 == 16 + 3
    columns = pair_files.columns(builder, "valid")
    told = []
    for side in sides(folder, "valid"):
        for place, (who, said) in enumerate(side.turns):
            if who == YOU:
                told.append((f"{side.name}-{place}", said, place))
    assert [i.decode() for i in columns["id"]] == [name for name, _, _ in told]
    for label, dialogue, (_, said, place) in zip(
        columns["label"], columns["dialogue"], told, strict=True
    ):
        ids = [i for i in label.tolist() if i]
        assert [words[i - 2] for i in ids] == [*said.split(), "<eos>"]
        assert ids[-1] == task.end and label.shape == (6,)
        assert dialogue.decode().count("say") == place, "turns so far"
    assert task.labels(columns).shape == (len(told), 6)
    assert task.given(columns)["previous"].shape == (len(told), 6)


def test_rare_words_are_unknown_and_long_turns_lose_their_end(folder):
    train = sides(folder)
    words = own_words(train, min_count=10_000, length=3)
    assert len(words) == 3 and words("a b c d").tolist() == [1, 1, 1]
    assert words("a b").tolist() == [1, 1, 2] and words("a").tolist() == [1, 2, 0]
    said = [w for side in train for who, t in side.turns if who == YOU for w in t.split()]
    assert words("word1").tolist() == [1, 2, 0] and "word1" in said


def test_wrong_answers_are_other_training_turns_of_the_same_place(folder, tmp_path):
    builder = prepared(folder, tmp_path / "data", task="response", **WORDY)
    train = sides(folder)
    words = own_words(train, 1, 6)
    at_place = {}
    for side in train:
        for place, (who, said) in enumerate(side.turns):
            if who == YOU:
                at_place.setdefault(place, {})[words(said).tobytes()] = side.dialogue
    task = make_task(builder.info.metadata)
    for split in SPLITS:
        columns, rights = pair_files.columns(builder, split), []
        for i, candidates in enumerate(columns["candidates"]):
            place = int(columns["id"][i].decode().split("-")[-1])
            rows = [c.tobytes() for c in candidates]
            assert len(set(rows)) == 10, "no two alike"
            right = rows.pop(int(columns["label"][i]))
            rights.append(right)
            for row in rows:
                places = [p for p in at_place if row in at_place[p]]
                assert place in places or place > 1, "late places share a pool"
                assert all(at_place[p][row] != columns["group"][i].decode() for p in places)
        wanted = [words(s.turns[p][1]).tobytes() for s in sides(folder, split)
                  for p, (who, _) in enumerate(s.turns) if who == YOU]  # fmt: skip
        assert rights == wanted
        assert len(set(map(int, columns["label"]))) > 3, "the right one is anywhere"
        assert task.given(columns)["candidates"].shape == (len(rights), 10, 6)
        assert task.labels(columns)["place"].shape == (len(rights),)


def test_the_seed_draws_other_answers_and_the_same_seed_the_same_bytes(folder, tmp_path):
    a, b = (prepared(folder, tmp_path / n, task="response", **WORDY) for n in "ab")
    other = prepared(folder, tmp_path / "a", task="response", seed=1, **WORDY)
    assert files_fingerprint(a.data_path) == files_fingerprint(b.data_path)
    assert files_fingerprint(a.data_path) != files_fingerprint(other.data_path)


GOOD = stream_files.line(np.zeros((7, 4)), ["a b", "c"])


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("", "expected <input>"),
        (GOOD.replace("0.0 ", "", 1), "27 numbers; expected 7 dots of 4"),
        (GOOD.replace("0.0", "x", 1), "could not convert"),
        (GOOD.replace("0.0", "nan", 1), r"must lie in -1..1"),
        (GOOD.replace("0.0", "1.5", 1), r"must lie in -1..1"),
        (GOOD.replace("> 0 <", "> 7 <"), "output '7'; expected a dot, 0 to 6"),
        (GOOD.replace("YOU", "ME"), "every turn must be"),
        (GOOD.replace("<eos> <sel", "<sel"), "every turn must be"),
        (GOOD.replace(" <selection>", ""), "must end with <selection>"),
    ],
)
def test_a_bad_line_is_named(folder, tmp_path, monkeypatch, bad, said):
    (folder / onecommon.FILES["train"].path).write_text(f"{GOOD}\n{bad}\n")
    stream_files.trust(folder, monkeypatch)
    with pytest.raises(InputError, match=f"line 2: .*{said}") as caught:
        prepared(folder, tmp_path / "data")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("lines", "said"),
    [([GOOD, GOOD], "line 2: not the other side"), ([GOOD], "1 lines; expected two")],
)
def test_sides_that_do_not_pair_are_refused(folder, tmp_path, monkeypatch, lines, said):
    (folder / onecommon.FILES["test"].path).write_text("\n".join(lines) + "\n")
    stream_files.trust(folder, monkeypatch)
    with pytest.raises(InputError, match=said):
        prepared(folder, tmp_path / "data")


@pytest.mark.parametrize(
    ("fields", "said"),
    [({"task": "selecton"}, "did you mean 'selection'"), ({"view": "image"}, "tokens, picture"),
     ({"seed": 1}, "no influence on task 'selection'"), ({"task": "generation", "seed": 1}, "seed"),
     ({"length": 9}, "no influence"), ({"task": "response", "length": 1}, "length 1")],
)  # fmt: skip
def test_bad_fields_are_named(fields, said):
    with pytest.raises(InputError, match=said):
        OnecommonConfig(**fields)


@pytest.fixture(scope="module")
def real(raw_data):
    found = {}
    for split, source in onecommon.FILES.items():
        raw.check(source, Path(raw_data) / source.path)
        found[split] = sides(Path(raw_data), split)
    return found


def test_real_sides_are_as_described(real):
    """5,408, 1,352 and 1,350 sides; 675 test dialogues, 540 of them a success."""
    assert [len(real[split]) for split in SPLITS] == [5_408, 1_352, 1_350]
    assert len({side.dialogue for side in real["test"]}) == 675
    first = [side for side in real["test"] if side.first]
    assert (len(first), sum(side.success for side in first)) == (675, 540)
    said = {
        split: {tuple(words for _, words in side.turns) for side in of}
        for split, of in real.items()
    }
    assert [len(said[split]) for split in SPLITS] == [5_408, 676, 675]
    assert not said["train"] & said["valid"] and not (said["train"] | said["valid"]) & said["test"]
    counts = {}
    for side in real["train"]:
        for who, words in side.turns:
            for word in [f"{who}:", *words.split(), "<eos>"]:
                counts[word] = counts.get(word, 0) + 1
    counts["<selection>"] = len(real["train"])
    assert (len(counts), sum(n >= 10 for n in counts.values())) == (3_326, 640)
    assert not {"yousay", "theysay"} & counts.keys(), "nobody says the names of speakers"


def test_real_sides_are_those_of_the_packed_file(real, raw_data):
    packed = np.load(Path(raw_data).resolve().parent / "onecommon/onecommon.npz")
    for split in SPLITS:
        np.testing.assert_array_equal([s.view for s in real[split]], packed[f"{split}_view"])
        np.testing.assert_array_equal([s.target for s in real[split]], packed[f"{split}_target"])
    for split in SPLITS[1:]:
        np.testing.assert_array_equal([s.success for s in real[split]], packed[f"{split}_success"])
        numbers = [int(s.dialogue.split("-")[1]) // 2 for s in real[split]]
        np.testing.assert_array_equal(numbers, packed[f"{split}_dialogue_id"])


def test_real_dots_called_top_lie_above_those_called_bottom(real):
    """y grows downwards, as in the picture."""
    heights = {
        word: [s.view[s.target, 1] for s in real["train"] if _says(s, word) and not _says(s, other)]
        for word, other in (("top", "bottom"), ("bottom", "top"))
    }
    assert np.mean(heights["top"]) < -0.1 < 0.1 < np.mean(heights["bottom"])


def _says(side, word: str) -> bool:
    return any(word in words.split() for _, words in side.turns)


def test_the_groups_of_the_test_split_are_told_once_it_is_open(folder, tmp_path):
    preprocess = {"view": {"name": "features"}}
    dataset = Dataset(prepared(folder, tmp_path / "data"), preprocess, resident_bytes=2**20)
    with pytest.raises(PermissionError, match="no run has opened it"):
        dataset.test_groups()
    dataset.open_test(4, run="a", purpose="score")
    assert dataset.test_groups().tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
