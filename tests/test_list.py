"""``experiments.list datasets``: what is told of every dataset, and a whole card."""

import pytest

from experiments import list as listing
from mmfuse.data import raw
from mmfuse.data.datasets import DATASETS, make_builder, prepare
from mmfuse.errors import InputError
from tests import pair_files


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.delenv(raw.ENVIRONMENT, raising=False)
    root = pair_files.fabricate(tmp_path / "raw")
    pair_files.trust(root, monkeypatch)
    return root


@pytest.fixture
def told(tmp_path, capsys):
    """What the command prints; by dataset, if it is the list."""

    def run(*arguments):
        assert listing.main([*arguments, f"--data_dir={tmp_path / 'data'}"]) == 0
        return capsys.readouterr().out

    return run


def entries(out: str) -> dict[str, list[str]]:
    found = {}
    for line in out.splitlines()[1:]:
        if line[2] != " ":
            name = line.split()[0]
            found[name] = []
        found[name].append(line.strip().removeprefix(name).strip())
    return found


def test_every_dataset_tells_what_it_is_and_whether_it_is_there(folder, told):
    found = entries(told("datasets", f"--raw_data={folder}"))
    assert list(found) == list(DATASETS)
    assert found["helpdesk"][3] == "files: generated"
    assert found["manifest"][1] == "files: --config.data.manifest=FILE"
    assert found["cub_image_text"][:2] == [
        "image, text; classification, 10 classes", "splits: train 420, valid 60, test 120",
    ]  # fmt: skip
    assert found["easy_vqa"][1:3] == ["splits: sizes are known when it is prepared", "licence: MIT"]
    path = folder / pair_files.cub_image_text.MAT.path
    assert found["cub_image_text"][3] == f"files: present, {path.stat().st_size / 1e6:.1f} MB"
    assert found["avmnist"][3].startswith(f"files: missing: {folder}/mnist/train-images")
    assert found["avmnist"][3].endswith(" and 5 more")


def test_sizes_are_those_of_the_prepared_set(folder, told, tmp_path):
    builder = make_builder(
        "easy_vqa", {}, data_dir=str(tmp_path / "data"), raw_data=str(folder)
    )  # fmt: skip
    prepare(builder)
    found = entries(told("datasets", f"--raw_data={folder}"))
    assert found["easy_vqa"][1] == "splits: train 72, valid 8, test 40"
    assert found["easy_vqa"][3].endswith("; prepared")


def test_a_damaged_file_is_told_by_its_size(folder, told):
    path = folder / pair_files.banking77.TEST.path
    path.write_bytes(path.read_bytes()[:-10])
    size = path.stat().st_size
    line = entries(told("datasets", f"--raw_data={folder}"))["banking77"][3]
    assert line == f"files: missing: {path} ({size} bytes, expected {size + 10})"


def test_without_a_raw_folder_it_says_what_is_downloaded(told, monkeypatch):
    monkeypatch.delenv(raw.ENVIRONMENT, raising=False)
    found = entries(told("datasets"))
    assert found["avmnist"][3].endswith("they are downloaded when needed")
    assert found["mvsa_single"][3].endswith("mvsa_single_64.npz")


@pytest.mark.parametrize("name", [name for name in DATASETS if name != "manifest"])
def test_a_card_is_whole(name, told, folder):
    out = told("datasets", name, f"--raw_data={folder}")
    keys = {line.partition(":")[0] for line in out.splitlines() if not line.startswith(" ")}
    assert {"name", "task", "modalities", "source", "licence"} <= keys
    assert ("classes" in keys) == ("task: classification" in out)
    assert {"splits", "files", "fields"} <= keys
    if name != "helpdesk":  # generated: it splits nothing and nobody else made it
        assert {"citation", "split_rule", "traps"} <= keys
    assert all(len(line) <= 100 for line in out.splitlines() if str(folder) not in line)


def test_what_is_not_there_is_refused(told):
    for arguments, said in (
        (["datasets", "mvsa_singel"], "did you mean 'mvsa_single'"),
        (["fusions", "gmu"], "only 'datasets' does"),
        (["data"], "unknown list 'data'"),
        (["datasets", "--raw=x"], "--raw=x"),
    ):
        with pytest.raises(InputError, match=said):
            told(*arguments)
