import gzip

import pytest

from mmfuse.data import raw
from mmfuse.data.inventory import inventory

FILE = raw.RawFile("a/one.csv", None, 5, "0" * 64)
PACKED = raw.RawFile("a/two.gz", None, 1000, "0" * 64)
FOLDER = raw.RawFolder("clips", "*/*.wav", None, 2, "0" * 64)
SOURCES = (FILE, PACKED, FOLDER)


def dataset(*sources):
    return type("Some", (), {"sources": classmethod(lambda cls, config: sources)})


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "raw"
    (root / "a").mkdir(parents=True)
    (root / "clips/x").mkdir(parents=True)
    (root / "a/one.csv").write_bytes(b"12345")
    (root / "a/two.gz").write_bytes(gzip.compress(b"0" * 1000))
    for name, content in (("1.wav", b"123"), ("2.wav", b"4567"), ("3.txt", b"89")):
        (root / "clips/x" / name).write_bytes(content)
    return root


def test_what_is_there_is_told_with_its_size_on_the_disk(folder, tmp_path):
    packed = (folder / "a/two.gz").stat().st_size
    for where in ((folder, tmp_path / "cache"), (None, folder)):
        found = inventory(dataset(*SOURCES), None, *where)
        assert [(f.source, f.size, f.fault) for f in found] == [
            (FILE, 5, ""), (PACKED, packed, ""), (FOLDER, 7, ""),
        ]  # fmt: skip
        assert [f.path for f in found] == [folder / source.path for source in SOURCES]


def test_what_is_missing_or_of_another_size_is_told(folder, tmp_path):
    (folder / "a/one.csv").write_bytes(b"1234")
    (folder / "a/two.gz").write_bytes(b"")
    (folder / "clips/x/1.wav").unlink()
    found = inventory(dataset(*SOURCES), None, folder, tmp_path)
    assert [f.fault for f in found] == [
        "4 bytes, expected 5", "0 bytes", "1 of 2 */*.wav",
    ]  # fmt: skip
    found = inventory(dataset(*SOURCES), None, None, tmp_path / "nowhere")
    assert [(f.size, f.fault) for f in found] == [(0, "missing")] * 3


def test_files_beside_the_raw_folder_are_found(folder, tmp_path):
    (folder / "a").rename(tmp_path / "a")
    (found,) = inventory(dataset(FILE), None, folder, tmp_path / "cache")
    assert (found.path, found.fault) == (tmp_path / "a/one.csv", "")


def test_of_alternatives_the_first_that_is_there_counts(folder, tmp_path):
    other = raw.RawFile("a/other.csv", None, 5, "0" * 64)
    for forms, chosen in (((FILE, FOLDER), FILE), ((other, FOLDER), FOLDER), ((other,), other)):
        (found,) = inventory(dataset(forms), None, folder, tmp_path)
        assert found.source == chosen
    assert found.fault == "missing"


def test_a_generated_dataset_has_no_sources(folder, tmp_path):
    assert inventory(dataset(), None, folder, tmp_path) == []
