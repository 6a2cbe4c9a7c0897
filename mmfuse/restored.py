"""A finished ablation as models again: its rows, and the parameters of their finished seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from mmfuse.ablation import OPTIONAL, Ablation, Row
from mmfuse.build import Built, build
from mmfuse.checkpoint import sha256_file
from mmfuse.data.loader import Dataset, open_dataset
from mmfuse.errors import InputError
from mmfuse.parallel import Devices
from mmfuse.params import load_params
from mmfuse.settings import TrainSettings
from mmfuse.workdir import FOLDS, Workdir


@dataclasses.dataclass(frozen=True)
class Finished:
    """A row and its finished seeds, in numerical order; ``params`` are numpy, leaves [R, ...]."""

    built: Built
    seeds: tuple[int, ...]
    params: Any
    records: tuple[dict, ...]

    @property
    def name(self) -> str:
        """The row's name in the config."""
        return self.built.row.name


def restore_ablation(workdir: Workdir) -> Ablation:
    """What the config of a workdir meant; widths that a budget has solved are in the records.

    Raises:
      InputError: its records are pooled of folds, whose parameters lie with the folds.
    """
    content = workdir.ablation()
    identity = content["identity"]
    if "folds" in identity["data"]:
        raise InputError(f"'{workdir.path}' is pooled of folds: give one of those, "
                         f"in '{workdir.path / FOLDS}'")  # fmt: skip
    rows = tuple(_row(name, identity["rows"][name]) for name in content["row_order"])
    return Ablation(
        name=identity["name"],
        seeds=tuple(identity["seeds"]),
        baseline=content.get("baseline", ""),
        metric=identity["metric"],
        data=identity["data"],
        parallel=identity["parallel"],
        rows=rows,
        budget=identity["budget"],
        conditions=content.get("conditions", {}),
    )


def finished_records(workdir: Workdir) -> dict[str, tuple[dict, ...]]:
    """The records of the finished seeds of every row that has one, in the order of the config.

    Raises:
      InputError: there is none.
    """
    done = [record for record in workdir.records() if record["status"] == "done"]
    if not done:
        raise InputError(f"workdir '{workdir.path}' holds no finished run yet")
    rows: dict[str, tuple[dict, ...]] = {}
    for record in done:
        rows[record["row"]] = (*rows.get(record["row"], ()), record)
    return rows


def restore_dataset(workdir: Workdir, data: Mapping[str, Any], **places: str | None) -> Dataset:
    """The dataset of a workdir's runs; ``data`` and ``places`` as in ``open_dataset``.

    Raises:
      InputError: it is not what the runs were trained on.
    """
    dataset = open_dataset(data, **places)
    wanted = workdir.ablation()["identity"].get("data_fingerprint")
    if dataset.fingerprint != wanted:
        raise InputError(
            f"the data differs from what '{workdir.path}' was trained on: fingerprint "
            f"{dataset.fingerprint[:12]}, there {str(wanted)[:12]}; prepare the same files"
        )
    return dataset


def restore_row(
    workdir: Workdir,
    records: tuple[dict, ...],
    dataset: Dataset,
    devices: Devices,
    ablation: Ablation,
) -> Finished:
    """The row of these records with the parameters that its runs have kept.

    Raises:
      InputError: a file of parameters is missing, or is not the one that its record tells of.
    """
    row, params = row_of(records[0]), params_of(workdir, records)
    seeds = tuple(record["seed"] for record in records)
    return Finished(build(row, dataset, devices, ablation), seeds, params, records)


def row_of(record: dict) -> Row:
    """The row of a record, as it was trained."""
    return _row(record["row"], record["config"])


def params_of(workdir: Workdir, records: Sequence[dict]) -> Any:
    """The parameters that the runs of these records have kept, numpy, leaves [R, ...].

    Raises:
      InputError: as ``restore_row``.
    """
    params = [_params(workdir, record) for record in records]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *params)


def _row(name: str, fields: dict) -> Row:
    more = {key: fields[key] for key in OPTIONAL if key in fields}
    train = TrainSettings(**fields["train"])
    return Row(name, fields["fusion"], fields["encoders"], train, {}, **more)


def _params(workdir: Workdir, record: dict) -> Any:
    path = workdir.seed(record["row"], record["seed"]) / "params.npz"
    if not path.is_file():
        raise InputError(f"'{path}' is missing: the run's parameters are needed to probe it")
    if sha256_file(path) != record["params_sha256"]:
        raise InputError(f"'{path}' is not the file that its record.json tells of")
    return load_params(path)
