"""How fast the rows of a config train here, against the matmul peak measured in the same run.

    python -m experiments.bench --config=configs/quickstart.py [--rows=REGEX] [--repeats=5]
    python -m experiments.bench --config=configs/avmnist.py:full --rows=concat --synthetic
    python -m experiments.bench --config=configs/quickstart.py --rows='only|concat' --against=torch

Per row: seconds to compile, programs compiled, training examples per second (all seeds together),
FLOP/s of the training step and its share of the best float32 matrix product of this machine, and
peak memory. Medians over the repeats; compare shares, not absolute times, between machines. Nothing
is written.

--synthetic   random arrays of the sizes and types that the config would read: no dataset is needed
--against=torch   the same model from the same start in an eager PyTorch loop, one seed, with the
    same number of cores; the two take turns, and the ratio is the median of the paired ratios
--channels_last   the pictures of PyTorch in its other memory layout (see torch_twin.py)
--threads=N   use N cores, on both sides
--cpu_time    for a busy machine: one core, and its seconds of work instead of the clock's
"""

from __future__ import annotations

import os
import re
import resource
import statistics
import time
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np

from experiments import cli
from mmfuse import cost
from mmfuse.ablation import Ablation
from mmfuse.budget import equal
from mmfuse.build import Built, build
from mmfuse.cells import count
from mmfuse.cells import flops as quantity
from mmfuse.data.datasets import make_builder
from mmfuse.data.loader import Dataset, open_dataset
from mmfuse.errors import InputError
from mmfuse.objectives.apply import counted
from mmfuse.parallel import Devices
from mmfuse.probing.latency import Clock, take_turns
from mmfuse.programs import compile_row
from mmfuse.teaching import with_blank_teacher

SYNTHETIC_EXAMPLES = 512  # or four batches
COMPARED, TOLERANCE = 3, 1e-3  # first losses that a twin must share, and how closely
TITLES = ("seeds", "compile", "programs", "examples/s", "FLOP/s", "of peak", "memory")
AGAINST = ("torch ex/s", "ratio", "loss diff")


def matmul_peak(size: int = 1024, repeats: int = 10, clock: Clock = time.perf_counter) -> float:
    """FLOP/s of the best of several float32 products [size, size] x [size, size] on one device."""
    x = jnp.ones((size, size), jnp.float32)
    product = jax.jit(lambda a, b: a @ b).lower(x, x).compile()
    times = take_turns([lambda: jax.block_until_ready(product(x, x))], repeats, clock)
    return 2 * size**3 / min(times[0])


def machine_peak(devices: Devices, clock: Clock = time.perf_counter) -> float:
    """FLOP/s of all devices; simulated ones share the cores, which one product uses all of."""
    shared = devices.devices[0].platform == "cpu"
    return matmul_peak(clock=clock) * (1 if shared else devices.count)


def peak_bytes(devices: Devices) -> int:
    """Peak memory so far: of the first device where it says so, else of this process."""
    stats = devices.devices[0].memory_stats() or {}
    return stats.get("peak_bytes_in_use", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def training_flops(built: Built, dataset: Dataset, seeds: tuple[int, ...]) -> int:
    """FLOPs of one training step of all replicas, forward, backward and update."""
    example = dataset.batch("train", range(1))
    state = jax.eval_shape(
        lambda s, b: built.program.init(s, b, axis_name=None), np.array(seeds, np.uint32), example
    )
    shape = (len(seeds), built.settings.batch)
    batch = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((*shape, *x.shape[1:]), x.dtype),
        counted(example),
    )
    step = jax.vmap(lambda s, b: built.program.train_step(s, b, axis_name=None))
    try:
        return cost.count_flops(step, state, batch)
    except ValueError as error:  # a decomposition, in the objective deep_cca for one
        raise InputError(f"row '{built.row.name}' cannot be measured: {error}") from error


class Dispatch:
    """A compiled row with one dispatch of random examples in place: calling it trains them.

    Attributes: ``seconds`` and ``programs`` of compiling, ``state`` the start, ``data`` the arrays
    of the training split (streamed: of this dispatch), ``order`` [steps, R, B] into them.
    """

    def __init__(self, built: Built, dataset: Dataset, devices: Devices, seeds: tuple[int, ...]):
        before = devices.compilations
        executables, self.state = compile_row(built, dataset, devices, seeds)
        self.seconds, self.programs = executables.seconds, devices.compilations - before
        shape, rng = executables.order_shape, np.random.default_rng(0)
        self.order = rng.integers(dataset.sizes["train"], size=shape).astype(np.int32)
        self.data = dataset.train_arrays() or next(dataset.stream([self.order]))
        self.train = executables.train
        live = np.ones(len(self.order), bool)
        self._placed = self.train.place(self.state, self.data, self.order, live)

    def __call__(self) -> None:
        jax.block_until_ready(self.train.run(self._placed))

    def first_losses(self) -> np.ndarray:
        """The loss of the first seed in each of the first steps, from the start on."""
        state, total, losses = self.state, 0.0, []
        for step in range(min(COMPARED, len(self.order))):
            order = np.roll(self.order, -step, axis=0)
            state = self.train(state, self.data, order, np.arange(len(order)) < 1)
            summed = float(state.sums["loss"][0])
            losses.append((summed - total) / self.order.shape[2])
            total = summed
        return np.array(losses)


def _parser() -> cli.Parser:
    parser = cli.Parser(prog="experiments.bench", description=__doc__)
    parser.add_argument("--config", required=True)
    parser.add_argument("--rows", default="")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--synthetic", action="store_true")
    parser.add_argument("--against", choices=["torch"])
    parser.add_argument("--channels_last", action="store_true")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--cpu_time", action="store_true")
    parser.add_argument("--raw_data")
    parser.add_argument("--data_dir")
    return parser


def main(argv: list[str]) -> int:
    """Prints one line per row; against PyTorch, one with all seeds and one with a single seed."""
    args, overrides = cli.parse(_parser(), argv)
    if args.repeats < 1 or args.threads < 0:
        raise InputError(f"--repeats {args.repeats} must be >= 1, --threads {args.threads} >= 0")
    _, ablation = cli.load(args.config, overrides)
    cores = _take_cores(1 if args.cpu_time else args.threads)
    devices = Devices(ablation.parallel["mode"], ablation.parallel["devices"])
    twins = _load_twins(cores, devices) if args.against else None
    dataset = _dataset(ablation, args)
    if twins and not dataset.resident:
        raise InputError("--against=torch needs the training split in memory: it is larger than "
                         "config.data.resident_bytes")  # fmt: skip
    print(f"{devices.count} x {devices.kind}, {cores} CPU cores, mode {devices.mode}, "
          f"jax {jax.__version__}{f', torch {twins.torch.__version__}' if twins else ''}; "
          f"{'CPU time' if args.cpu_time else 'wall time'}, {args.repeats} repeats")  # fmt: skip
    _print_line("row", TITLES + (AGAINST if twins else ()))
    for row in ablation.rows:
        if re.search(args.rows, row.name):
            built = build(equal(row, dataset, ablation.budget), dataset, devices, ablation)
            built = with_blank_teacher(built, ablation.groups()[0], dataset, ablation)
            _bench_row(built, dataset, devices, ablation, args, twins)
    return 0


def _take_cores(number: int) -> int:
    """Leaves this process ``number`` cores (0 = all it has), before a backend starts."""
    if not hasattr(os, "sched_setaffinity"):
        if number:
            raise InputError("--threads and --cpu_time need Linux, which can keep cores free")
        return os.cpu_count()
    mine = sorted(os.sched_getaffinity(0))
    if number > len(mine):
        raise InputError(f"--threads is {number}, but there are {len(mine)} cores")
    if number:
        os.sched_setaffinity(0, mine[:number])
    return number or len(mine)


def _load_twins(cores: int, devices: Devices) -> ModuleType:
    if devices.devices[0].platform != "cpu":
        raise InputError("--against=torch compares on the CPU: set JAX_PLATFORMS=cpu")
    try:
        from experiments import torch_twin
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise InputError(
            "--against=torch needs PyTorch, which is no part of mmfuse: pip install torch "
            "--index-url https://download.pytorch.org/whl/cpu"
        ) from error
    torch_twin.torch.set_num_threads(cores)
    return torch_twin


def _dataset(ablation: Ablation, args) -> Dataset:
    data, places = ablation.data, {"data_dir": args.data_dir, "raw_data": args.raw_data}
    if not args.synthetic:
        return open_dataset(data, **places)
    from experiments.synthetic import synthetic_dataset

    n = max(SYNTHETIC_EXAMPLES, *(4 * row.train.batch for row in ablation.rows))
    builder = make_builder(data["name"], data["builder"], **places)
    return synthetic_dataset(builder, data["preprocess"], n)


def _print_line(name: str, cells: tuple[str, ...]) -> None:
    print(f"{name:24} " + " ".join(f"{cell:>12}" for cell in cells), flush=True)


def _bench_row(built: Built, dataset: Dataset, devices: Devices, ablation, args, twins) -> None:
    seeds = ablation.groups()[0]
    if not twins:
        _print_line(built.row.name, _measure(built, dataset, devices, seeds, args))
        return
    refusal = twins.refusal(built.row, built.reads)
    for group in [seeds] if refusal else dict.fromkeys([seeds, seeds[:1]]):
        cells = _measure(built, dataset, devices, group, args, None if refusal else twins)
        _print_line(built.row.name, cells)
    if refusal:
        print(f"  ({refusal})", flush=True)


def _measure(built: Built, dataset: Dataset, devices: Devices, seeds, args, twins=None):
    """The cells of one line: this row with these seeds, and its twin in turns with it."""
    clock = time.process_time if args.cpu_time else time.perf_counter
    peak = machine_peak(devices, clock)
    dispatch = Dispatch(built, dataset, devices, seeds)
    steps, replicas, size = dispatch.order.shape
    runs = [dispatch]
    if twins:
        twin, difference = _twin(twins, built, dataset, dispatch, args.channels_last)
        runs.append(twin)
    times = take_turns(runs, args.repeats, clock)
    peak = max(peak, machine_peak(devices, clock))
    step = statistics.median(times[0]) / steps
    rate = training_flops(built, dataset, seeds) / step
    cells = (
        str(replicas),
        f"{dispatch.seconds:.1f} s",
        str(dispatch.programs),
        count(round(replicas * size / step)),
        quantity(rate),
        f"{rate / peak:.1%}",
        quantity(peak_bytes(devices)) + "B",
    )
    if not twins:
        return cells
    ratio = replicas * statistics.median(b / a for a, b in zip(*times, strict=True))
    rate = steps * size / statistics.median(times[1])
    return (*cells, count(round(rate)), f"{ratio:.2f}", f"{difference:.0e}")


def _twin(twins: ModuleType, built: Built, dataset: Dataset, dispatch: Dispatch, last: bool):
    """(a run of the twin of the first seed, how far its first losses are from ours)."""
    params = jax.tree.map(lambda x: np.asarray(x)[0], dispatch.state.params)
    steps, task = built.settings.epochs * built.steps_per_epoch, dataset.card["task"]
    row, options = (built.row, built.reads, task), {"steps": steps, "channels_last": last}
    twin = twins.Twin(*row, params, dispatch.data, **options)
    ours = dispatch.first_losses()
    prepared = twin.prepare(dispatch.order[:, 0])
    difference = float(np.abs(ours - twin.run(prepared[: len(ours)])).max())
    if not difference <= TOLERANCE:
        raise InputError(
            f"row '{built.row.name}': the first losses differ by {difference:.1e} from PyTorch's; "
            f"more than {TOLERANCE:.0e} is another model"
        )
    return lambda: twin.run(prepared), difference


if __name__ == "__main__":
    cli.run_command(main)
