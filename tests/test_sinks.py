"""What each sink writes or sends, and how ``--log`` is read."""

import importlib.machinery
import json
import math
import os
import sys
import types

import pytest

from mmfuse import sinks
from mmfuse.errors import InputError
from tests import event_files

EPOCHS = [
    {
        "event": "epoch", "time": 1000.5 + n, "row": "a row", "seed": 3, "epoch": n,
        "step": 10 * (n + 1), "lr": 0.25, "train": {"loss": 1.0 / (n + 1)},
        "valid": {"accuracy": 0.5 + n / 8, "f1": None},
    }
    for n in range(3)
]  # fmt: skip
END = {
    "event": "finished", "time": 2000.0, "row": "a row", "seed": 3, "status": "done",
    "step": 30, "seconds": 1.5, "diverged_at": None, "test": {"accuracy": 0.75},
}  # fmt: skip
TAGS = {"train/loss", "valid/accuracy", "lr"}


@pytest.fixture
def about(tmp_path):
    config = {"train": {"lr": 0.25, "x:y": "z" * 600}, "many": {str(i): i for i in range(150)}}
    return sinks.About("id17", "tiny", "a row", 3, config, tmp_path / "seed_3", tmp_path)


def use(sink, about, events, history=()):
    sink.start(about, list(history))
    for event in events:
        sink.log(event)
    sink.close()


def test_the_numbers_of_an_event():
    assert sinks.scalars(EPOCHS[0]) == {"train/loss": 1.0, "valid/accuracy": 0.5, "lr": 0.25}
    assert sinks.scalars(END) == {"test/accuracy": 0.75, "seconds": 1.5}
    assert sinks.scalars({"event": "resume", "epoch": 1}) == {}


def test_lines(about):
    use(sinks.Jsonl(), about, EPOCHS[1:], history=EPOCHS[:1])
    lines = (about.folder / "log.jsonl").read_bytes().splitlines(keepends=True)
    assert [json.loads(line) for line in lines] == EPOCHS
    assert all(line.endswith(b"\n") for line in lines)


def test_a_line_is_with_the_system_at_once(about):
    sink = sinks.Jsonl()
    sink.start(about, [])
    sink.log(EPOCHS[0])
    assert list(sinks.read_lines(about.folder / "log.jsonl")) == EPOCHS[:1]
    sink.close()


def test_what_a_kill_left_is_tidied_and_torn_lines_are_not_read(about):
    about.folder.mkdir()
    (about.folder / ".log.jsonl.12.tmp").write_text("{")
    log = about.folder / "log.jsonl"
    log.write_bytes(b'{"event": "sta\n3\n\xff\n' + json.dumps(EPOCHS[0]).encode() + b'\n{"event')
    assert list(sinks.read_lines(log)) == EPOCHS[:1]
    assert list(sinks.read_lines(about.folder / "nothing")) == []
    use(sinks.Jsonl(), about, [], history=EPOCHS[:1])
    assert [p.name for p in about.folder.iterdir()] == ["log.jsonl"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_a_full_disk_raises(about):
    sink = sinks.Jsonl()
    sink.start(about, [])
    sink.file.close()
    sink.file = open("/dev/full", "wb", buffering=0)  # noqa: SIM115 - the sink closes it
    with pytest.raises(OSError, match="No space left"):
        sink.log(EPOCHS[0])
    sink.close()


def test_the_checksum_is_castagnoli():
    assert event_files.crc32c(b"123456789") == 0xE3069283


def test_event_files_are_read_back(about):
    use(sinks.TensorBoard(), about, [*EPOCHS, END])
    (path,) = about.folder.iterdir()
    found = event_files.events(path)
    assert found[0].file_version == "brain.Event:2"
    assert (found[1].session_log.status, found[1].step) == (1, 0)
    config = found[2].summary.value[0]
    assert config.metadata.plugin_data.plugin_name == "text"
    assert b"train.lr = 0.25" in config.tensor.string_val[0]
    assert [e.wall_time for e in found[3:]] == [e["time"] for e in [*EPOCHS, END]]
    curves = event_files.curves(about.folder)
    assert set(curves) == TAGS | {"test/accuracy", "seconds"}
    assert curves["valid/accuracy"] == [(10, 0.5), (20, 0.625), (30, 0.75)]
    assert curves["train/loss"][1:] == [(20, 0.5), (30, pytest.approx(1 / 3, rel=1e-7))]
    assert curves["test/accuracy"] == [(30, 0.75)]


def test_a_resumed_event_file_has_every_epoch_once(about):
    use(sinks.TensorBoard(), about, EPOCHS)
    (path,) = about.folder.iterdir()
    path.rename(path.with_name("events.out.tfevents.1000000000.host"))  # written long ago
    use(sinks.TensorBoard(), about, EPOCHS[1:], history=EPOCHS[:1])
    assert event_files.curves(about.folder)["lr"] == [(10, 0.25), (20, 0.25), (30, 0.25)]


def test_tensorflow_is_not_needed(about, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    use(sinks.TensorBoard(), about, EPOCHS)


def module(monkeypatch, name, **content):
    """A module in the place of one that is not installed."""
    made = types.ModuleType(name)
    made.__spec__ = importlib.machinery.ModuleSpec(name, None, origin="made up")
    vars(made).update(content)
    monkeypatch.setitem(sys.modules, name, made)


class FakeWandB:
    """Keeps runs by id as W&B does: a step before the last one is dropped."""

    def __init__(self):
        self.runs, self.asked = {}, []

    def init(self, **fields):
        self.asked.append(fields)
        run = self.runs.setdefault(fields["id"], FakeRun())
        run.codes.append(None)
        return run


class FakeRun:
    def __init__(self):
        self.steps, self.summary, self.codes = {}, {}, []

    def log(self, values, step):
        if step >= max(self.steps, default=0):
            self.steps[step] = values

    def finish(self, exit_code):
        self.codes[-1] = exit_code


@pytest.fixture
def wandb(monkeypatch):
    fake = FakeWandB()
    module(monkeypatch, "wandb", init=fake.init, Settings=lambda **fields: fields)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    return fake


def test_wandb(wandb, about):
    use(sinks.WandB(), about, EPOCHS[:2])
    use(sinks.WandB(), about, [*EPOCHS[1:], END], history=EPOCHS[:1])
    run = wandb.runs["id17"]
    assert run.steps == {n: sinks.scalars(EPOCHS[n]) for n in range(3)}
    assert run.summary == {"test/accuracy": 0.75, "seconds": 1.5, "status": "done"}
    assert run.codes == [1, 0]  # the first launch did not come to the end
    asked = wandb.asked[0]
    assert asked["config"] == about.config
    assert asked["project"] == "mmfuse"
    assert (asked["name"], asked["group"]) == ("a row, seed 3", "tiny: a row")


def test_a_diverged_run_is_a_failed_one(wandb, about):
    use(sinks.WandB(), about, [END | {"status": "diverged", "test": {}}])
    assert wandb.runs["id17"].codes == [1]
    assert wandb.runs["id17"].summary["status"] == "diverged"


class FakeMLflow:
    """A tracking server: experiments by name, runs with tags, every value that was sent."""

    experiments, runs = {}, {}

    def get_experiment_by_name(self, name):
        return self.experiments.get(name)

    def create_experiment(self, name):
        self.experiments[name] = types.SimpleNamespace(experiment_id=str(len(self.experiments)))
        return self.experiments[name].experiment_id

    def search_runs(self, experiments, filter_string):
        key, value = filter_string.removeprefix("tags.").split(" = ")
        return [
            r for r in self.runs.values()
            if r.experiment in experiments and r.tags[key] == value.strip("'")
        ]  # fmt: skip

    def create_run(self, experiment, tags, run_name):
        info = types.SimpleNamespace(run_id=f"run{len(self.runs)}", run_name=run_name)
        data = types.SimpleNamespace(metrics={})
        run = types.SimpleNamespace(
            info=info, data=data, experiment=experiment, tags=tags, sent=[], params={}, states=[]
        )
        self.runs[info.run_id] = run
        return run

    def log_batch(self, run_id, metrics=(), params=()):
        assert len(params) <= 100
        run = self.runs[run_id]
        run.params |= dict(params)
        for key, value, timestamp, step in metrics:
            assert isinstance(timestamp, int)
            run.sent.append((key, step, value))
            run.data.metrics[key] = value

    def update_run(self, run_id, status):
        self.runs[run_id].states.append(status)

    def set_terminated(self, run_id, status):
        self.runs[run_id].states.append(status)


@pytest.fixture
def mlflow(monkeypatch):
    server = type("Server", (FakeMLflow,), {"experiments": {}, "runs": {}})
    pack = lambda *values: values  # noqa: E731
    module(monkeypatch, "mlflow", MlflowClient=server)
    module(monkeypatch, "mlflow.entities", Metric=pack, Param=pack)
    return server


def test_mlflow(mlflow, about):
    use(sinks.MLflow(), about, EPOCHS[:2])
    use(sinks.MLflow(), about, [*EPOCHS[1:], END], history=EPOCHS[:1])
    (run,) = mlflow.runs.values()
    assert list(mlflow.experiments) == ["tiny"]
    assert run.states == ["KILLED", "RUNNING", "FINISHED"]
    assert run.info.run_name == "a row, seed 3"
    assert [s for s in run.sent if s[0] == "valid/accuracy"] == [
        ("valid/accuracy", 10, 0.5), ("valid/accuracy", 20, 0.625), ("valid/accuracy", 30, 0.75)
    ]  # fmt: skip
    assert ("test/accuracy", 30, 0.75) in run.sent
    assert len(run.params) == 152
    assert run.params["train.x_y"] == "z" * 500


def test_a_log_that_is_switched_on_later_gets_the_history(mlflow, wandb, about):
    for sink in (sinks.MLflow(), sinks.WandB()):
        use(sink, about, EPOCHS[2:], history=EPOCHS[:2])
    (run,) = mlflow.runs.values()
    assert [s[1] for s in run.sent if s[0] == "lr"] == [10, 20, 30]
    assert list(wandb.runs["id17"].steps) == [0, 1, 2]


def test_lines_are_always_chosen(wandb):
    assert sinks.chosen("") == ("jsonl",)
    assert sinks.chosen("tensorboard, wandb,tensorboard") == ("jsonl", "tensorboard", "wandb")
    assert sinks.chosen("jsonl") == ("jsonl",)


def test_a_name_that_does_not_exist():
    with pytest.raises(InputError, match=r"unknown log 'tensorbord'.*did you mean 'tensorboard'"):
        sinks.chosen("tensorbord")
    with pytest.raises(InputError, match=r"unknown log ''.*there are: jsonl, tensorboard"):
        sinks.chosen(",")


@pytest.mark.parametrize("name", sinks.PACKAGES)
def test_a_missing_package_says_what_to_install(name, monkeypatch, tmp_path):
    (tmp_path / "not_installed").mkdir()  # as W&B leaves a folder "wandb" where it ran
    monkeypatch.syspath_prepend(str(tmp_path))
    for package in ("not_installed", "not_even_a_folder"):
        monkeypatch.setitem(sinks.PACKAGES, name, package)
        with pytest.raises(InputError) as caught:
            sinks.chosen(name)
        assert f"--log={name} needs the package {package}" in str(caught.value)
        assert "pip install" in str(caught.value)


def test_nothing_infinite_is_a_line(about):
    sink = sinks.Jsonl()
    sink.start(about, [])
    with pytest.raises(ValueError, match="not JSON compliant"):
        sink.log(EPOCHS[0] | {"lr": math.nan})
    sink.close()
