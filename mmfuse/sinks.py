"""Where the events of a run go: a file of lines, TensorBoard, W&B, MLflow.

An event is a flat dict of JSON's own types: ``event`` (its kind), ``time`` (unix seconds), ``row``,
``seed`` and, by kind::

    start      run, epochs                    the run begins; ``run`` is a name drawn by lot for it
    resume     run, epoch                     it goes on from a checkpoint in this epoch
    epoch      epoch, step, lr, seconds, train, valid
    selected   epoch, step, by, valid         which epoch was chosen, by which metric or rule
    finished   status, diverged_at, step, seconds, test

``epoch`` counts from 0, as in the record; ``step`` is the number of steps done at its end and
``lr`` the learning rate of the last of them; ``seconds`` are those spent on training so far.
``train``, ``valid`` and ``test`` are ``{metric: value}``.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from mmfuse.errors import InputError, listed, nearest
from mmfuse.record import flatten, write_atomic

SPLITS = ("train", "valid", "test")
FLUSH_SECONDS = 2.0  # how far an event file may lag behind; each flush waits for the disk


@dataclasses.dataclass(frozen=True)
class About:
    """The run that a sink is told of: one row and seed.

    ``run`` is its name, drawn by lot when it first started and kept when it is resumed; ``folder``
    is its own folder and ``workdir`` that of the ablation; ``config`` is the one of the record.
    """

    run: str
    ablation: str
    row: str
    seed: int
    config: dict[str, Any]
    folder: Path
    workdir: Path


class Sink(Protocol):
    """Takes the events of one run. It may raise at any time: then it is closed and not used again.

    A sink is made without arguments, and imports what it needs when it starts.
    """

    def start(self, about: About, history: list[dict]) -> None:
        """Begins a run, or goes on with it after ``history``: the events that still hold."""

    def log(self, event: dict) -> None:
        """Takes the next event."""

    def close(self) -> None:
        """Ends this launch's part of the run, finished or not."""


def scalars(event: dict) -> dict[str, float]:
    """Returns the numbers of an epoch or of the end: ``{"valid/accuracy": 0.5, "lr": 0.1}``."""
    if event["event"] not in ("epoch", "finished"):
        return {}
    found = {f"{s}/{k}": v for s in SPLITS for k, v in (event.get(s) or {}).items()}
    found |= {name: event.get(name) for name in ("lr", "seconds")}
    return {name: v for name, v in found.items() if isinstance(v, int | float)}


class Jsonl:
    """One line of JSON for each event, in ``runs/ROW/seed_N/log.jsonl``; always written."""

    file = None

    def start(self, about: About, history: list[dict]) -> None:
        """Leaves the lines of ``history`` in the file, and no others."""
        path = about.folder / "log.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f".{path.name}.*.tmp"):  # by a kill in the next line
            left.unlink()
        if history:
            write_atomic(path, b"".join(map(_line, history)))
        else:  # nothing that a kill could lose: no need to wait for the disk
            path.unlink(missing_ok=True)
        self.file = open(path, "ab", buffering=0)  # noqa: SIM115 - see close

    def log(self, event: dict) -> None:
        """Hands the line to the system in one call, so that a kill cannot cut it."""
        line = _line(event)
        if self.file.write(line) != len(line):
            raise OSError(f"'{self.file.name}' was cut short: is the disk full?")

    def close(self) -> None:
        if self.file:
            self.file.close()


def _line(event: dict) -> bytes:
    return (json.dumps(event, allow_nan=False) + "\n").encode()


def read_lines(path: Path) -> Iterator[dict]:
    """Yields the events of a log; a line that was torn, by a power cut or a full disk, is left out.

    A missing or unreadable file has no lines.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and "event" in event:
            yield event


class TensorBoard:
    """Event files for TensorBoard, beside the run's record; no TensorFlow is needed.

    A resumed run starts its file again from the history, so each epoch is in it once.
    """

    writer = None

    def start(self, about: About, history: list[dict]) -> None:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2, summary_pb2
        from tensorboardX.summary import text

        self.event, self.summary = event_pb2.Event, summary_pb2.Summary
        about.folder.mkdir(parents=True, exist_ok=True)
        for old in about.folder.glob("events.out.tfevents.*"):
            old.unlink()
        self.writer, self.flushed = EventsWriter(str(about.folder.absolute() / "events")), 0.0
        # A TensorBoard that is open forgets what it has read of this run.
        began = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._write(time.time(), 0, session_log=began)
        config = "\n".join(f"    {key} = {value}" for key, value in flatten(about.config).items())
        self._write(time.time(), 0, summary=text("config", config))
        for event in history:
            self.log(event)

    def log(self, event: dict) -> None:
        values = [self.summary.Value(tag=t, simple_value=v) for t, v in scalars(event).items()]
        if not values:
            return
        self._write(event["time"], event["step"], summary=self.summary(value=values))
        if time.monotonic() - self.flushed >= FLUSH_SECONDS:
            self.writer.flush()
            self.flushed = time.monotonic()

    def _write(self, when: float, step: int, **content: Any) -> None:
        self.writer.write_event(self.event(wall_time=when, step=step, **content))

    def close(self) -> None:
        if self.writer:
            self.writer.close()


class WandB:
    """Weights & Biases: one run for each row and seed; project ``WANDB_PROJECT`` or "mmfuse"."""

    run, code = None, 1

    def start(self, about: About, history: list[dict]) -> None:
        import wandb

        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "mmfuse"),
            id=about.run,
            resume="allow",
            reinit="create_new",
            name=f"{about.row}, seed {about.seed}",
            group=f"{about.ablation}: {about.row}",
            config=about.config,
            dir=str(about.workdir),
            # When the process ends it waits for W&B, so for no longer than this.
            settings=wandb.Settings(console="off", silent=True, init_timeout=20),
        )
        for event in history:
            self.log(event)

    def log(self, event: dict) -> None:
        """Sends an epoch; of one that W&B has from before a resume, it takes nothing."""
        if event["event"] == "epoch":
            self.run.log(scalars(event), step=event["epoch"])
        elif event["event"] == "finished":
            self.run.summary.update(scalars(event) | {"status": event["status"]})
            self.code = int(event["status"] != "done")

    def close(self) -> None:
        if self.run:
            self.run.finish(exit_code=self.code)


class MLflow:
    """MLflow: one run for each row and seed, in the experiment of the ablation's name.

    The server is the one of ``MLFLOW_TRACKING_URI``, or MLflow's own default.
    """

    run, status = None, "KILLED"

    def start(self, about: About, history: list[dict]) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        self.client, self.metric = MlflowClient(), Metric
        known = self.client.get_experiment_by_name(about.ablation)
        place = known.experiment_id if known else self.client.create_experiment(about.ablation)
        found = self.client.search_runs([place], f"tags.mmfuse_run = '{about.run}'")
        if found:
            self.run, self.epoch = found[0].info.run_id, found[0].data.metrics.get("epoch", -1)
            self.client.update_run(self.run, status="RUNNING")
        else:
            tags = {"mmfuse_run": about.run, "row": about.row, "seed": str(about.seed)}
            name = f"{about.row}, seed {about.seed}"
            self.run = self.client.create_run(place, tags=tags, run_name=name).info.run_id
            self.epoch = -1
            config = [Param(_key(k), str(v)[:500]) for k, v in flatten(about.config).items()]
            for first in range(0, len(config), 100):  # as many as a server takes at once
                self.client.log_batch(self.run, params=config[first : first + 100])
        for event in history:
            self.log(event)

    def log(self, event: dict) -> None:
        """Sends an epoch, unless the server has it from before a resume; or the end."""
        values = scalars(event)
        if event["event"] == "epoch":
            if event["epoch"] <= self.epoch:
                return
            values["epoch"] = self.epoch = event["epoch"]
        elif event["event"] == "finished":
            self.status = "FINISHED" if event["status"] == "done" else "FAILED"
        if values:
            when, step = int(1000 * event["time"]), event["step"]
            metrics = [self.metric(_key(k), v, when, step) for k, v in values.items()]
            self.client.log_batch(self.run, metrics=metrics)

    def close(self) -> None:
        if self.run:
            self.client.set_terminated(self.run, status=self.status)


def _key(name: str) -> str:
    """A name that every MLflow server takes."""
    return re.sub(r"[^\w\-. /]", "_", name)[:250]


SINKS: dict[str, type[Sink]] = {
    "jsonl": Jsonl,
    "tensorboard": TensorBoard,
    "wandb": WandB,
    "mlflow": MLflow,
}
PACKAGES = {"tensorboard": "tensorboardX", "wandb": "wandb", "mlflow": "mlflow"}


def chosen(text: str) -> tuple[str, ...]:
    """Returns the names in ``--log=a,b``, "jsonl" before them, each once.

    Raises:
      InputError: a name is unknown, or its package is not installed.
    """
    names = [name.strip() for name in text.split(",")] if text else []
    for name in names:
        if name not in SINKS:
            raise InputError(f"unknown log '{name}' in --log{nearest(name, SINKS)}{listed(SINKS)}")
        package = PACKAGES.get(name)
        if package and not _installed(package):
            raise InputError(
                f"--log={name} needs the package {package}, which is not installed: "
                f"pip install 'mmfuse[{name}]'"
            )
    return tuple(dict.fromkeys(["jsonl", *names]))


def _installed(package: str) -> bool:
    """A folder of that name, such as W&B leaves behind where it ran, is not the package."""
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin is not None
