"""The bench: what it measures with, what it prints, and that its PyTorch twin is the same model."""

import dataclasses
import re
import sys
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from experiments import bench, cli
from experiments.synthetic import RandomBuilder, synthetic_dataset
from mmfuse.ablation import resolve
from mmfuse.build import build
from mmfuse.config import load_config
from mmfuse.data.datasets import make_builder
from mmfuse.errors import InputError
from mmfuse.parallel import Devices
from mmfuse.probing.latency import take_turns
from mmfuse.settings import TrainSettings
from tests import programs


def test_matmul_peak_is_that_of_the_fastest_repeat():
    times = iter([0.0, 4.0, 10.0, 12.0, 20.0, 25.0])  # 4, 2 and 5 seconds
    assert bench.matmul_peak(32, 3, clock=lambda: next(times)) == 2 * 32**3 / 2
    assert bench.matmul_peak(32, 3) > 1e6


@pytest.mark.parametrize(("platform", "factor"), [("cpu", 1), ("gpu", 4)])
def test_simulated_devices_share_the_cores(platform, factor, monkeypatch):
    monkeypatch.setattr(bench, "matmul_peak", lambda clock: 100.0)
    devices = SimpleNamespace(devices=[SimpleNamespace(platform=platform)] * 4, count=4)
    assert bench.machine_peak(devices) == 100.0 * factor


def flops(batch, width, seeds):
    """Of a training step of x [B, D] * mask -> W x + b -> [B, C], gradient descent."""
    data = programs.data(n=batch)
    data["inputs"]["x"] = np.ones((batch, width), np.float32)
    built = SimpleNamespace(program=programs.make(), settings=SimpleNamespace(batch=batch))
    dataset = SimpleNamespace(batch=lambda split, indices: jax.tree.map(lambda x: x[:1], data))
    return bench.training_flops(built, dataset, seeds)


def test_training_flops_against_a_count_by_hand():
    classes = programs.CLASSES

    def wider(batch, *seeds):
        return flops(batch, 12, seeds) - flops(batch, 11, seeds)

    # One more input feature: per example its product with the mask, 2 C forward, 2 C for the
    # gradient of the kernel (and none for that of the input, which nobody needs).
    assert wider(20, 0) - wider(8, 0) == (20 - 8) * (1 + 2 * classes + 2 * classes)
    one, two, three = (flops(8, 12, seeds=seeds) for seeds in ((0,), (0, 1), (0, 1, 2)))
    assert three - two == two - one  # a seed more costs the same each time ...
    assert 0 <= 2 * one - two < 0.02 * one  # ... and shares only what depends on no seed


def test_runs_take_turns():
    said = []

    def clock():
        said.append("|")
        return len(said)

    times = take_turns([lambda: said.append("a"), lambda: said.append("b")], 3, clock)
    assert "".join(said) == "a|a|b|b|" * 3  # each is made once untimed, to fill the caches
    assert times == [[2] * 3] * 2


@pytest.fixture
def small(tmp_path, monkeypatch):
    """The bench on the config of ``tests/tiny.py``; returns the lines that it prints."""
    (tmp_path / "small.py").write_text("from tests.tiny import config as get_config\n")
    monkeypatch.setattr(bench, "matmul_peak", lambda clock: 1e12)

    def run(capsys, *flags):
        config = f"--config={tmp_path / 'small.py'}"
        common = ["--synthetic", "--repeats=1", f"--data_dir={tmp_path / 'data'}"]
        assert bench.main([config, *common, *flags]) == 0
        assert not (tmp_path / "data").exists(), "it writes nothing"
        return capsys.readouterr().out.splitlines()

    return run


def test_the_printed_table(small, capsys):
    about, titles, *lines = small(capsys, "--rows=concat")
    assert about.startswith("1 x cpu, ")
    assert f"jax {jax.__version__}; wall time, 1 repeats" in about
    assert re.split(r"\s{2,}", titles.strip()) == ["row", *bench.TITLES]
    (line,) = lines
    row, seeds, compiling, programs_, rate, speed, share, memory = re.split(r"\s{2,}", line)
    assert (row, seeds, programs_) == ("concat", "2", "3")
    assert re.fullmatch(r"\d+\.\d s", compiling)
    assert int(rate.replace(",", "")) > 0
    assert speed[-1] in "kMG"
    assert re.fullmatch(r"\d+\.\d%", share)
    assert memory.endswith("B")


def test_bad_flags(small, capsys):
    for flags, said in (
        (["--repeats=0"], "--repeats 0 must be >= 1"),
        (["--threads=-1"], "--threads -1 >= 0"),
        (["--threads=9999"], "--threads is 9999, but there are"),
        (["--against=tensorflow"], "invalid choice: 'tensorflow'"),
    ):
        with pytest.raises(InputError, match=re.escape(said)):
            small(capsys, *flags)


def test_without_pytorch_one_line_says_how_to_install_it(small, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "experiments.torch_twin", raising=False)
    with pytest.raises(InputError, match=r"needs PyTorch.*: pip install torch"):
        small(capsys, "--against=torch")


def random_dataset(spec, tmp_path, n=40, **preprocess):
    """(the resolved config, random examples for it); preprocessing may be replaced."""
    ablation = resolve(load_config(spec))
    data = ablation.data
    builder = make_builder(data["name"], data["builder"], data_dir=str(tmp_path), raw_data=None)
    return ablation, synthetic_dataset(builder, data["preprocess"] | preprocess, n)


@pytest.mark.parametrize("spec", ["configs/avmnist.py:full", "configs/quickstart.py"])
def test_synthetic_data_has_the_sizes_of_the_config(spec, tmp_path):
    _, dataset = random_dataset(spec, tmp_path)
    sizes = {
        "configs/avmnist.py:full": {"audio": (112, 112, 1), "image": (28, 28, 1)},
        "configs/quickstart.py": {"audio": (10, 24), "image": (16, 16, 3), "text": (8,)},
    }[spec]
    arrays = dataset.train_arrays()
    assert {m: x.shape for m, x in arrays["inputs"].items()} == {
        m: (40, *shape) for m, shape in sizes.items()
    }
    assert {str(x.dtype) for m, x in arrays["inputs"].items() if m != "text"} == {"float32"}
    assert set(arrays["label"]) <= set(range(dataset.card["classes"]))
    assert len(set(arrays["label"])) > 1
    assert dataset.resident


def test_synthetic_examples_depend_on_their_index_alone():
    builder = make_builder("helpdesk", {}, data_dir=None, raw_data=None)
    source = RandomBuilder(builder, 9).as_data_source("train")
    a, b = source.__getitems__([3, 5]), source.__getitems__([5])
    assert a[1]["text"] == b[0]["text"] != a[0]["text"]


def test_synthetic_sequences_of_any_length_have_steps():
    builder = make_builder("ict_mmmo", {}, data_dir=None, raw_data=None)
    made = synthetic_dataset(builder, {"audio": {"name": "features"}}, 3)
    assert made.train_arrays()["inputs"]["audio"].shape == (3, 24, 74)
    assert made.sizes == {"train": 3, "valid": 3, "test": 3}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("dialogue.py", "dataset 'onecommon': its task 'pointing'"),
        ("dialogue.py:generation", "dataset 'onecommon': its task 'words'"),
        ("next_step.py", "dataset 'polymusic': its task 'multilabel'"),
        ("next_step.py:digits-image", "dataset 'digit_stream': its task 'picture'"),
        ("next_step.py:digits-sound", "dataset 'digit_stream': its task 'sound'"),
        ("knowledge_graph.py", "dataset 'codex_s': its task 'links'"),
        ("knowledge_graph.py:classification", "dataset 'codex_s': its task 'triples'"),
        ("recommendation.py:top", "dataset 'movielens': its task 'recommendation'"),
        ("recommendation.py", "config.data.preprocess.user: 'identity' has no random ids"),
    ],
)
def test_what_cannot_be_random_is_one_line(config, said, tmp_path, monkeypatch, capsys):
    given = [f"--config=configs/{config}", "--synthetic", f"--data_dir={tmp_path}"]
    monkeypatch.setattr(sys, "argv", ["bench", *given])
    with pytest.raises(SystemExit) as end:
        cli.run_command(bench.main)
    assert end.value.code == cli.BAD_INPUT
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert line.startswith(f"error: {said}") and "; allowed: " in line
    assert not out and not list(tmp_path.iterdir())


ENCODERS = [
    {
        "text": {"name": "text_lstm", "features": 6, "embed": 5},
        "image": {"name": "image_cnn", "features": 4, "channels": (3, 5), "kernel": (3, 5)},
        "audio": {"name": "audio_lstm", "features": 7},
    },
    {
        "text": {"name": "text_lstm", "features": 6},
        "image": {"name": "spectrogram_cnn", "features": 4, "channels": (3, 5, 2)},
        "audio": {"name": "mlp", "features": 7, "hidden": 9, "group": 4},
    },
]
FUSIONS = [
    {"name": "concat", "features": 5, "hidden": 6},
    {"name": "late_average", "features": 5},
    {"name": "unimodal", "modality": "text", "features": 5},
]


@pytest.fixture
def twins():
    pytest.importorskip("torch", reason="PyTorch is no part of mmfuse")
    from experiments import torch_twin

    return torch_twin


def changed(ablation, **entries):
    """The first row of the ablation with other entries, trained as no config would: all matters."""
    settings = TrainSettings(
        batch=8, epochs=1, lr=0.05, warmup=1, weight_decay=0.5, label_smoothing=0.2, clip_norm=0.3
    )
    return dataclasses.replace(ablation.rows[0], train=settings, **entries)


@pytest.mark.parametrize(
    ("encoders", "fusion", "last"),
    [(0, 0, False), (1, 1, True), (0, 2, False)],
    ids=["concat", "late average", "unimodal"],
)
def test_the_twin_is_the_same_model(encoders, fusion, last, twins, tmp_path, monkeypatch):
    picture = {"name": "picture", "size": 8} if encoders == 0 else {"name": "array"}
    ablation, dataset = random_dataset("configs/quickstart.py", tmp_path, image=picture)
    row = changed(ablation, encoders=ENCODERS[encoders], fusion=FUSIONS[fusion])
    devices = Devices("jit", 1)
    built = build(row, dataset, devices, ablation)
    assert twins.refusal(row, built.reads) == ""
    dispatch = bench.Dispatch(built, dataset, devices, (4, 2))
    losses = dispatch.first_losses()
    assert np.ptp(losses) > 1e-2, "the steps differ, or equal losses would not show much"
    run, difference = bench._twin(twins, built, dataset, dispatch, last)
    assert difference < 1e-5
    assert run().shape == (5,)
    monkeypatch.setattr(dispatch, "first_losses", lambda: losses + 0.01)
    with pytest.raises(InputError, match=r"row 'text only': the first losses differ by 1\.0e-02"):
        bench._twin(twins, built, dataset, dispatch, last)


def test_what_has_no_twin_is_named(twins, tmp_path):
    ablation, _ = random_dataset("configs/quickstart.py", tmp_path)
    rows = {row.name: row for row in ablation.rows}
    assert "no PyTorch twin of fusion 'gmu'; there are: unim" in twins.refusal(rows["GMU"], ())
    local = rows["concat"].encoders | {"text": {"name": "text_local", "features": 4}}
    other = dataclasses.replace(rows["concat"], encoders=local)
    assert "no PyTorch twin of encoder 'text_local'" in twins.refusal(other, ("text",))
    assert not twins.refusal(other, ("audio",))
    sgd = dataclasses.replace(rows["concat"].train, optimizer="sgd")
    other = dataclasses.replace(rows["concat"], train=sgd)
    assert "no PyTorch twin of optimizer 'sgd'" in twins.refusal(other, ())


def test_a_table_with_pytorch(twins, small, capsys):
    has_one = "--config.encoders.text.name=text_lstm"
    _, titles, *lines = small(capsys, "--against=torch", "--rows=text only", has_one)
    assert re.split(r"\s{2,}", titles.strip())[-3:] == list(bench.AGAINST)
    cells = [re.split(r"\s{2,}", line) for line in lines]
    assert [c[:2] for c in cells] == [["text only", "2"], ["text only", "1"]]
    assert all(float(c[-2]) > 0 and float(c[-1]) < 1e-5 for c in cells)
    *_, line, note = small(capsys, "--against=torch", "--rows=text only")
    assert len(re.split(r"\s{2,}", line)) == 1 + len(bench.TITLES)
    assert note.startswith("  (no PyTorch twin of encoder 'text_local'; there are: ")
