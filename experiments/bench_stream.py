"""Shows that a training set larger than memory streams: flat memory, and a device that is busy.

    python -m experiments.bench_stream --config=configs/avmnist.py:full --rows=concat
        [--gigabytes=20] [--seconds=60] [--config.seeds=0,] [--into=docs/streaming.md]

Trains the first row that --rows matches on as many random examples as are GIGABYTES when decoded;
each is made from its index when it is read (experiments/synthetic.py), so nothing lies on disk.
After SECONDS of training it tells how the resident memory of this process grew, with a confidence
interval and without the first quarter (allocators fill their pools then), and the share of the time
that the device waited: from the end of one dispatch to the start of the next. --into writes it as a
page. Dispatches should be short (--config.train.steps_per_dispatch), as memory is read after each.
"""

from __future__ import annotations

import dataclasses
import math
import os
import platform
import resource
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import jax
import numpy as np
import scipy.stats

from experiments import cli
from experiments.rows import matching
from experiments.synthetic import RandomBuilder
from mmfuse.build import build
from mmfuse.cells import flops as quantity
from mmfuse.data.datasets import make_builder
from mmfuse.data.loader import READERS, Dataset
from mmfuse.errors import InputError
from mmfuse.loop import Run, Selection, dispatches, trained
from mmfuse.parallel import Compiled, Devices
from mmfuse.programs import compile_row
from mmfuse.record import git_state, versions, write_atomic

BLOCKS = 12  # the parts of a series that a trend is drawn through


def _parser() -> cli.Parser:
    parser = cli.Parser(prog="experiments.bench_stream", description=__doc__)
    parser.add_argument("--config", required=True)
    parser.add_argument("--rows", default="")
    parser.add_argument("--gigabytes", type=float, default=20.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--into", help="the page to write")
    parser.add_argument("--raw_data")
    parser.add_argument("--data_dir")
    return parser


def resident_bytes() -> int:
    """The resident memory of this process now; its peak where the system does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return peak_bytes()


def peak_bytes() -> int:
    """The most resident memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@dataclasses.dataclass
class Watched:
    """A compiled training program that notes when each call starts, and when the device is done."""

    train: Compiled
    begun: list[float] = dataclasses.field(default_factory=list)
    done: list[float] = dataclasses.field(default_factory=list)
    watcher: ThreadPoolExecutor = dataclasses.field(default_factory=lambda: ThreadPoolExecutor(1))

    def place(self, *args, first: int = 0) -> tuple:
        """As of the program itself."""
        return self.train.place(*args, first=first)

    def run(self, placed: tuple):
        """Starts a dispatch; a thread waits for its end."""
        self.begun.append(time.perf_counter())
        out = self.train.run(placed)
        self.watcher.submit(self._await, out)
        return out

    def _await(self, out) -> None:
        jax.block_until_ready(out)
        self.done.append(time.perf_counter())

    def spans(self) -> list[tuple[float, float]]:
        """(start, end) of every dispatch; none can be started after that."""
        self.watcher.shutdown()
        return list(zip(self.begun, self.done, strict=True))


def waiting(spans: list[tuple[float, float]]) -> float:
    """The share of the time from the first start to the last end in which nothing ran."""
    idle = sum(max(0.0, start - end) for (_, end), (start, _) in pairwise(spans))
    return idle / (spans[-1][1] - spans[0][0])


@dataclasses.dataclass(frozen=True)
class Trend:
    """Bytes per second, and the 95 % confidence interval."""

    rate: float
    low: float
    high: float


def trend(seconds: Sequence[float], sizes: Sequence[float]) -> Trend | None:
    """How fast the memory grows; None where there are too few readings to tell.

    Least squares through the means of ``BLOCKS`` consecutive parts, with Student's t for the
    interval: single readings resemble their neighbours, and would pretend to more than they know.
    """
    if len(sizes) < 2 * BLOCKS:
        return None
    parts = np.array_split(np.arange(len(sizes)), BLOCKS)
    x, y = (np.array([np.mean(np.asarray(v)[part]) for part in parts]) for v in (seconds, sizes))
    x, y = x - x.mean(), y - y.mean()
    rate = x @ y / (x @ x)
    error = np.sqrt(np.sum((y - rate * x) ** 2) / (BLOCKS - 2) / (x @ x))
    half = scipy.stats.t.ppf(0.975, BLOCKS - 2) * error
    return Trend(rate, rate - half, rate + half)


def main(argv: list[str]) -> int:
    """Trains for a while, then tells how memory grew and how long the device waited."""
    args, overrides = cli.parse(_parser(), argv)
    for name in ("gigabytes", "seconds"):
        if not 0 < getattr(args, name) < float("inf"):
            raise InputError(f"--{name} must be > 0, got {getattr(args, name)}")
    _, ablation = cli.load(args.config, overrides)
    rows = matching(ablation, args.rows)
    git = git_state()  # of the code that is measured, whatever becomes of it meanwhile
    devices = Devices(ablation.parallel["mode"], ablation.parallel["devices"])
    data, seeds = ablation.data, ablation.groups()[0]
    builder = make_builder(
        data["name"], data["builder"], data_dir=args.data_dir, raw_data=args.raw_data
    )
    one = Dataset(RandomBuilder(builder, 256), data["preprocess"], resident_bytes=0).example_bytes
    n = round(args.gigabytes * 1e9 / one)
    dataset = Dataset(RandomBuilder(builder, n), data["preprocess"], resident_bytes=0)
    built = build(rows[0], dataset, devices, ablation)
    executables, state = compile_row(built, dataset, devices, seeds)
    steps, replicas, size = executables.order_shape
    said = [
        f"Row {rows[0].name}, {replicas} seeds, batch {size}, {steps} steps a dispatch, "
        f"{devices.count} x {devices.kind}, {READERS} readers.",
        f"The set: {n:,} examples of {data['name']}, {quantity(one)}B each when decoded, together "
        f"{quantity(n * one)}B, made when they are read.",
    ]
    print(*said, sep="\n", flush=True)
    watched = Watched(executables.train)
    run = Run(state, Selection.start(state.params, len(seeds)), 0, 0, {}, 0.0)
    seconds, sizes, used = [], [], time.process_time()
    ahead = dispatches(run, built, dataset, seeds, None)
    for _ in trained(dataclasses.replace(executables, train=watched), state, ahead):
        seconds.append(time.perf_counter())
        sizes.append(resident_bytes())
        if seconds[-1] - watched.begun[0] >= args.seconds:
            break
    used = time.process_time() - used
    found = list(_found(seconds, sizes, watched.spans(), executables.order_shape, one, n))
    found.append(_surroundings(used / (seconds[-1] - watched.begun[0])))
    print(*found, sep="\n")
    if args.into:
        write_atomic(args.into, _page(argv, git, said + found))
    return 0


def _found(seconds, sizes, spans, shape, one, n) -> Iterator[str]:
    """Sentences on what was measured."""
    steps, _, _ = shape
    dispatch = float(np.median([end - start for start, end in spans]))
    took = spans[-1][1] - spans[0][0]
    streamed = len(spans) * math.prod(shape) * one
    yield (
        f"Streamed: {quantity(streamed)}B in {len(spans)} dispatches and {took:.0f} s "
        f"({streamed / (n * one):.1%} of the set), {quantity(streamed / took)}B/s; a dispatch "
        f"takes {dispatch:.3f} s, a step {dispatch / steps * 1e3:.1f} ms (medians)."
    )
    yield f"The device waited {waiting(spans):.2%} of the time."
    warm = len(sizes) // 4
    kept = [size / 1e6 for size in sizes[warm:]]
    yield (
        f"Resident memory: {sizes[0] / 1e6:.1f} MB after the first dispatch, {min(kept):.1f} to "
        f"{max(kept):.1f} MB without the first {warm}; peak {peak_bytes() / 1e6:.0f} MB since the "
        "command began (to fit the preprocessing on the first examples)."
    )
    grown = trend(seconds[warm:], sizes[warm:])
    if grown is None:
        yield f"Its slope cannot be told from {len(kept)} dispatches: give more --seconds."
        return
    low, rate, high = (x * 60 / 1e6 for x in (grown.low, grown.rate, grown.high))
    whole = n * one / (streamed / took)
    yield (
        f"Its slope: {rate:+.2f} MB a minute, 95 % interval {low:+.2f} to {high:+.2f}; at most "
        f"{max(0.0, grown.high) * whole / 1e6:.0f} MB over the whole set at this speed."
    )


def _surroundings(processors: float) -> str:
    """What this process got of the machine, which others may use as well."""
    load = f", load average {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"This process used {processors:.2f} of {os.cpu_count()} processors{load}."


def _page(argv: list[str], git: dict, sentences: list[str]) -> str:
    flags = ("--rows", "--gigabytes", "--seconds", "--into")
    command = cli.command("experiments.bench_stream", argv, flags)
    return "\n".join([
        "# A training set larger than memory\n",
        f"Written by `{command}` at commit {(git['commit'] or 'unknown')[:12]}"
        f"{' with local changes' if git['dirty'] else ''}, on {platform.machine()} with Python "
        f"{platform.python_version()} and jax {versions()['jax']}.\n",
        *(f"- {sentence}" for sentence in sentences), "",
    ])  # fmt: skip


if __name__ == "__main__":
    cli.run_command(main)
