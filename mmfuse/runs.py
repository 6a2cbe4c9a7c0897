"""Finished runs become records: the test split is opened, parameters and records are written."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from mmfuse import export
from mmfuse.ablation import Ablation
from mmfuse.build import Built
from mmfuse.checkpoint import save_params, sha256_file
from mmfuse.data.loader import Dataset
from mmfuse.loop import Run, predict, selected_by
from mmfuse.parallel import Devices
from mmfuse.processes import first
from mmfuse.programs import Executables
from mmfuse.record import code_sha256, git_state, sha256_json, versions
from mmfuse.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class Setting:
    """What all records of one launch share."""

    ablation: Ablation
    dataset: Dataset
    devices: Devices
    versions: dict = dataclasses.field(default_factory=versions)
    git: dict = dataclasses.field(default_factory=git_state)
    code: str = dataclasses.field(default_factory=code_sha256)

    def common(self) -> dict[str, Any]:
        """The fields of a record that do not depend on the row."""
        card = self.dataset.card
        return {
            "primary": self.ablation.metric,
            "reference": references(card, self.dataset.modalities, self.ablation.metric),
            "device": {"kind": self.devices.kind, "count": self.devices.count},
            "mode": self.devices.mode,
            "versions": self.versions,
            "git": self.git,
            "code_sha256": self.code,
            "data": {
                "name": card["name"],
                "fingerprint": self.dataset.fingerprint,
                "card": card,
            },
        }


def references(card: dict, modalities: tuple[str, ...], metric: str) -> list[dict]:
    """Known values for the table's last rows: those of the card's ``references``, which its builder
    computed from the data, chance, and the optimum where the data has one.
    """
    noted, optima = list(card.get("references", [])), _optima(card, metric)
    full = "+".join(sorted(modalities))
    names = {"chance": "chance (most frequent class)", full: f"Bayes optimum ({full})"}
    names[f"{full} (pooled)"] = f"Bayes optimum ({full}), pooled over time"
    return noted + [
        {"name": name, "metric": metric, "value": optima[key]}
        for key, name in names.items()
        if key in optima
    ]


def _optima(card: dict, metric: str) -> dict[str, float]:
    """The card's ``optima``, if they are of this metric: of ``optima_of``, or the accuracy."""
    return card.get("optima", {}) if metric == card.get("optima_of", "accuracy") else {}


def finish(
    setting: Setting,
    workdir: Workdir,
    built: Built,
    seeds: tuple[int, ...],
    run: Run,
    executables: Executables,
    clock: dict,
    report: Callable[[str, Any], None] = lambda event, value: None,
) -> list[dict]:
    """Opens the test split once for this group, and writes parameters and records of its seeds.

    Of several processes each evaluates its share; only the first one writes and returns records.
    ``report`` hears ("finished", record) just before a record is written: a kill between the two
    is repaired when the run is resumed.
    """
    dataset = setting.dataset
    diverged = jax.device_get(run.state.diverged_at)
    opening = {"run": f"{built.row.name}, seeds {', '.join(map(str, seeds))}", "purpose": "score"}
    opened = {"test_openings": workdir.note_opening(opening) if first() else []}
    batches = dataset.open_test(built.settings.eval_batch, **opening)
    scores, predicted = predict(executables, dataset.task, run.selection.params, batches)
    predicted |= {"group": dataset.test_groups()}
    if not first():
        return []
    compressed = setting.ablation.compressed
    exported = _exported(built, run, diverged, dataset) if compressed else {}
    group = (
        setting.common()
        | _of_row(setting, built, seeds)
        | {
            "test_opening": opening,
            "clock": clock | {"train_seconds": run.seconds} | opened | exported,
        }
    )
    records = []
    for lane, seed in enumerate(seeds):
        params = jax.tree.map(lambda x, lane=lane: x[lane], run.selection.params)
        record = group | _of_seed(run, lane, int(diverged[lane]), scores[lane]) | {"seed": seed}
        record |= _saved(workdir.seed(built.row.name, seed), params, predicted, lane)
        if compressed and record["status"] == "done":
            record |= export.costs(built, params, dataset.batch("train", range(1)))
        record["selected"]["by"] = selected_by(built.settings.select)
        report("finished", record)
        workdir.write_record(record)
        records.append(record)
    return records


def _of_row(setting: Setting, built: Built, seeds: tuple[int, ...]) -> dict[str, Any]:
    """The fields of a record that all seeds of a row and group share."""
    config = config_of(setting.ablation, built)
    return {
        "row": built.row.name,
        "config": config,
        "config_sha256": sha256_json(config),
        "row_config": built.row.differs,
        "parameters": built.parameters,
        "objective_parameters": built.objective_parameters,
        "flops_per_example": built.flops,
        "budget_missed": built.row.budget_missed,
        "reads": list(built.reads),
        "reference_row": _optima(setting.dataset.card, setting.ablation.metric).get(
            "+".join(built.reads)
        ),
        "memory": {"activation_bytes_per_example": built.activation_bytes},
        "fusion_sha256": sha256_file(inspect.getfile(type(built.model.fusion))),
        "replica_width": len(seeds),
        "seeds_in_group": list(seeds),
    }


def _of_seed(run: Run, lane: int, diverged_at: int, score: dict) -> dict[str, Any]:
    """What became of one replica; one that diverged, at a step >= 0, has no score."""
    good, epoch = diverged_at < 0, run.selection.epoch[lane]
    return {
        "status": "done" if good else "diverged",
        "diverged_at": None if good else diverged_at,
        "metrics": {
            "valid": run.curves["valid"][epoch][lane] if good else {},
            "test": score if good else {},
        },
        "curves": {
            split: [each[lane] for each in curve if each[lane] is not None]
            for split, curve in run.curves.items()
        },
        "selected": {"epoch": epoch, "step": run.selection.step[lane]},
    }


def _exported(built: Built, run: Run, diverged: Any, dataset: Dataset) -> dict[str, Any]:
    """Bytes and latency of the exported model of the first seed that came through: for the clock.

    Bytes too, since they depend on how zlib, lzma and JAX write.
    """
    lanes = [lane for lane, step in enumerate(diverged) if step < 0]
    if not lanes:
        return {}
    params = jax.tree.map(lambda x: x[lanes[0]], run.selection.params)
    files = export.files(built, params, dataset, {"row": built.row.name})
    return {
        "exported_bytes": sum(map(len, files.values())),
        "latency_seconds": export.latency(files, dataset),
    }


def _saved(folder: Path, params: Any, predicted: dict[str, Any], lane: int) -> dict[str, str]:
    """Writes the parameters and the predictions of one replica; returns the sha256 of both."""
    output = jax.tree.map(lambda x: x[lane], predicted["output"])
    kept = {"output": output, "label": predicted["label"]}
    if predicted["group"] is not None:
        kept["group"] = predicted["group"]
    return {
        "params_sha256": _save(folder / "params.npz", params),
        "predictions_sha256": _save(folder / "predictions.npz", kept),
    }


def _save(path, params) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_params(path, params)
    return sha256_file(path)


def config_of(ablation: Ablation, built: Built) -> dict:
    """The config of a row's runs: what all rows share, and the row's own."""
    shared = {key: value for key, value in ablation.identity().items() if key != "rows"}
    return shared | built.row.as_dict()
