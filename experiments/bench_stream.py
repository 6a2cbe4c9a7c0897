"""Shows that a training set larger than memory streams: flat memory, and a device that is busy.

    python -m experiments.bench_stream --config=configs/avmnist.py:full --rows=concat
        [--gigabytes=20] [--seconds=60] [--config.seeds=0,]

Trains the first row that --rows matches on as many random examples as are GIGABYTES when decoded;
each is made from its index when it is read (experiments/synthetic.py), so nothing lies on disk.
After SECONDS of training it prints, per quarter of the time, the resident memory of this process,
and at the end its peak and slope, the seconds of a dispatch, and the share of the time that the
device waited: from the end of one dispatch to the start of the next. Nothing is written.
"""

from __future__ import annotations

import dataclasses
import os
import re
import resource
import time
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise

import jax
import numpy as np

from experiments import cli
from experiments.synthetic import RandomBuilder
from mmfuse.build import build
from mmfuse.cells import flops as quantity
from mmfuse.data.datasets import make_builder
from mmfuse.data.loader import READERS, Dataset
from mmfuse.errors import InputError, listed
from mmfuse.loop import Run, Selection, dispatches, trained
from mmfuse.parallel import Compiled, Devices
from mmfuse.programs import compile_row


def _parser() -> cli.Parser:
    parser = cli.Parser(prog="experiments.bench_stream", description=__doc__)
    parser.add_argument("--config", required=True)
    parser.add_argument("--rows", default="")
    parser.add_argument("--gigabytes", type=float, default=20.0)
    parser.add_argument("--seconds", type=float, default=60.0)
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
    done: list[Future] = dataclasses.field(default_factory=list)
    watcher: ThreadPoolExecutor = dataclasses.field(default_factory=lambda: ThreadPoolExecutor(1))

    def place(self, *args, first: int = 0) -> tuple:
        """As of the program itself."""
        return self.train.place(*args, first=first)

    def run(self, placed: tuple):
        """Starts a dispatch; a thread waits for its end."""
        self.begun.append(time.perf_counter())
        out = self.train.run(placed)
        self.done.append(self.watcher.submit(_end, out))
        return out

    def spans(self) -> list[tuple[float, float]]:
        """(start, end) of every dispatch so far."""
        return list(zip(self.begun, (end.result() for end in self.done), strict=True))


def _end(out) -> float:
    jax.block_until_ready(out)
    return time.perf_counter()


def waiting(spans: list[tuple[float, float]]) -> float:
    """The share of the time from the first start to the last end in which nothing ran."""
    idle = sum(max(0.0, start - end) for (_, end), (start, _) in pairwise(spans))
    return idle / (spans[-1][1] - spans[0][0])


def slope(seconds: list[float], sizes: list[int]) -> float:
    """Bytes per second, by least squares."""
    return float(np.polyfit(seconds, sizes, 1)[0])


def main(argv: list[str]) -> int:
    """Prints the memory over time and how long the device waited."""
    args, overrides = cli.parse(_parser(), argv)
    for name in ("gigabytes", "seconds"):
        if not 0 < getattr(args, name) < float("inf"):
            raise InputError(f"--{name} must be > 0, got {getattr(args, name)}")
    _, ablation = cli.load(args.config, overrides)
    rows = [row for row in ablation.rows if re.search(args.rows, row.name)]
    if not rows:
        names = listed(row.name for row in ablation.rows)
        raise InputError(f"--rows='{args.rows}' matches no row{names}")
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
    print(f"row {rows[0].name}, {replicas} seeds, batch {size}, {devices.count} x {devices.kind}; "
          f"{n:,} examples of {quantity(one)}B, together {quantity(n * one)}B; "
          f"{steps} steps a dispatch, {READERS} readers")  # fmt: skip
    watched = Watched(executables.train)
    run = Run(state, Selection.start(state.params, len(seeds)), 0, 0, {}, 0.0)
    seconds, sizes = [], []
    ahead = dispatches(run, built, dataset, seeds, None)
    for _ in trained(dataclasses.replace(executables, train=watched), state, ahead):
        seconds.append(time.perf_counter())
        sizes.append(resident_bytes())
        if seconds[-1] - watched.begun[0] >= args.seconds:
            break
    _report(seconds, sizes, watched.spans(), executables.order_shape)
    return 0


def _report(seconds: list[float], sizes: list[int], spans: list, shape: tuple) -> None:
    for number, part in enumerate(np.array_split(np.array(sizes), 4)):
        if len(part):
            print(
                f"quarter {number + 1}: resident {part.min() / 1e6:.0f}..{part.max() / 1e6:.0f} MB"
            )
    half = len(sizes) // 2
    if len(sizes) - half > 1:
        rate = slope(seconds[half:], sizes[half:]) * 60
        print(f"peak {peak_bytes() / 1e6:.0f} MB; slope {rate / 1e6:+.1f} MB a minute over the "
              "second half")  # fmt: skip
    dispatch = float(np.median([end - start for start, end in spans]))
    rate = len(spans) * np.prod(shape) / (spans[-1][1] - spans[0][0])
    step = dispatch / shape[0] * 1e3
    print(
        f"{len(spans)} dispatches of {dispatch:.3f} s, {step:.1f} ms a step, {rate:,.0f} examples/s"
    )
    print(f"the device waited {waiting(spans):.2%} of the time")


if __name__ == "__main__":
    cli.run_command(main)
