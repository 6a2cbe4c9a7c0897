"""The logs of a launch: events to every sink, none of which can hurt a run.

A line log is written by the training thread itself, whole lines at a time. Every other sink has a
thread of its own, so that a slow server delays neither the training nor another sink. What a sink
raises is told in one warning; it is then closed until the next row, and the run goes on.

After a resume the logs say what the checkpoint says: later epochs are taken back, and are logged
again when they are trained again. No jax here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import queue
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from mmfuse.record import plain
from mmfuse.sinks import SINKS, About, read_lines
from mmfuse.workdir import Workdir

SECONDS_TO_END = 30.0  # what the sinks together may take to send the rest, once all is trained
SECONDS_TO_STOP = 5.0  # and when the launch was interrupted
logger = logging.getLogger("mmfuse")


class Channel:
    """The sinks of one name, one for each run that trains now; what one raises closes them all."""

    def __init__(self, name: str):
        self.name, self.sinks, self.left = name, {}, False

    def start(self, runs: Sequence[tuple[About, list[dict]]]) -> None:
        """Starts a sink for every run and its history."""
        with self._guard():
            for about, history in runs:
                sink = self.sinks[about.seed] = SINKS[self.name]()
                sink.start(about, history)

    def log(self, event: dict) -> None:
        """Hands an event to the sink of its seed, if that is still open."""
        if event["seed"] in self.sinks:
            with self._guard():
                self.sinks[event["seed"]].log(event)

    def close(self) -> None:
        """Closes the sinks that are still open."""
        with self._guard():
            while self.sinks:
                self.sinks.popitem()[1].close()

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            if not self.left:
                logger.warning(
                    "the log '%s' failed (%s): closed for this row; its training goes on",
                    self.name, said,
                )  # fmt: skip
            while self.sinks:
                with contextlib.suppress(Exception):  # told already
                    self.sinks.popitem()[1].close()


class Courier:
    """A channel behind a thread: its calls return at once, and are done in order."""

    def __init__(self, channel: Channel):
        self.channel, self.calls = channel, queue.SimpleQueue()
        # A daemon, so that a server that never answers cannot keep the process alive.
        self.thread = threading.Thread(target=self._work, name=channel.name, daemon=True)
        self.thread.start()

    def start(self, runs: Sequence[tuple[About, list[dict]]]) -> None:
        self.calls.put((self.channel.start, runs))

    def log(self, event: dict) -> None:
        self.calls.put((self.channel.log, event))

    def close(self) -> None:
        self.calls.put((self.channel.close,))

    def _work(self) -> None:
        for call, *args in iter(self.calls.get, None):
            call(*args)

    def end(self, deadline: float) -> None:
        """Waits until all is sent, but not beyond ``deadline`` of the monotonic clock."""
        self.calls.put(None)
        self.thread.join(max(deadline - time.monotonic(), 0.0))
        if self.thread.is_alive():
            self.channel.left = True  # what befalls it from now on has been told
            logger.warning(
                "the log '%s' takes too long to send the rest and was left", self.channel.name
            )


class Logs:
    """The logs of one launch; a context manager.

    Args:
      workdir: where the runs lie.
      ablation: its name.
      names: keys of ``SINKS``, as :func:`mmfuse.sinks.chosen` returns them.
    """

    def __init__(self, workdir: Workdir, ablation: str, names: Sequence[str]):
        self.workdir, self.ablation, self.channels = workdir, ablation, []
        for name in names:
            channel = Channel(name)
            self.channels.append(channel if name == "jsonl" else Courier(channel))

    def __enter__(self) -> Logs:
        return self

    def __exit__(self, *error: object) -> None:
        seconds = SECONDS_TO_STOP if error[0] else SECONDS_TO_END
        deadline = time.monotonic() + seconds
        for channel in self.channels:
            if isinstance(channel, Courier):
                channel.end(deadline)

    def group(
        self, row: str, seeds: Sequence[int], config: dict, rates: Sequence[float], steps: int
    ) -> GroupLog:
        """Returns the log of a row and group of seeds.

        Args:
          row: its name.
          seeds: in the order of the replicas.
          config: the config that their records will have.
          rates: the learning rate of the last step of every epoch.
          steps: how many an epoch has.
        """
        abouts = [
            About(
                run=uuid.uuid4().hex[:16],
                ablation=self.ablation,
                row=row,
                seed=seed,
                config=plain(config),
                folder=self.workdir.seed(row, seed),
                workdir=self.workdir.path,
            )
            for seed in seeds
        ]
        return GroupLog(self.channels, abouts, rates, steps)


class GroupLog:
    """The log of one row and group of seeds; a context manager, made by :meth:`Logs.group`.

    It hears what ``train_group`` and ``finish`` report.
    """

    def __init__(self, channels: list, runs: list[About], rates: Sequence[float], steps: int):
        self.channels, self.runs, self.rates, self.steps = channels, runs, rates, steps

    def __enter__(self) -> GroupLog:
        return self

    def __exit__(self, *error: object) -> None:
        for channel in self.channels:
            channel.close()

    def started(self, run: Any) -> None:
        """Begins the logs where ``run``, a :class:`mmfuse.loop.Run`, begins or goes on."""
        fresh = run.epoch == run.dispatch == 0
        held = [[] if fresh else self._held(run, lane) for lane in range(len(self.runs))]
        self.runs = [
            dataclasses.replace(
                about, run=next((e["run"] for e in events if "run" in e), about.run)
            )
            for about, events in zip(self.runs, held, strict=True)
        ]
        for channel in self.channels:
            channel.start(list(zip(self.runs, held, strict=True)))
        for lane, about in enumerate(self.runs):
            facts = {"epochs": len(self.rates)} if fresh else {"epoch": run.epoch}
            self._log(self._event("start" if fresh else "resume", lane, run=about.run, **facts))

    def epoch(self, run: Any) -> None:
        """Logs the epoch that has just ended; a seed that had stopped before has no line."""
        for lane in range(len(self.runs)):
            if run.curves["valid"][-1][lane] is not None:
                self._log(self._epoch(run, lane, run.epoch - 1, seconds=run.seconds))

    def finished(self, record: dict) -> None:
        """Logs how a run has ended, from its record."""
        lane = [about.seed for about in self.runs].index(record["seed"])
        valid, test = (_brief(record["metrics"][split]) for split in ("valid", "test"))
        if record["status"] == "done":
            self._log(self._event("selected", lane, **record["selected"], valid=valid))
        end = {
            "status": record["status"],
            "diverged_at": record["diverged_at"],
            "step": len(record["curves"]["valid"]) * self.steps,
            "seconds": record["clock"]["train_seconds"],
        }
        self._log(self._event("finished", lane, **end, test=test))

    def _held(self, run: Any, lane: int) -> list[dict]:
        """The lines that still hold; epochs of the checkpoint that have none are added."""
        lines = read_lines(self.runs[lane].folder / "log.jsonl")
        held = [event for event in lines if _holds(event, run.epoch)]
        there = {e["epoch"] for e in held if e["event"] == "epoch"}
        trained = [e for e, lanes in enumerate(run.curves["valid"]) if lanes[lane] is not None]
        return held + [self._epoch(run, lane, e) for e in trained if e not in there]

    def _epoch(self, run: Any, lane: int, epoch: int, **more: float) -> dict:
        metrics = {split: curve[epoch][lane] for split, curve in run.curves.items()}
        step, rate = (epoch + 1) * self.steps, self.rates[epoch]
        return self._event("epoch", lane, epoch=epoch, step=step, lr=rate, **more, **metrics)

    def _event(self, kind: str, lane: int, **fields: Any) -> dict:
        about = self.runs[lane]
        head = {"event": kind, "time": time.time(), "row": about.row, "seed": about.seed}
        return plain(head | fields)

    def _log(self, event: dict) -> None:
        for channel in self.channels:
            channel.log(event)


def _holds(event: dict, epoch: int) -> bool:
    """Whether a line is still true of a run that goes on in this epoch."""
    if event["event"] == "epoch":
        return isinstance(event.get("epoch"), int) and event["epoch"] < epoch
    return event["event"] in ("start", "resume")


def _brief(metrics: dict) -> dict:
    return {name: value for name, value in metrics.items() if name != "confusion"}
