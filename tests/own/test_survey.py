"""What is wrong with a manifest: everything at once, each with row and column."""

import os
import re
import shutil

import numpy as np
import pytest
import soundfile
from PIL import Image

from mmfuse.data.own import survey as own_survey
from mmfuse.data.own.survey import checked, survey
from mmfuse.errors import InputError, ReportError
from tests import own_manifest

COUNT = 30  # rows; 0..8 are of training, 9..11 of valid, 12..14 of test, and so on


@pytest.fixture(scope="module")
def sound_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound")
    own_manifest.fabricate(folder, COUNT)
    return folder


@pytest.fixture
def folder(sound_folder, tmp_path):
    return shutil.copytree(sound_folder, tmp_path / "own")


def put(row, name, path):
    """The file that a cell names, for another to be written in its place."""
    row[name] = row[name] or f"{name}-{row['id']}{path.suffix}"
    return path.parent / row[name]


def missing_file(folder, rows):
    rows[0]["photo"] = "photo/nowhere.png"
    return r"row 2, column 'photo': missing file 'photo/nowhere.png'"


def unreadable_picture(folder, rows):
    path = put(rows[1], "photo", folder / "x.png")
    path.write_bytes(path.read_bytes()[:60] if path.exists() else b"no picture")
    return r"row 3, column 'photo': '.*'.*not a readable"


def unreadable_sound(folder, rows):
    put(rows[2], "voice", folder / "x.wav").write_bytes(b"RIFF....WAVE")
    return r"row 4, column 'voice': '.*': truncated"


def silent_sound(folder, rows):
    rows[3]["voice"] = "none.wav"
    soundfile.write(folder / "none.wav", np.zeros(0), 8000)
    return r"row 5, column 'voice': 'none.wav': no samples"


def duplicate_id(folder, rows):
    rows[4]["id"] = rows[0]["id"]
    return r"row 6, column 'id': duplicate id 'row0', first in row 2"


def id_in_two_splits(folder, rows):
    rows[9]["id"] = rows[5]["id"]
    return (
        r"row 11, column 'id': leak: id 'row5' of split 'valid' is in split 'train' too \(row 7\)"
    )


def content_in_two_splits(folder, rows):
    np.save(folder / "one.npy", np.arange(4.0))
    np.save(folder / "two.npy", np.arange(4.0))
    rows[6]["pose"], rows[12]["pose"] = "one.npy", "two.npy"
    return (
        r"row 14, column 'pose': leak: the same file content is in split 'train' "
        r"\(row 8, column 'pose'\); allow 'shared' if meant"
    )


def unknown_split(folder, rows):
    rows[7]["split"] = "trian"
    return (
        r"row 9, column 'split': unknown split 'trian'; allowed: train, valid, test; "
        r"did you mean 'train'\?"
    )


def untrained_label(folder, rows):
    rows[13]["label"] = "dgo"
    return r"row 15, column 'label': class 'dgo' is not in training; did you mean 'dog'\?"


def rare_class(folder, rows):
    rows[8]["label"] = "catt"
    return (
        r"row 10, column 'label': class 'catt' has one example; did you mean 'cat'\?; "
        r"allow 'rare' if meant"
    )


def not_a_number(folder, rows):
    values = np.ones((3, 3))
    values[1, 2], values[2, 0] = np.nan, np.inf
    rows[10]["motion"] = "nan.npy"
    np.save(folder / "nan.npy", values)
    return r"row 12, column 'motion': 'nan.npy' has 2 NaN or Inf values of 9, first at \[1, 2\]"


def other_width(folder, rows):
    rows[11]["motion"] = "wide.npy"
    np.save(folder / "wide.npy", np.ones((2, 5)))
    return (
        r"row 13, column 'motion': array of rank 2 and width 5; the column has rank 2 and width 3 "
        r"\(row \d+\)"
    )


def other_rank(folder, rows):
    rows[15]["pose"] = "flat.npy"
    np.save(folder / "flat.npy", np.ones((2, 4)))
    return r"row 17, column 'pose': array of rank 2 and width 4; the column has rank 1 and width 4"


def no_steps(folder, rows):
    rows[16]["motion"] = "none.npz"
    np.savez(folder / "none.npz", np.zeros((0, 3)))
    return r"row 18, column 'motion': 'none.npz' has shape \(0, 3\): length 0"


def empty_text(folder, rows):
    rows[17]["story"] = "story/blank.txt"
    (folder / "story/blank.txt").write_text(" \n")
    return r"row 19, column 'story': empty text in 'story/blank.txt'"


def blank_cell(folder, rows):
    rows[18]["note"] = "  "
    return r"row 20, column 'note': empty text: blanks only"


def no_modality(folder, rows):
    rows[19] |= dict.fromkeys(own_manifest.COLUMNS[3:], "")
    return r"row 21: no modality: note, story, photo, voice, pose, motion are all empty"


def ragged_row(folder, rows):
    del rows[20]["motion"]
    return r"row 22, column 'motion': ragged: 8 cells, but the header has 9"


def mixed_column(folder, rows):
    rows[21]["photo"] = "a yellow bird"
    return (
        r"row 23, column 'photo': mixed column: text in row 23 \('a yellow bird'\), "
        r"picture in rows \d+, \d+, \d+, \.\.\.; a column holds one kind"
    )


def outside(folder, rows):
    rows[22]["photo"] = "../elsewhere.png"
    Image.new("RGB", (9, 9)).save(folder.parent / "elsewhere.png")
    return r"row 24, column 'photo': '\.\./elsewhere.png' is outside .*allow 'outside' if meant"


def objects(folder, rows):
    rows[23]["pose"] = "objects.npy"
    np.save(folder / "objects.npy", np.array([{}], object), allow_pickle=True)
    return r"row 25, column 'pose': 'objects.npy'.*dtype object"


def several_arrays(folder, rows):
    rows[24]["motion"] = "two.npz"
    np.savez(folder / "two.npz", a=np.ones((2, 3)), b=np.ones((2, 3)))
    return r"row 26, column 'motion': 'two.npz' holds 2 arrays \(a, b\); one is needed"


def many_pixels(folder, rows):
    rows[25]["photo"] = "large.png"
    Image.new("1", (20_000, 20_000)).save(folder / "large.png")
    return r"row 27, column 'photo': 'large.png'.*pixels"


def no_label(folder, rows):
    rows[26]["label"] = ""
    return r"row 28, column 'label': empty label: every row needs one"


def no_id(folder, rows):
    rows[27]["id"] = " "
    return r"row 29, column 'id': empty id: every row needs one of its own"


PLANTED = (
    missing_file, unreadable_picture, unreadable_sound, silent_sound, duplicate_id,
    id_in_two_splits, content_in_two_splits, unknown_split, untrained_label, rare_class,
    not_a_number, other_width, other_rank, no_steps, empty_text, blank_cell, no_modality,
    ragged_row, mixed_column, outside, objects, several_arrays, many_pixels, no_label, no_id,
)  # fmt: skip


def problems(folder, rows, **fields):
    return [
        str(p) for p in survey(own_manifest.write_csv(folder / "my.csv", rows), **fields).problems
    ]


def test_a_sound_manifest_has_no_problem(folder):
    assert problems(folder, own_manifest.rows(COUNT)) == []


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_each_problem_alone_is_one_line_with_row_and_column(plant, folder):
    rows = own_manifest.rows(COUNT)
    said = plant(folder, rows)
    found = problems(folder, rows)
    assert len(found) == 1, found
    assert re.match(said, found[0]), found


def test_all_problems_are_told_at_once(sound_folder, folder):
    rows = own_manifest.rows(COUNT)
    said = [plant(folder, rows) for plant in PLANTED]
    path = own_manifest.write_csv(folder / "my.csv", rows)
    with pytest.raises(
        ReportError, match=rf"my.csv: {len(PLANTED)} problems; see .*my.csv.prob"
    ) as e:
        checked(survey(path))
    for line in said:
        assert sum(bool(re.match(line, found)) for found in e.value.lines) == 1, (
            line,
            e.value.lines,
        )
    assert len(str(e.value).splitlines()) == 1
    report = folder / "my.csv.problems.txt"
    assert tuple(report.read_text().splitlines()) == e.value.lines
    shutil.copytree(sound_folder, folder, dirs_exist_ok=True)
    checked(survey(path))
    assert not report.exists(), "what it told has been put right"


def test_what_is_allowed_by_name(folder):
    rows = own_manifest.rows(COUNT)
    for plant in (content_in_two_splits, rare_class, outside):
        plant(folder, rows)
    assert len(problems(folder, rows)) == 3
    assert problems(folder, rows, allow="outside, shared,rare") == []
    with pytest.raises(InputError, match=r"unknown allowance 'raer'.*did you mean 'rare'\?"):
        problems(folder, rows, allow="raer")


def test_a_link_that_leads_outside(folder):
    rows = own_manifest.rows(COUNT)
    outside(folder, rows)
    (folder / "link.png").symlink_to(folder.parent / "elsewhere.png")
    rows[22]["photo"] = "link.png"
    assert "is outside" in problems(folder, rows)[0]
    rows[22]["photo"] = str(folder.parent / "elsewhere.png")
    assert "is outside" in problems(folder, rows)[0]
    (folder / "loop.png").symlink_to("loop.png")
    rows[22]["photo"] = "loop.png"
    assert "missing file 'loop.png'" in problems(folder, rows)[0]


def test_what_is_no_path_of_a_file(folder):
    rows = own_manifest.rows(COUNT)
    rows[0]["photo"], rows[1]["photo"] = "a\0b.png", "x" * 5000 + ".png"
    rows[2]["photo"], rows[3]["photo"] = "photo/dir.png", "photo\\1.png"
    rows[4]["photo"] = "photo/pipe.png"
    (folder / "photo/dir.png").mkdir()
    os.mkfifo(folder / "photo/pipe.png")
    found = problems(folder, rows)
    assert len(found) == 5, found
    said = ("NUL", "missing", "not a regular", "write / between", "not a regular")
    assert all(why in line for why, line in zip(said, found, strict=True)), found


def labelled(folder, *labels, name="label"):
    """Problems of rows of text with these labels, two in each split, in turn."""
    rows = [
        {"id": f"{n}", "split": own_survey.checks.SPLITS[n // 2 % 3], name: label, "note": f"t {n}"}
        for n, label in enumerate(labels)
    ]
    return problems(folder, rows)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (("0", "1", "0", "1", "0", "1"), []),
        (("7", "3", "07", "3", "7", "3"), []),
        (("0", "1", "0", "1", "0", "-1"), ["row 7, column 'label': label -1 is negative"]),
        (("0", "1", "0", "3", "0", "1"), ["row 5, column 'label': class '3' is not in training"]),
        (("0", "1", "0", "1", "0", "one"), ["row 7, .*: mixed column: 'one' among integers"]),
        (("a", "b", "a", "b", "a", "1"), ["row 7, .*: mixed column: integer 1 among class names"]),
        (("a", "b", "a", "b", "a", "0.5"), ["row 7, .*: label 0.5 is no class.*'target'"]),
        (("a", "a", "a", "a", "a", "a"), ["column 'label': training has one class only, 'a'"]),
        (("a", "b", "a", "b"), ["column 'split': empty split: no row says 'test'"]),
    ],
)
def test_labels(labels, said, folder):
    found = labelled(folder, *labels)
    assert len(found) == len(said), found
    assert all(re.match(line, one) for line, one in zip(said, found, strict=True)), found


def test_a_modality_that_training_never_has(folder):
    rows = own_manifest.rows(COUNT)
    for row in rows:
        row["photo"] *= row["split"] != "train"
    assert problems(folder, rows) == ["column 'photo': no row of training has this modality"]


def test_targets(folder):
    found = labelled(folder, "0.5", "-1e3", "nan", "inf", "", "2", name="target")
    assert [one.partition(":")[0] for one in found] == [
        f"row {number}, column 'target'" for number in (4, 5, 6)
    ]


def test_integers_are_classes_in_order_of_their_numbers(tmp_path):
    rows = [
        {"id": f"{n}", "split": s, "label": label, "note": "x"}
        for n, (s, label) in enumerate(
            (s, label) for s in ("train", "valid", "test") for label in ("10", "9", "9", "10")
        )
    ]
    found = survey(own_manifest.write_csv(tmp_path / "my.csv", rows))
    assert found.classes == ["9", "10"]


def test_notes(folder):
    rows = own_manifest.rows(COUNT)
    (folder / "latin.txt").write_bytes("naïve".encode("latin-1"))
    rows[0]["story"] = "latin.txt"
    notes = list(survey(own_manifest.write_csv(folder / "my.csv", rows)).notes())
    assert len(notes) == 3
    assert re.search(r"'voice': sample rates differ \(8000 Hz in \d+ files, 16000 Hz", notes[2])
    assert "resampled to the sample_rate" in notes[2]
    assert re.search(r"'pose': \d+ arrays of float64 are stored as float32", notes[0])
    assert "column 'story': U+FFFD stands for invalid UTF-8 in row 2" in notes[1]


def test_the_fingerprint_is_that_of_the_content(folder):
    rows = own_manifest.rows(COUNT)
    path = own_manifest.write_csv(folder / "my.csv", rows)
    before = survey(path).fingerprint()
    as_json = survey(own_manifest.write_jsonl(folder / "my.jsonl", rows))
    assert (as_json.problems, as_json.fingerprint()) == ((), before)
    marked = own_manifest.write_csv(folder / "bom.csv", rows, encoding="utf-8-sig")
    assert survey(marked).fingerprint() == before
    moved = shutil.copytree(folder, folder.parent / "moved")
    assert survey(moved / "my.csv").fingerprint() == before
    changes = {before}
    for change in ("label", "note", "split", "id", "photo", "pose"):
        other = [dict(row) for row in rows]
        values = {"label": "dog", "split": "test", "photo": "", "pose": ""}
        number = 0 if other[0][change] else 1
        other[number][change] = values.get(change, "another")
        changes.add(survey(own_manifest.write_csv(folder / "my.csv", other)).fingerprint())
    np.save(folder / rows[0]["pose"], np.zeros(4))
    changes.add(survey(own_manifest.write_csv(folder / "my.csv", rows)).fingerprint())
    assert len(changes) == 8
