"""Trains every row and seed of an ablation that has no record yet, and prints the table.

    python -m experiments.ablate --config=configs/quickstart.py --workdir=runs/quickstart
    python -m experiments.ablate --config=... --workdir=... --rows='TFN|MBT' --config.train.epochs=3
    python -m experiments.ablate --config=... --workdir=... --log=tensorboard,wandb
    python -m experiments.ablate --config=... --dry_run
    python -m experiments.ablate --config=... --workdir=... --config.parallel.mode=jit --distributed

With --distributed the same command runs once per process, on one machine or on many, and trains one
table on the devices of all: JAX finds the others by the scheduler (Slurm, Open MPI, Kubernetes,
Cloud TPU), or by --distributed=HOST:PORT,NUMBER/PROCESSES. Only process 0 touches the workdir.

Exit codes: 0 done, 2 bad input, 3 some runs failed (the table shows which), 130 and 143 on signals
after saving.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import itertools
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from experiments import cli, folds
from experiments.rows import check_fusion, matching
from mmfuse import processes
from mmfuse.ablation import Ablation, Row
from mmfuse.budget import equal
from mmfuse.build import Built, build, check_divisible, check_memory
from mmfuse.data.datasets import make_builder, prepare
from mmfuse.data.loader import Dataset
from mmfuse.errors import InputError
from mmfuse.logs import Logs
from mmfuse.loop import Interrupted, train_group
from mmfuse.parallel import Devices
from mmfuse.programs import forget
from mmfuse.progress import Progress
from mmfuse.record import plain
from mmfuse.runs import Setting, config_of, finish
from mmfuse.settings import learning_rates
from mmfuse.sinks import chosen
from mmfuse.store import Store
from mmfuse.tables import FORMATS, render, summarise
from mmfuse.teaching import check_teachers, taught, teachers_first
from mmfuse.workdir import Workdir, check_workdir, open_workdir


def _parser() -> cli.Parser:
    parser = cli.Parser(prog="experiments.ablate", description=__doc__)
    parser.add_argument("--config", required=True, help="FILE.py or FILE.py:argument")
    parser.add_argument("--workdir", help="where runs, checkpoints and the table go")
    parser.add_argument("--rows", default="", help="train only rows whose name matches this regex")
    parser.add_argument("--dry_run", action="store_true", help="costs only; writes nothing")
    parser.add_argument("--distributed", nargs="?", const=processes.CLUSTER,
                        help="one of several processes: HOST:PORT,NUMBER/PROCESSES")  # fmt: skip
    parser.add_argument("--log", default="", help="also log to: tensorboard, wandb, mlflow")
    parser.add_argument("--raw_data", help="folder of upstream files (or MMFUSE_RAW_DATA)")
    parser.add_argument("--data_dir", help="where prepared datasets lie (or TFDS_DATA_DIR)")
    return parser


def main(argv: list[str]) -> int:
    """The command; returns its exit code."""
    args, overrides = cli.parse(_parser(), argv)
    if not args.workdir and not args.dry_run:
        raise InputError("--workdir is missing: say where runs and the table go")
    names = chosen(args.log)
    _, ablation = cli.load(args.config, overrides)
    if args.distributed:
        processes.start(args.distributed)
    command = cli.command("experiments.ablate", argv)

    def train(one: Ablation, path: str | None) -> int:
        return _train(one, path, args, names, command)

    if "folds" not in ablation.data or args.dry_run:
        return train(ablation, args.workdir)
    code = folds.train(ablation, args.workdir, train, command)
    if code > cli.SOME_FAILED:
        return code
    workdir = Workdir(args.workdir)
    return max(code, processes.told(lambda: _print_table(ablation, workdir, command)))


def _train(
    ablation: Ablation,
    path: str | None,
    args: argparse.Namespace,
    names: Sequence[str],
    command: str,
) -> int:
    """Trains one ablation in its workdir, or prints what it costs; returns the exit code."""
    rows = matching(ablation, args.rows)
    store = None if args.dry_run else cli.use_compilation_cache()

    def check() -> None:
        if path and Path(path).exists():
            check_workdir(path, ablation.identity(), unknown=("data_fingerprint",))

    dataset, devices = prepared(ablation, rows, args, store, check)
    built = build_rows(ablation, rows, dataset, devices)
    if args.dry_run:
        from experiments.dry_run import print_costs

        return print_costs(ablation, built, dataset, devices)
    setting, stop = Setting(ablation, dataset, devices), cli.StopSignals()
    return train_rows(setting, path, built, stop, command, names)


def build_rows(
    ablation: Ablation, rows: list[Row], dataset: Dataset, devices: Devices
) -> list[Built]:
    """The rows ready to compile, at the budget of the config."""
    rows = [equal(row, dataset, ablation.budget, devices.store) for row in rows]
    return [build(row, dataset, devices, ablation) for row in rows]


def train_rows(
    setting: Setting, path: str, built: list[Built], stop, command: str, names: Sequence[str] = ()
) -> int:
    """Trains what has no record yet in the workdir, and prints its table; returns the exit code.

    ``names`` are the sinks that hear of it besides the log in the workdir.
    """
    ablation = setting.ablation
    for row in built:
        check_memory(row, setting.devices, len(ablation.groups()[0]))
    identity = ablation.identity() | {"data_fingerprint": setting.dataset.fingerprint}
    facts = {"baseline": ablation.baseline, "conditions": ablation.conditions}
    facts |= {"command": command, "baselines": ablation.baselines}
    processes.check_same("code, config or data", [setting.code, identity])
    with contextlib.ExitStack() as held:
        workdir = processes.told(lambda: held.enter_context(open_workdir(path, identity, **facts)))
        processes.told(lambda: _check_same_code(setting, workdir))
        try:
            with Logs(workdir, ablation.name, names if processes.first() else ()) as logs:
                _train_all(setting, workdir, built, stop, logs)
        except Interrupted:
            return cli.interrupted(stop)
        return processes.told(lambda: _print_table(ablation, workdir, command))


def prepared(
    ablation: Ablation,
    rows: list[Row],
    args: argparse.Namespace,
    store: Store | None,
    check: Callable[[], None],
) -> tuple[Dataset, Devices]:
    """The data and the devices of these rows.

    What can be checked without the data is checked first, since preparing it may take long: the
    rows, and by ``check`` the workdir.
    """
    for row in rows:
        check_fusion(row, tuple(ablation.data["preprocess"]))
    devices = Devices(ablation.parallel["mode"], ablation.parallel["devices"], store)
    for row in rows:
        check_divisible(row, devices)
    data = ablation.data
    make = functools.partial(
        make_builder, data["name"], data["builder"], data_dir=args.data_dir, raw_data=args.raw_data
    )
    builder = make()

    def check_and_prepare() -> None:
        check()
        prepare(builder)

    processes.told(check_and_prepare)
    if not processes.first():
        builder = make()  # again, since it looks for what is there when it is made
        prepare(builder)  # on a disk of its own
    size = data["resident_bytes"]
    return Dataset(builder, data["preprocess"], resident_bytes=size), devices


def _train_all(setting: Setting, workdir: Workdir, built: list[Built], stop, logs: Logs) -> None:
    groups = setting.ablation.groups()
    every = [(row, seeds) for row in teachers_first(built, setting.ablation) for seeds in groups]
    missing = processes.told(
        lambda: [
            not all(workdir.has_record(row.row.name, seed) for seed in seeds)
            for row, seeds in every
        ]
    )
    todo = list(itertools.compress(every, missing))
    processes.told(lambda: check_teachers(todo, workdir))
    with Progress(None if processes.first() else io.StringIO()) as progress:
        progress.start(len(every), done=len(every) - len(todo))
        for row, seeds in todo:
            if stop():  # since the last dispatch of the row before: its records are written
                raise Interrupted
            progress.row(row.row.name, row.settings.epochs)
            _train_one(setting, workdir, row, seeds, stop, progress, logs)
            forget()


def _train_one(
    setting: Setting, workdir: Workdir, built: Built, seeds, stop, progress: Progress, logs: Logs
) -> None:
    """One row and group of seeds, to its records; its checkpoints are then no longer needed."""
    from mmfuse.checkpoint import Checkpoints

    built = taught(built, seeds, workdir, setting.dataset)
    name, steps = built.row.name, built.steps_per_epoch
    folder = workdir.checkpoints(name) / "-".join(map(str, seeds))
    checkpoints = Checkpoints(folder) if processes.first() else None
    config, rates = config_of(setting.ablation, built), learning_rates(built.settings, steps)
    with logs.group(name, seeds, config, rates, steps) as log:

        def report(event: str, value) -> None:
            if event == "compiled":
                progress.compiled(value)
            else:
                getattr(log, event)(value)
            if event == "epoch":
                progress.epoch(value.epoch)

        run, executables, clock = train_group(
            built,
            setting.dataset,
            setting.devices,
            seeds,
            checkpoints,
            stop=stop,
            report=report,
        )
        records = finish(setting, workdir, built, seeds, run, executables, clock, report=report)
    if processes.first():
        shutil.rmtree(workdir.checkpoints(name), ignore_errors=True)
        progress.finish_row(_brief(records))


def _brief(records: list[dict]) -> str:
    """The primary metric of the records of one row, in one line."""
    primary = records[0]["primary"]
    scores = [r["metrics"]["test"].get(primary) for r in records]
    shown = ", ".join("diverged" if s is None else f"{s:.4f}" for s in scores)
    return f"{records[0]['row']}: test {primary} {shown}"


def _check_same_code(setting: Setting, workdir: Workdir) -> None:
    """A table refuses to mix runs of different code: better said before training than after."""
    common = setting.common()
    for record in workdir.records()[:1]:
        for key in ("code_sha256", "versions", "device", "mode"):
            if record[key] != plain(common[key]):
                raise InputError(
                    f"workdir '{workdir.path}' holds runs whose {key} was {record[key]}, now it is "
                    f"{common[key]}: one table cannot mix them; use a new workdir"
                )


def _print_table(ablation: Ablation, workdir: Workdir, command: str) -> int:
    """Writes the table in every format and prints it; 3 if some runs did not come through."""
    records = workdir.records()
    table = summarise(
        records,
        metric=ablation.metric,
        baseline=ablation.baseline or None,
        baselines=ablation.baselines,
        rows=[row.name for row in ablation.rows],
        seeds=ablation.seeds,
        command=command,
        predictions=workdir.predictions,
    )
    for name in FORMATS:
        workdir.write_table(name, render(table, name))
    print(render(table, "md"))
    return cli.SOME_FAILED if any(r["status"] != "done" for r in records) else 0


if __name__ == "__main__":
    cli.run_command(main)
