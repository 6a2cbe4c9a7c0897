"""``probe`` on tasks without one score of an example: all but attention is measured."""

import base64
import io
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from PIL import Image

from experiments import probe, probe_entries
from mmfuse import probes
from mmfuse.ablation import resolve
from mmfuse.build import build
from mmfuse.checkpoint import Checkpoints
from mmfuse.data.loader import Dataset
from mmfuse.loop import train_group
from mmfuse.parallel import Devices
from mmfuse.probing import latency
from mmfuse.probing.explain import explainable
from mmfuse.runs import Setting, finish
from mmfuse.tasks import TASKS
from mmfuse.workdir import open_workdir
from tests import tiny
from tests.tasks.examples import CARDS, task
from tests.test_loader import Faulty

LABELS = {  # task: (its metric, the columns of a class)
    "multilabel": ("nll", lambda y: {"label": (np.arange(5) <= y % 5).astype(np.uint8)}),
    "ranking": (
        "mrr",
        lambda y: {"label": y, "label_filter": np.zeros(2, np.uint8), "label_group": y % 2},
    ),
}


class Other(Faulty):
    """The tiny dataset with labels of another task."""

    def __init__(self, builder, name, columns, more=()):
        super().__init__(builder, lambda split, row: row | columns(row["label"]))
        info = builder.info
        metadata = dict(info.metadata) | dict(more) | {"task": name} | CARDS[name]
        self.info = SimpleNamespace(metadata=metadata, splits=info.splits)


@pytest.mark.parametrize("name", LABELS)
def test_all_but_attention_is_measured(name, tmp_path_factory, tmp_path, capsys, monkeypatch):
    for module in (latency, probe_entries):
        monkeypatch.setattr(module, "BATCHES", (1, 4))
    builder = Other(tiny.dataset(tmp_path_factory)._builder, name, LABELS[name][1])
    dataset, devices = Dataset(builder, tiny.PREPROCESS, resident_bytes=2**31), Devices("jit", 1)
    config = tiny.config(epochs=1, select=LABELS[name][0])
    config.metric = LABELS[name][0]
    ablation = resolve(config)
    built = build(ablation.rows[0], dataset, devices, ablation)
    found = train_group(built, dataset, devices, (0, 1), Checkpoints(tmp_path / "checkpoints"))
    args = SimpleNamespace(examples=8, drawn=1, repeats=1)
    with open_workdir(tmp_path / "work", ablation.identity()) as workdir:
        finish(Setting(ablation, dataset, devices), workdir, built, (0, 1), *found)
        asked = probe.Probe(workdir, ablation, dataset, devices, args)
        asked.rows([tuple(workdir.records())], probes.WHATS)
    written = probes.read(workdir)
    assert written.pop("attention") is None and written.pop("samples") is None
    assert all(list(content["rows"]) == ["concat"] for content in written.values())
    assert f"concat: no attention, a task '{name}' has no single score" in capsys.readouterr().out


GENERATED = {  # task: (its metric, the columns of a class, fields of its head)
    "words": ("perplexity", lambda y: {"label": np.array([2 + y % 3, 1, 0])}, {"features": 8}),
    "picture": ("nll", lambda y: {"label": np.full((4, 5, 1), y % 3 / 2)}, {"blocks": (4,)}),
    "sound": (
        "rmse",
        lambda y: {"label": np.full((6, 3), float(y % 3)), "label_mask": np.ones(6, bool)},
        {"name": "recurrent", "features": 8},
    ),
}
SCALE = {"mean": -5.0, "std": 2.0, "sample_rate": 800, "n_fft": 16, "hop": 8}


@pytest.mark.parametrize("name", GENERATED)
def test_samples_of_what_a_run_generates(name, tmp_path_factory, tmp_path):
    metric, columns, head = GENERATED[name]
    more = {"sound": SCALE, "word": ["<eos>", "yes", "no"]}
    builder = Other(tiny.dataset(tmp_path_factory)._builder, name, columns, more)
    dataset, devices = Dataset(builder, tiny.PREPROCESS, resident_bytes=2**31), Devices("jit", 1)
    config = tiny.config(epochs=1, select=metric)
    config.metric, config.head = metric, head
    ablation = resolve(config)
    built = build(ablation.rows[0], dataset, devices, ablation)
    found = train_group(built, dataset, devices, (0,), Checkpoints(tmp_path / "checkpoints"))
    args = SimpleNamespace(examples=8, drawn=2, repeats=1)
    with open_workdir(tmp_path / "work", ablation.identity()) as workdir:
        finish(Setting(ablation, dataset, devices), workdir, built, (0,), *found)
        opened = [*dataset.test_openings]
        asked = probe.Probe(workdir, ablation, dataset, devices, args)
        asked.rows([tuple(workdir.records())], ("samples",))
        first = probes.read(workdir)["samples"]
        asked.rows([tuple(workdir.records())], ("samples",))
    assert probes.read(workdir)["samples"] == first, "the same every time"
    assert dataset.test_openings == opened, "no test example is looked at"
    raw = dataset.raw("valid", range(2))
    ids = [identity.decode() for identity in raw["id"]]
    entry = first["rows"]["concat"]
    assert [sample["id"] for sample in entry["samples"]] == ids and first["split"] == "valid"
    for place, sample in enumerate(entry["samples"]):
        said = {piece["said"]: piece for piece in sample["input"]}
        words = said["text"]["text"].split()
        assert words and set(words) <= {*dataset.preprocessors["text"].vocabulary.words, "<unk>"}
        right, label = sample["true"], raw["label"][place]
        if name == "words":
            assert right["text"] == {2: "<eos>", 3: "yes", 4: "no"}[int(label[0])]
            assert [p["said"] for p in sample["made"]] == [
                "beam 4", "greedy", "nucleus 0.9, draw 1", "nucleus 0.9, draw 2"
            ]  # fmt: skip
        if name == "picture":
            assert opened_png(right)[0, 0, 0] == round(255 * float(label[0, 0, 0]))
        if name == "sound":
            heard, rate = soundfile.read(io.BytesIO(base64.b64decode(right["wav"])))
            assert rate == 800 and len(heard) == 5 * 8 + 16 and np.abs(heard).max() > 0.8


def opened_png(piece):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(piece["png"]))).convert("RGB"))


def test_classes_and_numbers_are_explainable_and_nothing_else():
    found = [name for name in TASKS if explainable(task(name))]
    assert found == ["classification", "regression", "sentiment"] == list(probes.EXPLAINED)
