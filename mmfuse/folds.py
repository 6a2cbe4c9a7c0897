"""Folds: an ablation trained once a fold, and the runs of one (row, seed) pooled to one record.

``config.data.folds = {field: values}`` names a field of ``config.data.builder`` and the values that
it takes in turn, such that every example is tested once. What a run says of the test parts of all
folds is scored as one test split, so that a metric which is no mean over examples (F1, unweighted
recall) is that of all examples, not a mean over parts that lack a class. Which fold an example
belongs to is kept beside the outputs, so that tables can count folds, not examples, as what was
drawn: ten speakers are ten, however much each of them says.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from mmfuse.ablation import Ablation
from mmfuse.checkpoint import sha256_file
from mmfuse.errors import InputError
from mmfuse.params import save_params
from mmfuse.record import sha256_json
from mmfuse.tasks import make_task
from mmfuse.workdir import Workdir


def each_fold(ablation: Ablation) -> dict[str, Ablation]:
    """``{name: the ablation of a fold}``, such as ``speaker=3``, in the order of the config."""
    ((field, values),) = ablation.data["folds"].items()
    rest = {key: value for key, value in ablation.data.items() if key != "folds"}
    return {
        f"{field}={value}": dataclasses.replace(
            ablation, data=rest | {"builder": rest["builder"] | {field: value}}
        )
        for value in values
    }


def pool(ablation: Ablation, workdir: Workdir, folds: Mapping[str, Workdir]) -> list[dict]:
    """Writes a record of every (row, seed) that all folds have finished; returns them.

    A run that did not come through in one fold has no score, and says what became of it.

    Raises:
      InputError: the task keeps scores of examples and not what the model answered.
    """
    found = {name: {(r["row"], r["seed"]): r for r in w.records()} for name, w in folds.items()}
    shared = [key for key in next(iter(found.values())) if all(key in of for of in found.values())]
    records = []
    for row, seed in shared:
        runs = [of[row, seed] for of in found.values()]
        said = [fold.predictions(row, seed) for fold in folds.values()]
        path = workdir.seed(row, seed) / "predictions.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        together = joined(said)
        save_params(path, together)
        record = pooled(ablation, runs, together) | {"predictions_sha256": sha256_file(path)}
        workdir.write_record(record)
        records.append(record)
    return records


def joined(said: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Outputs and labels of the folds' test parts one after the other, and ``fold`` int [N]."""
    for each in said:
        if isinstance(each["output"], Mapping) or isinstance(each["label"], Mapping):
            raise InputError("config.data.folds: folds of this task cannot be pooled; it keeps "
                             "scores of examples, not what the model answered")  # fmt: skip
    together = {name: np.concatenate([each[name] for each in said]) for name in ("output", "label")}
    return together | {
        "fold": np.repeat(np.arange(len(said)), [len(each["label"]) for each in said])
    }


def pooled(ablation: Ablation, runs: Sequence[Mapping[str, Any]], said: Mapping) -> dict[str, Any]:
    """One record of the runs of all folds, in the order of ``ablation.data["folds"]``.

    The test metrics are those of all test parts together; validation metrics are means over folds,
    as validation parts overlap; costs are summed; what folds do not share is left out.
    """
    first = runs[0]
    lost = [run for run in runs if run["status"] != "done"]
    config = first["config"] | {"data": ablation.data}
    card = _shared([run["data"]["card"] for run in runs]) | {"folds": ablation.data["folds"]}
    prints = [run["data"]["fingerprint"] for run in runs]
    return {
        key: first[key] for key in first if key not in ("params_sha256", "curves", "format")
    } | {
        "status": lost[0]["status"] if lost else "done",
        "diverged_at": lost[0].get("diverged_at") if lost else None,
        "config": config,
        "config_sha256": sha256_json(config),
        "metrics": {
            "valid": {} if lost else _means([run["metrics"]["valid"] for run in runs]),
            "test": {} if lost else _scores(card, said),
        },
        "selected": {"by": first["selected"]["by"]},
        "reference": _references([run["reference"] for run in runs]),
        "parameters": round(np.mean([run["parameters"] for run in runs])),
        "clock": _clock([run["clock"] for run in runs]),
        "data": {
            "name": first["data"]["name"],
            "fingerprint": hashlib.sha256("".join(prints).encode()).hexdigest(),
            "card": card,
        },
    }


def _scores(card: Mapping[str, Any], said: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """All test metrics of the task, from outputs and labels."""
    task, output, label = make_task(card), jnp.asarray(said["output"]), jnp.asarray(said["label"])
    sums = task.sums(output, label, jnp.ones(len(label), jnp.float32))
    sums |= {"loss": jnp.sum(task.loss(output, label)), "count": len(label)}
    return task.finalise({name: np.asarray(value) for name, value in sums.items()})


def _means(metrics: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Means over folds of the metrics that are numbers in all of them."""
    numbers = [
        name
        for name in metrics[0]
        if all(isinstance(m.get(name), float) and math.isfinite(m[name]) for m in metrics)
    ]
    return {name: math.fsum(m[name] for m in metrics) / len(metrics) for name in numbers}


def _shared(cards: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {k: v for k, v in cards[0].items() if all(card.get(k) == v for card in cards)}


def _references(found: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """The known values that all folds have: as they are if equal, else their mean, which is named.

    Those that a fold lacks are left out.
    """
    values = [
        {(entry["name"], entry["metric"]): entry["value"] for entry in fold} for fold in found
    ]
    kept = []
    for entry in found[0]:
        key = entry["name"], entry["metric"]
        if all(key in of for of in values):
            kept.append(_mean_reference(entry, [of[key] for of in values]))
    return kept


def _mean_reference(entry: Mapping[str, Any], values: Sequence[float]) -> dict[str, Any]:
    if all(value == values[0] for value in values):
        return dict(entry)
    mean = math.fsum(values) / len(values)
    return entry | {"name": f"{entry['name']}, mean of the folds", "value": mean}


def _clock(clocks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Seconds are summed, and so are lists of times."""
    return {
        name: sum((clock[name] for clock in clocks), type(value)())
        for name, value in clocks[0].items()
        if isinstance(value, float | list) and all(name in clock for clock in clocks)
    }
