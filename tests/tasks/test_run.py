"""A task with a tree of labels and a head that is given words, through the data and a whole run."""

import jax
import numpy as np
import pytest

from mmfuse.ablation import resolve
from mmfuse.build import build
from mmfuse.checkpoint import Checkpoints
from mmfuse.data.loader import Dataset
from mmfuse.errors import InputError
from mmfuse.loop import train_group
from mmfuse.parallel import Devices
from mmfuse.runs import Setting, finish
from mmfuse.workdir import open_workdir
from tests import tiny
from tests.test_loader import Faulty


class Said(Faulty):
    """The tiny dataset with a text of two or three words in place of its classes."""

    def __init__(self, builder, last=1):
        def change(split, row):
            text = [2 + row["label"] % 4, last, 0] if row["label"] < 4 else [3, 5, 1]
            return row | {"label": np.array(text, np.int32)}

        super().__init__(builder, change)

    @property
    def info(self):
        found = self._builder.info

        class Info:
            metadata = dict(found.metadata) | {"task": "words", "vocabulary": 6}
            splits = found.splits

        return Info


def config():
    made = tiny.config(select="perplexity", epochs=1)
    made.metric, made.head = "perplexity", {"name": "lstm", "features": 8, "embed": 4}
    return made


@pytest.fixture(scope="module")
def builder(tmp_path_factory):
    return tiny.dataset(tmp_path_factory)._builder


def test_a_run_of_words_streamed_on_two_devices(builder, tmp_path):
    dataset = Dataset(Said(builder), tiny.PREPROCESS, resident_bytes=0)
    batch = dataset.batch("train", range(3))
    assert (batch["label"].shape, batch["given"]["previous"].shape) == ((3, 3), (3, 3))
    ablation, devices = resolve(config()), Devices("pmap", 2)
    built = build(ablation.rows[0], dataset, devices, ablation)
    assert built.row.as_dict()["head"] == {"name": "lstm", "features": 8, "embed": 4}
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    run, executables, clock = train_group(built, dataset, devices, (0, 1), checkpoints)
    setting = Setting(ablation, dataset, devices)
    with open_workdir(tmp_path / "work", ablation.identity()) as workdir:
        record = finish(setting, workdir, built, (0, 1), run, executables, clock)[1]
        kept = workdir.predictions("concat", 1)
    assert set(kept["output"]) == {"nll", "words", "exact"} and kept["label"].shape == (30, 3)
    perplexity = np.exp(kept["output"]["nll"].sum() / kept["output"]["words"].sum())
    assert record["metrics"]["test"]["perplexity"] == pytest.approx(perplexity, rel=1e-5)
    assert record["metrics"]["test"]["loss"] == pytest.approx(kept["output"]["nll"].mean())
    (test,) = dataset.open_test(30, run="this test", purpose="score")
    params = jax.tree.map(lambda x: x[1], run.selection.params)
    output, _ = built.model.apply(
        {"params": params}, test["inputs"], test["masks"], test["given"], train=False
    )
    np.testing.assert_allclose(
        dataset.task.loss(output, test["label"]), kept["output"]["nll"], rtol=1e-4
    )


def test_what_does_not_fit_a_task_is_refused(builder):
    with pytest.raises(InputError, match=r"'label' of example 'train-0.*: 7 is outside 0\.\.5"):
        Dataset(Said(builder, last=7), tiny.PREPROCESS, resident_bytes=2**31)
    dataset, devices = Dataset(Said(builder), tiny.PREPROCESS, resident_bytes=0), Devices("jit", 1)
    for change, said in (
        (lambda c: c.update(metric="accuracy"), "'accuracy' is not a metric of words"),
        (lambda c: c.head.update(name="lstmm"), "no head 'lstmm'; did you mean 'lstm'"),
        (lambda c: c.head.update(vocabulary=9), "'lstm' has no field 'vocabulary' to be set"),
    ):
        wrong = config()
        change(wrong)
        ablation = resolve(wrong)
        with pytest.raises(InputError, match=said):
            build(ablation.rows[0], dataset, devices, ablation)
    mixed = config()
    mixed.data.preprocess = {"audio": tiny.PREPROCESS["audio"]}
    mixed.encoders = {"audio": mixed.encoders["audio"]}
    mixed.rows = {"concat": mixed.rows["concat"]}
    mixed.baseline, mixed.data.train_transforms = "concat", ({"name": "mixup", "alpha": 0.3},)
    dataset = Dataset(Said(builder), mixed.data.preprocess.to_dict(), resident_bytes=0)
    ablation = resolve(mixed)
    with pytest.raises(InputError, match="belongs to one example: do not mix two"):
        build(ablation.rows[0], dataset, devices, ablation)
