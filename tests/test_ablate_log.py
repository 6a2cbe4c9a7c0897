"""The command ``ablate`` with logs: the same bits whatever they do, and nothing written twice."""

import pytest

from mmfuse import sinks
from mmfuse.record import strip_clock
from mmfuse.workdir import Workdir
from tests import event_files

pytest_plugins = ["tests.commands"]


class BreaksAtTheThirdCall:
    """Starts for two seeds, and raises at the first event."""

    calls = 0

    def start(self, about, history):
        self._count()

    def log(self, event):
        self._count()

    def close(self):
        pass

    @classmethod
    def _count(cls):
        cls.calls += 1
        if cls.calls == 3:
            raise TimeoutError("the server does not answer")


def found(folder):
    """Records without clocks, and the bytes of what else has no clock."""
    records = [strip_clock(record) for record in Workdir(folder).records()]
    return records, {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.suffix == ".npz" or path.name == "table.json"
    }


def test_logs_change_no_bit(command, tmp_path, monkeypatch, caplog):
    plain, logged = tmp_path / "plain", tmp_path / "logged"
    code, _, err = command("--rows=concat", workdir=plain)
    assert code == 0, err
    assert not caplog.records
    monkeypatch.setitem(sinks.SINKS, "breaks", BreaksAtTheThirdCall)
    code, _, err = command("--rows=concat", "--log=breaks,tensorboard", workdir=logged)
    assert code == 0, err
    (told,) = [r.getMessage() for r in caplog.records]
    assert told == (
        "the log 'breaks' failed (TimeoutError: the server does not answer): closed for this row; "
        "its training goes on"
    )
    assert found(logged) == found(plain)
    for seed, record in enumerate(Workdir(logged).records()):
        folder = Workdir(logged).seed("concat", seed)
        events = list(sinks.read_lines(folder / "log.jsonl"))
        assert [e["event"] for e in events] == ["start", "epoch", "epoch", "selected", "finished"]
        epochs = events[1:3]
        for split in ("train", "valid"):
            assert [e[split] for e in epochs] == record["curves"][split]
        assert [e["step"] for e in epochs] == [7, 14]
        assert epochs[0]["lr"] > epochs[1]["lr"] > 0  # cosine
        assert events[3]["valid"] == record["metrics"]["valid"]
        assert events[3]["epoch"] == record["selected"]["epoch"]
        assert events[4]["test"].items() <= record["metrics"]["test"].items()
        drawn = event_files.curves(folder)
        assert drawn["valid/loss"] == [
            (e["step"], pytest.approx(e["valid"]["loss"], rel=1e-6)) for e in epochs
        ]
        assert drawn["test/accuracy"][0][0] == 14
    again = command("--rows=concat", "--log=tensorboard", workdir=plain)
    assert again[0] == 0  # how it is logged is no part of the ablation's identity


def test_what_cannot_be_logged_is_said_before_anything_is_written(refused, monkeypatch):
    refused("unknown log 'tensorbord'.*did you mean 'tensorboard'", "--log=tensorbord")
    monkeypatch.setitem(sinks.PACKAGES, "wandb", "not_installed")
    refused("--log=wandb needs the package .*pip install 'mmfuse.wandb.'", "--log=wandb")
