"""Rows that learn from other rows: who teaches whom, and the teacher's finished parameters."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np

from mmfuse.ablation import Ablation, Row
from mmfuse.build import Built, build_model
from mmfuse.compression import Teacher
from mmfuse.data.loader import Dataset
from mmfuse.errors import InputError
from mmfuse.model import model_inputs
from mmfuse.processes import told
from mmfuse.restored import params_of, row_of
from mmfuse.workdir import Workdir


def teacher_of(row: Row) -> str:
    """The name of the row that a row learns from, or nothing."""
    return row.compression.get("teacher", "")


def teachers_first(rows: Sequence[Built], ablation: Ablation) -> list[Built]:
    """The rows in an order in which each comes after its teacher, else as they are."""
    by_name = {row.name: row for row in ablation.rows}

    def depth(row: Row) -> int:
        teacher = teacher_of(row)
        return 1 + depth(by_name[teacher]) if teacher else 0

    return sorted(rows, key=lambda built: depth(built.row))


def check_teachers(todo: Sequence[tuple[Built, tuple[int, ...]]], workdir: Workdir) -> None:
    """Refuses rows whose teacher has neither finished nor is trained by the same command.

    ``todo`` are the rows and seeds that will be trained now.
    """
    trained = {(built.row.name, seed) for built, seeds in todo for seed in seeds}
    for built, seeds in todo:
        teacher = teacher_of(built.row)
        for seed in seeds if teacher else ():
            if (teacher, seed) not in trained and not workdir.has_record(teacher, seed):
                raise InputError(
                    f"row '{built.row.name}' learns from row '{teacher}', whose seed {seed} has "
                    "not been trained; train it first, or let --rows match both"
                )


def refuse_teachers(rows: Sequence[Row], why: str) -> None:
    """Refuses rows that learn from others, where these are not trained first."""
    for row in rows:
        if teacher_of(row):
            raise InputError(
                f"row '{row.name}' learns from row '{teacher_of(row)}': {why}; leave it out by "
                "--rows, or run it by experiments.ablate"
            )


def with_blank_teacher(
    built: Built, seeds: tuple[int, ...], dataset: Dataset, ablation: Ablation
) -> Built:
    """The row with a teacher of zeros, to see what the row costs; without a teacher as it is."""
    name = teacher_of(built.row)
    if not name:
        return built
    model = build_model(next(row for row in ablation.rows if row.name == name), dataset)
    inputs = model_inputs(dataset.batch("train", range(1)))
    shapes = jax.eval_shape(lambda *x: model.init(jax.random.key(0), *x, train=False), *inputs)
    blank = jax.tree.map(lambda x: np.zeros((len(seeds), *x.shape), x.dtype), shapes["params"])
    return _with(built, Teacher(model, blank, ("blank",)))


def _with(built: Built, teacher: Teacher) -> Built:
    return dataclasses.replace(built, program=dataclasses.replace(built.program, teacher=teacher))


def taught(built: Built, seeds: tuple[int, ...], workdir: Workdir, dataset: Dataset) -> Built:
    """The row with its teacher, seed by seed; a row without one as it is.

    The teacher's answers are made of its stored parameters and the training split alone.

    Raises:
      InputError: a seed of the teacher has not finished.
    """
    name = teacher_of(built.row)
    if not name:
        return built

    def restore() -> tuple:
        found = {r["seed"]: r for r in workdir.records() if r["row"] == name}
        for seed in seeds:
            status = found.get(seed, {}).get("status", "not trained")
            if status != "done":
                raise InputError(
                    f"row '{built.row.name}' learns from row '{name}', whose seed {seed} is "
                    f"{status}: there is nothing to learn"
                )
        records = [found[seed] for seed in seeds]
        return records, params_of(workdir, records)

    records, params = told(restore)
    sha256 = tuple(record["params_sha256"] for record in records)
    return _with(built, Teacher(build_model(row_of(records[0]), dataset), params, sha256))
