"""Tunes every row alike, on validation, then trains the chosen settings and prints the table.

    python -m experiments.tune --config=configs/ict_mmmo.py --workdir=runs/tuned --trials=20
    python -m experiments.tune --config=... --workdir=... --trials=20 --rows='MulT|MFN'
        --space=train.lr=log,1e-4,1e-2 --space=train.batch=choice,16,32
    python -m experiments.tune --workdir=runs/tuned [--into=FILE]

Every row gets the same ``--trials`` random settings of ``config.tune.space`` (or ``--space``;
:mod:`mmfuse.search` says how); trials that one program can serve train together. While they run the
test split is sealed. Then each row's best trial becomes its setting, and the rows are trained with
the seeds of the config exactly as ``experiments.ablate`` does: the workdir holds the same records
and tables, and besides ``tuning.md``, ``tuning.json``, ``tuning.csv`` (every trial) and
``tuning/trials.db`` (for optuna). The same command goes on after a kill, to the same result.

Without ``--config`` it prints what a finished workdir holds. ``--into`` writes both tables to their
place in a text file, as ``experiments.table`` does.

Exit codes: 0 done, 2 bad input (a space in which every trial of every row diverges, too), 3 some
runs failed or no trial of some row has a score, 130 and 143 on signals after saving.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import shutil
import sys
from pathlib import Path

import jax

from experiments import cli, table
from experiments.ablate import build_rows, prepared, train_rows
from experiments.rows import matching
from mmfuse.ablation import Ablation, Row
from mmfuse.budget import equal
from mmfuse.build import Built, build, check_memory
from mmfuse.checkpoint import Checkpoints
from mmfuse.data.loader import Dataset
from mmfuse.errors import InputError
from mmfuse.loop import Interrupted, Run, train_group
from mmfuse.parallel import Devices
from mmfuse.programs import forget
from mmfuse.progress import Progress
from mmfuse.record import code_sha256, dumps, versions, write_atomic
from mmfuse.runs import Setting
from mmfuse.search import Group, Search, groups, read_search, with_values
from mmfuse.tasks import METRICS, measures
from mmfuse.teaching import refuse_teachers
from mmfuse.trials import Trial, Trials, check_optuna, open_trials
from mmfuse.tuning import choose, render_csv, render_markdown, summarise
from mmfuse.workdir import Workdir, check_workdir, open_workdir

FOLDER = "tuning"  # of the workdir; what is tried lies apart from what is reported
FINISHED_LATER = ("data_fingerprint",)


def _parser() -> cli.Parser:
    parser = cli.Parser(prog="experiments.tune", description=__doc__)
    parser.add_argument("--config", help="FILE.py or FILE.py:argument")
    parser.add_argument("--workdir", required=True, help="where trials, runs and tables go")
    parser.add_argument("--trials", help="how many settings each row tries")
    parser.add_argument("--rows", default="", help="only rows whose name matches this regex")
    parser.add_argument("--space", action="append", default=[], help="KEY=KIND,VALUE,...; repeat")
    parser.add_argument("--into", help="a text file with a place for the tables")
    parser.add_argument("--raw_data", help="folder of upstream files (or MMFUSE_RAW_DATA)")
    parser.add_argument("--data_dir", help="where prepared datasets lie (or TFDS_DATA_DIR)")
    return parser


def main(argv: list[str]) -> int:
    """The command; returns its exit code."""
    args, overrides = cli.parse(_parser(), argv)
    if not args.config:
        return _show(args, overrides)
    check_optuna()
    config, ablation = cli.load(args.config, overrides)
    tune = config.tune.to_dict() if "tune" in config else {}
    search = read_search(ablation, tune, _whole(args.trials), args.space)
    rows = matching(ablation, args.rows)
    refuse_teachers(rows, "trials have no finished teacher")
    planned = {row.name: list(groups(row, search)) for row in rows}
    identity = ablation.identity() | {"tune": search.facts() | {"together": search.together}}
    identity |= {"code_sha256": code_sha256(), "versions": versions()}
    home = Path(args.workdir) / FOLDER
    tried = [group.row for row in rows for group in planned[row.name]]
    check = functools.partial(_check_place, args.workdir, home, identity)
    dataset, devices = prepared(ablation, tried, args, cli.use_compilation_cache(), check)
    _check_metric(search.metric, dataset)
    identity |= {"data_fingerprint": dataset.fingerprint}
    command = cli.command("experiments.tune", argv, ("--trials", "--space", "--rows"))
    stop = cli.StopSignals()
    Path(args.workdir).mkdir(parents=True, exist_ok=True)
    with (
        open_workdir(home, identity, command=command) as workdir,
        open_trials(home, METRICS[search.metric], search.distributions()) as trials,
    ):
        try:
            with dataset.sealed("settings are tuned"):
                _try_all(workdir, trials, ablation, planned, search, dataset, devices, stop)
        except Interrupted:
            return cli.interrupted(stop)
        found = _complete(trials, ablation, search)
        _write(args.workdir, ablation.name, search, dataset, found)
        tuned = _tuned(ablation, search, found)
        if not tuned.rows:
            raise InputError("no trial of any row has a score: search smaller values of train.lr")
        built = build_rows(tuned, list(tuned.rows), dataset, devices)
        code = train_rows(Setting(tuned, dataset, devices), args.workdir, built, stop, command)
    if code in (0, cli.SOME_FAILED):
        print(_text(args.workdir))
        _insert(args)
        code = code if len(tuned.rows) == len(found) else cli.SOME_FAILED
    return code


def _whole(text: str | None) -> int:
    if text is None or not text.isascii() or not text.isdigit() or int(text) < 1:
        raise InputError(f"--trials must be a whole number >= 1, got {text or 'nothing'}")
    return int(text)


def _check_place(path: str, home: Path, identity: dict) -> None:
    """Refuses a workdir that holds something else, before anything is made."""
    if (Path(path) / "ablation.json").is_file() and not home.is_dir():
        raise InputError(
            f"workdir '{path}' holds an ablation that was not tuned; give another folder"
        )
    if not home.is_dir():
        check_workdir(path, identity)
    check_workdir(home, identity, unknown=FINISHED_LATER)


def _check_metric(metric: str, dataset: Dataset) -> None:
    if not measures(metric, dataset.task):
        raise InputError(f"config.tune.metric '{metric}' is not one of {dataset.card['task']}")


def _try_all(
    workdir: Workdir,
    trials: Trials,
    ablation: Ablation,
    planned: dict[str, list[Group]],
    search: Search,
    dataset: Dataset,
    devices: Devices,
    stop,
) -> None:
    """Trains every group of trials that is not stored yet."""
    work = [(name, group) for name, mine in planned.items() for group in mine]
    stored = {name: trials.finished(name).keys() for name in planned}
    todo = [(name, group) for name, group in work if not set(group.trials) <= stored[name]]
    built = []
    for _, group in todo:  # all of them first, so that what cannot be built is told now
        row = equal(group.row, dataset, ablation.budget, devices.store)
        built.append(build(row, dataset, devices, ablation, group.own))
        check_memory(built[-1], devices, len(group.trials))
    with Progress() as progress:
        progress.start(len(work), done=len(work) - len(todo))
        for (name, group), made in zip(todo, built, strict=True):
            if stop():
                raise Interrupted
            progress.row(f"{name}, {len(group.trials)} trials", made.settings.epochs)
            done = _try(workdir, made, group, search, dataset, devices, stop, progress)
            for trial in done:
                if trial.number not in stored[name]:  # a kill may have left the first few
                    trials.add(name, trial)
            progress.finish_row(_brief(name, done, search.metric))
            forget()
    for name in planned:
        shutil.rmtree(workdir.row(name), ignore_errors=True)


def _try(
    workdir: Workdir,
    built: Built,
    group: Group,
    search: Search,
    dataset: Dataset,
    devices: Devices,
    stop,
    progress: Progress,
) -> list[Trial]:
    """One group of trials, from its start or its last checkpoint."""

    def report(event: str, value) -> None:
        if event == "compiled":
            progress.compiled(value)
        elif event == "epoch":
            progress.epoch(value.epoch)

    folder = workdir.checkpoints(built.row.name) / f"trial_{group.trials[0]}"
    seeds = (search.seed,) * len(group.trials)
    run, *_ = train_group(
        built, dataset, devices, seeds, Checkpoints(folder), stop=stop, report=report
    )
    diverged = jax.device_get(run.state.diverged_at)
    return [
        _trial(run, lane, number, search, bool(diverged[lane] >= 0))
        for lane, number in enumerate(group.trials)
    ]


def _trial(run: Run, lane: int, number: int, search: Search, diverged: bool) -> Trial:
    curve = [epoch[lane] for epoch in run.curves["valid"] if epoch[lane] is not None]
    epoch = run.selection.epoch[lane]
    there = {} if diverged else curve[epoch]
    return Trial(
        number=number,
        values=search.draw(number),
        score=_finite(there.get(search.metric)),
        loss=_finite(there.get("loss")),
        epoch=epoch,
        epochs=len(curve),
        diverged=diverged,
    )


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _brief(name: str, done: list[Trial], metric: str) -> str:
    best = choose(done, METRICS[metric])
    score = "none has a score" if best is None else f"best valid {metric} {best.score:.4f}"
    return f"{name}: {len(done)} trials, {score}"


def _complete(trials: Trials, ablation: Ablation, search: Search) -> dict[str, list[Trial]]:
    """``{row: its trials}`` of all rows whose trials are done, those of earlier commands too."""
    found = {row.name: list(trials.finished(row.name).values()) for row in ablation.rows}
    return {name: done for name, done in found.items() if len(done) == search.trials}


def _tuned(ablation: Ablation, search: Search, found: dict[str, list[Trial]]) -> Ablation:
    """The ablation of the tuned rows, each with the setting of its best trial."""
    rows: list[Row] = []
    for row in ablation.rows:
        best = choose(found.get(row.name, ()), METRICS[search.metric])
        if best:
            rows.append(with_values(row, best.values))
    baseline = ablation.baseline if ablation.baseline in [row.name for row in rows] else ""
    return dataclasses.replace(ablation, rows=tuple(rows), baseline=baseline, tuned=search.facts())


def _write(
    path: str, name: str, search: Search, dataset: Dataset, found: dict[str, list[Trial]]
) -> None:
    higher, examples = METRICS[search.metric], dataset.sizes["valid"]
    content = summarise(search.facts(), found, name=name, higher=higher, examples=examples)
    folder = Path(path)
    write_atomic(folder / "tuning.csv", render_csv(found, search.space))
    write_atomic(folder / "tuning.json", dumps(content))
    write_atomic(folder / "tuning.md", render_markdown(content))


def _show(args, overrides) -> int:
    """Prints a finished workdir, or writes it to its place."""
    given = [f"--{name}" for name in ("trials", "rows", "space") if getattr(args, name)]
    given += [f"--config.{name}" for name, _ in overrides]
    if given:
        raise InputError(f"--config is missing: {given[0]} needs one")
    if not (Path(args.workdir) / "tuning.json").is_file():
        raise InputError(f"workdir '{args.workdir}' holds no finished tuning; give --config to run")
    if args.into:
        _insert(args)
    else:
        sys.stdout.write(table.table(table.parse([f"--workdir={args.workdir}"])))
        print(_text(args.workdir))
    return 0


def _text(path: str) -> str:
    return (Path(path) / "tuning.md").read_text(encoding="utf-8")


def _insert(args) -> None:
    if args.into:
        found = table.table(table.parse([f"--workdir={args.workdir}"]))
        name = json.loads((Path(args.workdir) / "tuning.json").read_text(encoding="utf-8"))["name"]
        table.insert(args.into, name, f"{found.strip()}\n\n{_text(args.workdir).strip()}")


if __name__ == "__main__":
    cli.run_command(main)
