"""The events of a group of seeds, what a resume takes back, and sinks that fail or hang."""

import json
import threading
import time
import types

import pytest

from mmfuse import logs, sinks
from mmfuse.workdir import Workdir

RATES = [0.4, 0.2, 0.1]


def stand(epoch, dispatch=0, stopped=(False, False)):
    """A run of two seeds at an epoch; the last epoch has no metrics of a seed that had stopped."""
    curves = {
        split: [
            [
                None if stopped[lane] and n == epoch - 1 else {"accuracy": n + lane / 10}
                for lane in (0, 1)
            ]
            for n in range(epoch)
        ]
        for split in ("train", "valid")
    }  # fmt: skip
    return types.SimpleNamespace(epoch=epoch, dispatch=dispatch, curves=curves, seconds=epoch / 2)


def record(seed, status="done"):
    good = status == "done"
    return {
        "row": "a", "seed": seed, "status": status, "diverged_at": None if good else 7,
        "selected": {"epoch": 1, "step": 10, "by": "valid accuracy"},
        "metrics": {
            "valid": {"accuracy": 1.0} if good else {},
            "test": {"accuracy": 0.5, "confusion": [[1]]} if good else {},
        },
        "curves": {"valid": [{}] * 3, "train": [{}] * 3},
        "clock": {"train_seconds": 2.5},
    }  # fmt: skip


def group(those):
    return those.group("a", (4, 5), {"lr": 1}, RATES, 5)


@pytest.fixture
def launch(tmp_path):
    """Runs the epochs ``first`` to ``last`` of a group of seeds 4 and 5, as a loop would."""

    def run(first, last, names=("jsonl",), dispatch=0, end=False):
        with logs.Logs(Workdir(tmp_path), "tiny", names) as those, group(those) as log:
            log.started(stand(first, dispatch))
            for epoch in range(first + 1, last + 1):
                log.epoch(stand(epoch))
            if end:
                log.finished(record(4))
                log.finished(record(5, "diverged"))

    return run


def lines(folder, seed=4):
    path = Workdir(folder).seed("a", seed) / "log.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def brief(folder, seed=4):
    return [(e["event"], e["epoch"]) if "epoch" in e else e["event"] for e in lines(folder, seed)]


def test_a_whole_run(launch, tmp_path):
    before = time.time()
    launch(0, 3, end=True)
    start, *epochs, selected, finished = lines(tmp_path, 4)
    assert (start["event"], start["epochs"], len(start["run"])) == ("start", 3, 16)
    assert [e["step"] for e in epochs] == [5, 10, 15]
    assert [e["lr"] for e in epochs] == RATES
    assert [e["valid"]["accuracy"] for e in epochs] == [0.0, 1.0, 2.0]
    assert [e["seconds"] for e in epochs] == [0.5, 1.0, 1.5]
    assert all(before <= e["time"] <= time.time() for e in epochs)
    assert {(e["row"], e["seed"]) for e in lines(tmp_path, 4)} == {("a", 4)}
    assert (selected["epoch"], selected["by"]) == (1, "valid accuracy")
    assert finished["test"] == {"accuracy": 0.5}
    assert (finished["step"], finished["seconds"]) == (15, 2.5)
    other = lines(tmp_path, 5)
    assert [e["event"] for e in other] == ["start", "epoch", "epoch", "epoch", "finished"]
    assert (other[-1]["status"], other[-1]["diverged_at"]) == ("diverged", 7)
    assert other[2]["valid"]["accuracy"] == 1.1
    assert other[0]["run"] != start["run"]


def test_a_seed_that_has_stopped_has_no_more_lines(tmp_path):
    with logs.Logs(Workdir(tmp_path), "tiny", ("jsonl",)) as those, group(those) as log:
        log.started(stand(0))
        log.epoch(stand(1))
        log.epoch(stand(2, stopped=(True, False)))
    assert brief(tmp_path, 4) == ["start", ("epoch", 0)]
    assert brief(tmp_path, 5) == ["start", ("epoch", 0), ("epoch", 1)]


def test_a_resume_takes_back_what_is_trained_again(launch, tmp_path):
    launch(0, 3, end=True)
    first = lines(tmp_path)
    launch(1, 3, dispatch=2, end=True)
    expected = ["start", ("epoch", 0), ("resume", 1), ("epoch", 1), ("epoch", 2)]
    assert brief(tmp_path) == [*expected, ("selected", 1), "finished"]
    assert lines(tmp_path)[:2] == first[:2]
    assert lines(tmp_path)[2]["run"] == first[0]["run"]


def test_a_run_without_a_checkpoint_starts_its_log_again(launch, tmp_path):
    launch(0, 2)
    launch(0, 3)
    assert brief(tmp_path) == ["start", *(("epoch", n) for n in range(3))]


def test_a_resume_within_the_first_epoch_is_none_from_the_start(launch, tmp_path):
    launch(0, 1)
    launch(0, 1, dispatch=1)
    assert brief(tmp_path) == ["start", ("resume", 0), ("epoch", 0)]


def test_a_torn_line_is_dropped_and_its_epoch_told_by_the_checkpoint(launch, tmp_path):
    launch(0, 2)
    path = Workdir(tmp_path).seed("a", 4) / "log.jsonl"
    whole = lines(tmp_path)
    path.write_bytes(path.read_bytes()[:-20])
    launch(2, 3)
    assert brief(tmp_path) == [
        "start", ("epoch", 0), ("epoch", 1), ("resume", 2), ("epoch", 2)
    ]  # fmt: skip
    told = lines(tmp_path)[2]
    assert told.keys() == whole[2].keys() - {"seconds"}
    assert [told[k] for k in ("step", "lr", "train", "valid")] == [
        whole[2][k] for k in ("step", "lr", "train", "valid")
    ]
    path.unlink()
    launch(3, 3)
    assert brief(tmp_path) == [*(("epoch", n) for n in range(3)), ("resume", 3)]


class Breaks:
    """Raises in its n-th call, counted over the sinks of all seeds."""

    made, at = [], 0

    def start(self, about, history):
        self.made.append(self)
        self.seen, self.closed = [("start", about.seed, len(history))], 0
        self._count()

    def log(self, event):
        self.seen.append((event["event"], event["seed"]))
        self._count()

    def close(self):
        self.closed += 1
        if self.at < 0:
            raise RuntimeError("even now")

    def _count(self):
        if self.at and sum(len(sink.seen) for sink in self.made) >= abs(self.at):
            raise ConnectionError("no\nserver " + "x" * 300)


@pytest.fixture
def breaks(monkeypatch):
    def make(at):
        kind = type("Broken", (Breaks,), {"made": [], "at": at})
        monkeypatch.setitem(sinks.SINKS, "breaks", kind)
        return kind.made

    return make


@pytest.mark.parametrize("at", [1, 2, 3, 5, -3])
def test_a_sink_that_raises_is_told_once_and_closed(launch, tmp_path, breaks, caplog, at):
    made = breaks(at)
    launch(0, 3, ("jsonl", "breaks"), end=True)
    (told,) = caplog.records
    assert told.getMessage().startswith("the log 'breaks' failed (ConnectionError: no server xxx")
    assert len(told.getMessage()) < 300
    assert "\n" not in told.getMessage()
    assert [sink.closed for sink in made] == [1] * len(made)
    assert sum(len(sink.seen) for sink in made) == abs(at)
    assert len(brief(tmp_path)) == 6


def test_a_sink_that_raises_when_it_is_closed(launch, tmp_path, monkeypatch, caplog):
    class Closes(Breaks):
        def close(self):
            raise OSError("gone")

    monkeypatch.setitem(sinks.SINKS, "closes", Closes)
    launch(0, 3, ("jsonl", "closes"))
    assert [r.getMessage() for r in caplog.records] == [
        "the log 'closes' failed (OSError: gone): closed for this row; its training goes on"
    ]


def test_lines_that_cannot_be_written_are_told_too(launch, tmp_path, caplog):
    Workdir(tmp_path).row("a").mkdir(parents=True)
    Workdir(tmp_path).seed("a", 4).write_text("a file in the way")
    launch(0, 3, end=True)
    (told,) = caplog.records
    assert "the log 'jsonl' failed (" in told.getMessage()


def test_the_next_row_tries_it_again(tmp_path, breaks, caplog):
    made = breaks(3)
    with logs.Logs(Workdir(tmp_path), "tiny", ("breaks",)) as those:
        for row in ("a", "b"):
            with those.group(row, (4,), {}, RATES, 5) as log:
                log.started(stand(0))
                log.epoch(stand(1))
                log.epoch(stand(2))
    assert [len(sink.seen) for sink in made] == [3, 1]
    assert len(caplog.records) == 2


def test_a_sink_that_hangs_delays_nothing(launch, tmp_path, monkeypatch, caplog):
    release = threading.Event()

    class Hangs(Breaks):
        def log(self, event):
            release.wait(30)
            raise ConnectionError("too late")

    monkeypatch.setitem(sinks.SINKS, "hangs", Hangs)
    monkeypatch.setattr(logs, "SECONDS_TO_END", 0.2)
    begun = time.monotonic()
    launch(0, 3, ("jsonl", "hangs"), end=True)
    assert time.monotonic() - begun < 10
    assert len(brief(tmp_path)) == 6
    release.set()
    for thread in threading.enumerate():
        if thread.name == "hangs":
            thread.join(10)
    assert [r.getMessage() for r in caplog.records] == [
        "the log 'hangs' takes too long to send the rest and was left"
    ]


def test_a_sink_hears_everything_in_order(launch, breaks):
    made = breaks(0)
    launch(1, 2, ("jsonl", "breaks"), end=True)
    assert made[0].seen == [("start", 4, 1), ("resume", 4), ("epoch", 4), ("selected", 4),
                            ("finished", 4)]  # fmt: skip
    assert made[1].seen == [("start", 5, 1), ("resume", 5), ("epoch", 5), ("finished", 5)]
    assert [sink.closed for sink in made] == [1, 1]
