"""``probe`` on tasks without one score of an example: all but attention is measured."""

from types import SimpleNamespace

import numpy as np
import pytest

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

    def __init__(self, builder, name):
        super().__init__(builder, lambda split, row: row | LABELS[name][1](row["label"]))
        info = builder.info
        metadata = dict(info.metadata) | {"task": name} | CARDS[name]
        self.info = SimpleNamespace(metadata=metadata, splits=info.splits)


@pytest.mark.parametrize("name", LABELS)
def test_all_but_attention_is_measured(name, tmp_path_factory, tmp_path, capsys, monkeypatch):
    for module in (latency, probe_entries):
        monkeypatch.setattr(module, "BATCHES", (1, 4))
    builder = Other(tiny.dataset(tmp_path_factory)._builder, name)
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
    assert written.pop("attention") is None
    assert all(list(content["rows"]) == ["concat"] for content in written.values())
    assert f"concat: no attention, a task '{name}' has no single score" in capsys.readouterr().out


def test_classes_and_numbers_are_explainable_and_nothing_else():
    found = [name for name in TASKS if explainable(task(name))]
    assert found == ["classification", "regression", "sentiment"] == list(probes.EXPLAINED)
