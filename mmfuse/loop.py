"""The training loop of one row: a group of seeds, from the first step or from a checkpoint.

The loop runs on the host and only dispatches: chunks of steps, evaluations, checkpoints. What a run
computes depends on (row, seeds, step) alone, so stopping and resuming anywhere gives the same bits.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from mmfuse.build import Built
from mmfuse.checkpoint import Checkpoints
from mmfuse.data.loader import Dataset, epoch_order, host_part
from mmfuse.dispatches import chunk_orders
from mmfuse.parallel import Devices
from mmfuse.processes import part, told, whole
from mmfuse.programs import Executables, compile_row, steps_at_once
from mmfuse.settings import LAST
from mmfuse.tasks import METRICS, Task


class Interrupted(Exception):  # noqa: N818 - not an error: the state is saved
    """Training was asked to stop; a checkpoint was written first."""


@dataclasses.dataclass
class Selection:
    """The best epoch of every replica on validation, kept on the host.

    A replica stops after ``patience`` epochs without a strictly better score (0 = never); from then
    on its choice is frozen, whatever its neighbours still do.
    """

    params: Any  # numpy, leaves [R, ...]
    score: list[float | None]
    epoch: list[int]
    step: list[int]
    stopped: list[bool]

    @classmethod
    def start(cls, params: Any, replicas: int) -> Selection:
        """Nothing chosen yet: the initial parameters."""
        host = jax.tree.map(np.array, jax.device_get(params))
        return cls(host, [None] * replicas, [-1] * replicas, [0] * replicas, [False] * replicas)

    def update(self, scores: list[float], epoch: int, step: int, params: Any, patience: int):
        """Takes over the parameters of every running replica whose score improved.

        Scores are such that higher is better; ``None`` (diverged) stops the replica.
        """
        better = []
        for lane, score in enumerate(scores):
            if self.stopped[lane]:
                continue
            if score is None:
                self.stopped[lane] = True
            elif self.score[lane] is None or score > self.score[lane]:
                self.score[lane], self.epoch[lane], self.step[lane] = score, epoch, step
                better.append(lane)
            elif patience and epoch - self.epoch[lane] >= patience:
                self.stopped[lane] = True
        if better:
            jax.tree.map(lambda kept, new: _copy(kept, new, better), self.params, params)

    def as_json(self) -> dict:
        """Everything but the parameters, for the checkpoint's progress file."""
        names = ("score", "epoch", "step", "stopped")
        return {name: getattr(self, name) for name in names}


def _copy(kept: np.ndarray, new: jax.Array, lanes: list[int]) -> None:
    kept[lanes] = np.asarray(new)[lanes]


@dataclasses.dataclass
class Run:
    """Where a group of seeds stands: everything a checkpoint holds."""

    state: Any
    selection: Selection
    epoch: int
    dispatch: int  # dispatches done in this epoch
    curves: dict[str, list[list[dict | None]]]  # split: epoch: replica: metrics
    seconds: float

    def tree(self) -> dict:
        """The arrays, for Orbax."""
        return {"state": self.state, "best": self.selection.params}

    def progress(self) -> dict:
        """The rest, as JSON."""
        return {
            "selection": self.selection.as_json(),
            "epoch": self.epoch,
            "dispatch": self.dispatch,
            "curves": self.curves,
            "seconds": self.seconds,
        }


def _start(state: Any, seeds: tuple[int, ...], checkpoints: Checkpoints | None) -> Run:
    """A fresh run, or the newest good checkpoint of it."""
    selection = Selection.start(state.params, len(seeds))
    run = Run(state, selection, 0, 0, {"train": [], "valid": []}, 0.0)
    found = told(lambda: checkpoints.restore_latest(jax.device_get(run.tree())))
    if found is None:
        return run
    _, tree, progress = found
    best = jax.tree.map(np.array, tree["best"])
    selection = Selection(best, **progress.pop("selection"))
    return Run(tree["state"], selection, **progress)


def evaluate(
    executables: Executables,
    task: Task,
    params,
    batches,
    keep: Callable[[Any, Any], None] | None = None,
) -> list[dict]:
    """All metrics of each replica over the batches.

    ``keep`` hears every batch and what is kept of its outputs [R, B, ...], padding included.
    """
    sums = None
    for batch in batches:
        new, outputs = executables.evaluate(params, batch)
        if keep is not None:
            keep(batch, jax.device_get(outputs))
        new = jax.device_get(new)
        sums = new if sums is None else jax.tree.map(np.add, sums, new)
    lanes = len(sums["loss"])
    return [task.finalise(jax.tree.map(lambda s, i=i: s[i], sums)) for i in range(lanes)]


def predict(executables: Executables, task: Task, params, batches) -> tuple[list[dict], dict]:
    """The metrics of each replica, and ``{"output" [R, N, ...], "label" [N, ...]}``, no padding.

    Both hold what the task keeps, trees where it says so.
    """
    output, label = [], []

    def keep(batch, outputs):
        weight, labels = whole((batch["weight"], task.kept_label(batch["label"])))
        real = weight > 0
        output.append(jax.tree.map(lambda x: x[:, real], outputs))
        label.append(jax.tree.map(lambda x: x[real], labels))

    scores = evaluate(executables, task, params, batches, keep)
    joined = jax.tree.map(lambda *parts: np.concatenate(parts, 1), *output)
    return scores, {"output": joined, "label": jax.tree.map(lambda *p: np.concatenate(p), *label)}


def dispatches(
    run: Run, built: Built, dataset: Dataset, seeds: tuple[int, ...], resident: Any
) -> Iterator[tuple]:
    """The arguments (data, order, live) of every dispatch that this epoch still needs.

    With several processes, this one's share of each batch: no other examples are read.
    """
    size = (dataset.sizes["train"], built.settings.batch)
    orders = chunk_orders(
        lambda seed, epoch: epoch_order(seed, epoch, *size),
        seeds,
        run.epoch,
        steps_at_once(built, dataset, len(seeds)),
    )[run.dispatch :]
    orders = [(host_part(order, *part()), live) for order, live in orders]
    if resident is not None:
        yield from ((resident, order, live) for order, live in orders)
        return
    streamed = dataset.stream([order for order, _ in orders])
    yield from ((data, *rest) for data, rest in zip(streamed, orders, strict=True))


def trained(executables: Executables, state: Any, ahead: Iterator[tuple]) -> Iterator[Any]:
    """The state after each of the dispatches (data, order, live) of an iterator.

    While the devices work on one, the host reads and places the arguments of the next.
    """
    train = executables.train
    placed = _next(executables, ahead)
    while placed is not None:
        state = train.run((*train.place(state), *placed))
        placed = _next(executables, ahead)
        yield jax.block_until_ready(state)


def _next(executables: Executables, ahead: Iterator[tuple]) -> tuple | None:
    args = next(ahead, None)
    return None if args is None else executables.train.place(*args, first=1)


def train_group(
    built: Built,
    dataset: Dataset,
    devices: Devices,
    seeds: tuple[int, ...],
    checkpoints: Checkpoints | None,
    *,
    stop: Callable[[], bool] = lambda: False,
    report: Callable[[str, Any], None] = lambda event, value: None,
) -> tuple[Run, Executables, dict]:
    """Trains a group to the end; returns the run, its programs, its compile and set-up seconds.

    ``stop`` is asked after every dispatch; when it says True, a checkpoint is written and
    Interrupted raised. Of several processes the first has ``checkpoints``, the others None.
    ``report`` hears ("compiled", seconds), ("started", the run as it begins or goes on) and after
    each epoch ("epoch", the run); it only looks at the run.
    """
    begun = time.perf_counter()
    settings, task = built.settings, dataset.task
    executables, state = compile_row(built, dataset, devices, seeds)
    run = _start(state, seeds, checkpoints)
    resident = dataset.train_arrays()
    resident = devices.replicate(resident) if resident is not None else None
    valid = list(dataset.eval_batches("valid", settings.eval_batch)) if dataset.resident else None
    clock = {"compile_seconds": executables.seconds, "setup_seconds": time.perf_counter() - begun}
    report("compiled", clock["compile_seconds"])
    report("started", run)
    saved = time.perf_counter()
    while run.epoch < settings.epochs and not all(run.selection.stopped):
        start = time.perf_counter()
        ahead = dispatches(run, built, dataset, seeds, resident)
        for state in trained(executables, run.state, ahead):
            run.state, run.dispatch = state, run.dispatch + 1
            run.seconds += time.perf_counter() - start
            stopping = stop()  # asked once: a signal between two questions would not be saved
            due = stopping or time.perf_counter() - saved >= settings.checkpoint_seconds
            if due and checkpoints is not None:
                checkpoints.save(_steps(run), run.tree(), run.progress())
                saved = time.perf_counter()
            if stopping:
                raise Interrupted
            start = time.perf_counter()
        start = time.perf_counter()
        batches = valid or dataset.eval_batches("valid", settings.eval_batch)
        params = executables.measured(run.state.params)
        _end_epoch(run, built, params, evaluate(executables, task, params, batches), task)
        run.seconds += time.perf_counter() - start
        report("epoch", run)
    return run, executables, clock


def _steps(run: Run) -> int:
    """The number of the checkpoint: grows with every dispatch, whatever the replicas do."""
    return int(np.max(jax.device_get(run.state.step)))


def _score(value: float | None, sign: int) -> float:
    """Higher is better; below everything where the metric is undefined (constant predictions)."""
    return -math.inf if value is None or math.isnan(value) else sign * value


def selected_by(select: str) -> str:
    """What a record says of how its epoch was chosen."""
    return "rule: the last one" if select == LAST else f"valid {select}"


def _end_epoch(run: Run, built: Built, params: Any, valid: list[dict], task: Task) -> None:
    """Closes an epoch: curves, selection and early stopping; empties the running sums.

    ``valid`` are the scores of ``params``, which are kept where they are the best so far.
    """
    sums, diverged = jax.device_get((run.state.sums, run.state.diverged_at))
    step, settings = _steps(run), built.settings
    train = [task.finalise(jax.tree.map(lambda s, i=i: s[i], sums)) for i in range(len(valid))]
    for name, values in (("train", train), ("valid", valid)):
        brief = [{k: v for k, v in m.items() if not isinstance(v, list)} for m in values]
        over = run.selection.stopped
        run.curves[name].append([None if over[i] else brief[i] for i in range(len(valid))])
    select = settings.select
    values = [run.epoch if select == LAST else m[select] for m in valid]
    sign = 1 if select == LAST or METRICS[select] else -1
    scores = [None if diverged[i] >= 0 else _score(v, sign) for i, v in enumerate(values)]
    run.selection.update(scores, run.epoch, step, params, settings.patience)
    zeros = jax.tree.map(np.zeros_like, sums)
    run.state = run.state.replace(sums=zeros)
    run.epoch, run.dispatch = run.epoch + 1, 0
