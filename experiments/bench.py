"""How fast the rows of a config train here, against the matmul peak measured in the same run.

    python -m experiments.bench --config=configs/quickstart.py [--rows=REGEX] [--repeats=5]

Per row: seconds to compile, programs compiled, training examples per second (all seeds together),
FLOP/s of the training step and its share of the best float32 matrix product of this machine, and
peak memory. Medians over the repeats; compare shares, not absolute times, between machines. Nothing
is written.
"""

from __future__ import annotations

import re
import resource
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from experiments import cli
from mmfuse import cost
from mmfuse.build import Built, build, compile_row
from mmfuse.cells import count
from mmfuse.cells import flops as quantity
from mmfuse.data.loader import Dataset, make_builder, prepare
from mmfuse.errors import InputError
from mmfuse.parallel import Devices


def matmul_peak(size: int = 1024, repeats: int = 10) -> float:
    """FLOP/s of the best of several float32 products [size, size] x [size, size] on one device."""
    x = jnp.ones((size, size), jnp.float32)
    product = jax.jit(lambda a, b: a @ b).lower(x, x).compile()
    jax.block_until_ready(product(x, x))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(product(x, x))
        times.append(time.perf_counter() - start)
    return 2 * size**3 / min(times)


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
        example | {"weight": np.zeros(1, np.float32)},
    )
    step = jax.vmap(lambda s, b: built.program.train_step(s, b, axis_name=None))
    return cost.count_flops(step, state, batch)


def time_dispatches(
    built: Built, dataset: Dataset, devices: Devices, seeds: tuple[int, ...], repeats: int
) -> tuple[float, float, int]:
    """(seconds per step, compile seconds, programs compiled) of a group of seeds."""
    before = devices.compilations
    executables, state = compile_row(built, dataset, devices, seeds)
    steps, replicas, size = executables.order_shape
    rng = np.random.default_rng(0)
    n = dataset.sizes["train"] if dataset.resident else steps * replicas * size
    order = rng.integers(n, size=executables.order_shape).astype(np.int32)
    data = dataset.train_arrays() or dataset.batch("train", np.arange(n) % dataset.sizes["train"])
    placed = executables.train.place(state, data, order, np.ones(steps, bool))
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        jax.block_until_ready(executables.train.run(placed))
        times.append(time.perf_counter() - start)
    compiled = devices.compilations - before
    return statistics.median(times[1:]) / steps, executables.seconds, compiled


def main(argv: list[str]) -> int:
    """Prints one line per row."""
    parser = cli.Parser(prog="experiments.bench", description=__doc__)
    parser.add_argument("--config", required=True)
    parser.add_argument("--rows", default="")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--raw_data")
    parser.add_argument("--data_dir")
    args, overrides = cli.parse(parser, argv)
    if args.repeats < 1:
        raise InputError(f"--repeats must be at least 1, got {args.repeats}")
    _, ablation = cli.load(args.config, overrides)
    devices = Devices(ablation.parallel["mode"], ablation.parallel["devices"])
    data = ablation.data
    builder = make_builder(
        data["name"], data["builder"], data_dir=args.data_dir, raw_data=args.raw_data
    )
    prepare(builder)
    dataset = Dataset(builder, data["preprocess"], resident_bytes=data["resident_bytes"])
    print(f"{devices.count} x {devices.kind}, mode {devices.mode}, jax {jax.__version__}; "
          f"{len(ablation.groups()[0])} seeds in one program")  # fmt: skip
    titles = ("compile", "programs", "examples/s", "FLOP/s", "of peak", "memory")
    print(f"{'row':28} " + " ".join(f"{title:>11}" for title in titles))
    for row in ablation.rows:
        if re.search(args.rows, row.name):
            _bench_row(build(row, dataset, devices, ablation), dataset, devices, ablation, args)
    return 0


def _bench_row(built: Built, dataset: Dataset, devices: Devices, ablation, args) -> None:
    seeds = ablation.groups()[0]
    peak = matmul_peak()
    step, compiling, programs = time_dispatches(built, dataset, devices, seeds, args.repeats)
    peak = max(peak, matmul_peak()) * devices.count
    rate = training_flops(built, dataset, seeds) / step
    cells = (
        f"{compiling:.1f} s",
        str(programs),
        count(round(len(seeds) * built.settings.batch / step)),
        quantity(rate),
        f"{rate / peak:.1%}",
        quantity(peak_bytes(devices)) + "B",
    )
    print(f"{built.row.name:28} " + " ".join(f"{cell:>11}" for cell in cells), flush=True)


if __name__ == "__main__":
    cli.run_command(main)
