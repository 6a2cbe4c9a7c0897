"""Every shipped config: what it imports, what it says of itself, and that all of its rows build."""

import ast
import dataclasses
import re
from pathlib import Path

import pytest

from mmfuse.ablation import resolve
from mmfuse.build import build
from mmfuse.config import load_config
from mmfuse.data.datasets import DATASETS, builder_fields, make_builder, prepare
from mmfuse.data.loader import Dataset
from mmfuse.data.raw import ENVIRONMENT
from mmfuse.errors import InputError
from mmfuse.fusion import FUSIONS, build_fusion
from mmfuse.parallel import Devices
from mmfuse.workdir import Workdir
from tests import (
    avmnist_files,
    film_files,
    link_files,
    own_manifest,
    pair_files,
    sequence_files,
    speech_files,
    stream_files,
)

pytest_plugins = ["tests.commands"]
ROOT = Path(__file__).parent.parent
FILES = sorted(path.stem for path in (ROOT / "configs").glob("*.py") if path.stem != "__init__")
ARGUMENTS = {  # a config that is not named here is tried without one
    "helpdesk": ["", "redundant", "unique", "synergy"],
    "quickstart": ["", "smoke"],
    "known": ["", "redundant", "temporal", "smoke"],
    "avmnist": ["", "full", "speaker", "smoke"],
    "cub_image_text": ["", "smoke"],
    "easy_vqa": ["", "full", "smoke"],
    "mvsa_single": ["", "smoke"],
    "banking77": ["", "smoke"],
    "robustness": ["", "audio_snr=0+drop_text=0.5+train_drop=0.2", "smoke"],
    "manifest": ["", "regression"],
    "objectives": ["", "avmnist", "smoke"],
    "zoo": ["", "smoke", "params", "flops", "redundant", "temporal"],
    "mosi": ["", "published", "published_context", "context", "honest", "honest_binary", "smoke"],
    "ict_mmmo": ["", "regression", "smoke"],
    "youtube": ["", "smoke"],
    "mustard": ["", "4", "smoke"],
    "dialogue": ["", "picture", "response", "generation", "reviews", "smoke"],
    "compression": ["", "smoke"],
    "recommendation": ["", "u1", "folds", "items3", "unseen", "top", "smoke"],
    "knowledge_graph": ["", "zh", "movie", "cold", "classification", "smoke"],
    "sentiment": ["", "mosi", "video", "mvsa", "emodb", "reviews", "smoke"],
    "next_step": [
        "",
        "jsb",
        "nottingham",
        "calls",
        "words",
        "digits",
        "digits-image",
        "digits-sound",
        "digits-word",
        "smoke",
    ],
}
RAW = (
    avmnist_files,
    pair_files,
    sequence_files,
    speech_files,
    stream_files,
    film_files,
    link_files,  # adds posters to those of the films before
)  # what fabricates upstream files
SIZES = {"n_train": 48, "n_valid": 8, "n_test": 16}  # where a builder can be told
SPECS = [(name, argument) for name in FILES for argument in ARGUMENTS.get(name, [""])]


def load(name, argument=""):
    return load_config(f"configs/{name}.py" + (f":{argument}" if argument else ""))


@pytest.fixture(autouse=True)
def here(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv(ENVIRONMENT, raising=False)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Small builds of the datasets, by name and fields, so that each is made once."""
    root, made = tmp_path_factory.mktemp("configs"), {}
    for files in RAW:
        files.fabricate(root / "raw")
    own_manifest.fabricate(root / "own", 90)
    numbers = [{"target": n} | row for n, row in enumerate(own_manifest.rows(90))]
    own_manifest.write_csv(root / "own" / "numbers.csv", [without(row, "label") for row in numbers])

    def prepared(data):
        allowed = builder_fields(DATASETS[data["name"]])
        fields = data["builder"] | {n: size for n, size in SIZES.items() if n in allowed}
        key = (data["name"], repr(fields))
        if key not in made:
            builder = make_builder(
                data["name"], fields, data_dir=str(root), raw_data=str(root / "raw")
            )
            prepare(builder)
            made[key] = builder
        return Dataset(made[key], data["preprocess"], resident_bytes=0)

    prepared.raw, prepared.own = root / "raw", root / "own"
    return prepared


def without(row, name):
    return {key: value for key, value in row.items() if key != name}


@pytest.mark.parametrize(("name", "argument"), SPECS)
def test_every_row_builds_on_eight_devices(name, argument, prepared, monkeypatch):
    for files in RAW:
        files.trust(prepared.raw, monkeypatch)
    config = load(name, argument)
    if name == "manifest":
        own = "numbers.csv" if argument == "regression" else "my.csv"
        config.data.manifest = str(prepared.own / own)
    ablation = resolve(config)
    dataset, devices = prepared(ablation.data), Devices(ablation.parallel["mode"])
    assert devices.count == 8
    assert ablation.parallel["devices"] == 0, "a shipped config uses what there is"
    whole, built = argument in ("", "full"), []
    for row in ablation.rows if whole else ablation.rows[-2:]:
        batch = min(row.train.batch, 48)  # the data is smaller here
        assert row.train.batch % 8 == 0
        object.__setattr__(row.train, "batch", batch)
        built.append(build(row, dataset, devices, ablation))
    assert len({row.row.name for row in built}) == len(built) >= 2
    assert all(row.parameters > 0 and row.flops > 0 for row in built)
    if whole:
        alone = {row.reads for row in built if len(row.reads) == 1}
        assert alone == {(m,) for m in dataset.modalities}, "a control per modality"
    assert ablation.baseline in {row.name for row in ablation.rows}
    assert len(ablation.seeds) >= (1 if argument == "smoke" else 3)


def test_the_zoo_has_every_method_and_its_fields_are_right():
    rows = resolve(load("zoo")).rows
    methods = [row for row in rows if row.fusion["name"] != "unimodal"]
    controls = ("unimodal", "identity")
    assert [row.name for row in methods] == [name for name in FUSIONS if name not in controls]
    for row in methods:
        assert row.name == row.fusion["name"]
        fields = dict(row.fusion)
        wants = {field.name for field in dataclasses.fields(FUSIONS[row.name])}
        build_fusion(fields.pop("name"), **fields, **({"outputs": 8} if "outputs" in wants else {}))


def test_the_data_sets_of_sentiment_share_their_fusions():
    found = [resolve(load("sentiment", a)) for a in ("mosi", "video", "mvsa", "emodb", "reviews")]
    shared = set.intersection(*({row.name for row in each.rows} for each in found))
    fusions = {row.name: row.fusion["name"] for row in found[0].rows if row.name in shared}
    assert len(shared) == 8 and set(fusions) == {fusion.name for fusion in found[0].rows} - {
        "audio only"
    }
    for each in found:
        assert each.baseline == "main modality only"
        assert {r.name: r.fusion["name"] for r in each.rows if r.name in shared} == fusions


@pytest.mark.parametrize("name", FILES)
def test_config_is_labelled_and_imports_nothing_else(name):
    tree = ast.parse((ROOT / "configs" / f"{name}.py").read_text())
    doc = ast.get_docstring(tree)
    assert re.search(rf"^Command +.*(make {name}|--config=configs/{name}\.py)", doc, re.MULTILINE)
    imported = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    imported += [a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]
    assert set(imported) <= {"ml_collections", "configs"}


def test_no_source_file_imports_a_config():
    for path in [*ROOT.glob("mmfuse/**/*.py"), *ROOT.glob("experiments/*.py")]:
        text = path.read_text()
        assert not re.search(r"^\s*(from|import) configs", text, re.MULTILINE), path


@pytest.mark.parametrize("name", FILES)
def test_an_unknown_argument_is_refused(name, tmp_path):
    with pytest.raises(InputError, match="nonsense"):
        ablation = resolve(load(name, "nonsense"))
        make_builder(ablation.data["name"], ablation.data["builder"], data_dir=str(tmp_path), raw_data=None)  # noqa: E501  # fmt: skip


def test_the_smoke_run_of_the_quickstart_trains_a_row(command, tmp_path):
    code, out, err = command("--rows=concat", "--config.parallel.devices=2",
                             config="configs/quickstart.py:smoke", data_dir=tmp_path)  # fmt: skip
    assert code == 0, err
    assert "| concat" in out
    assert "Bayes optimum" in out
    records = Workdir(tmp_path / "work").records()
    assert [(r["status"], r["device"]["count"]) for r in records] == [("done", 2)] * 2
