"""What a config means: the rows of the table, checked before anything is written.

A config says what is common to all rows; ``config.rows`` maps a row's name to what differs: a
``fusion`` entry replaces the base's whole ``fusion``, so that no field of one method is left behind
for another, and so do ``objectives``; ``train``, ``encoders`` and ``head`` entries are merged.
"""

from __future__ import annotations

import dataclasses

from ml_collections import ConfigDict

from mmfuse.compression import build_compression
from mmfuse.errors import InputError, listed, nearest
from mmfuse.objectives import build_objectives
from mmfuse.own import on_own_files
from mmfuse.published import check_conditions
from mmfuse.sections import (
    DEFAULTS,
    ROW_SECTIONS,
    check_budget,
    check_data,
    check_known,
    check_modalities,
    check_named,
    check_parallel,
    check_sections,
    check_seeds,
    one_of,
    train_settings,
)  # fmt: skip
from mmfuse.settings import TrainSettings
from mmfuse.tasks import METRICS

OPTIONAL = ("head", "modalities", "objectives", "compression")  # in a record where there are any


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of the table: its name, its fusion entry, and the settings it trains with."""

    name: str
    fusion: dict
    encoders: dict
    train: TrainSettings
    differs: dict  # what the config file says of this row alone
    budget_missed: bool = False  # no width brings it to the budget of the ablation
    head: dict = dataclasses.field(default_factory=dict)
    modalities: list[str] = dataclasses.field(default_factory=list)  # that it gets; [] = all
    objectives: dict = dataclasses.field(default_factory=dict)  # {name: fields}, beside the task's
    compression: dict = dataclasses.field(default_factory=dict)  # a name and fields; {} = none
    baseline: str = ""  # the row that a table compares it with; "" = that of the ablation

    def as_dict(self) -> dict:
        """The row's resolved settings as plain data, for the record."""
        return {
            "fusion": self.fusion,
            "encoders": self.encoders,
            "train": dataclasses.asdict(self.train),
            **{name: getattr(self, name) for name in OPTIONAL if getattr(self, name)},
        }


@dataclasses.dataclass(frozen=True)
class Ablation:
    """A resolved config: what all rows share, and the rows in the order of the table."""

    name: str
    seeds: tuple[int, ...]
    baseline: str
    metric: str
    data: dict
    parallel: dict
    rows: tuple[Row, ...]
    budget: dict  # {} or {"params": N} or {"flops": N}, what every row is to cost
    conditions: dict  # in words, see mmfuse.published; what a figure of others is compared by
    tuned: dict = dataclasses.field(default_factory=dict)  # how the rows' settings were found

    @property
    def baselines(self) -> dict[str, str]:
        """``{row: the row it is compared with}`` of the rows that have a baseline of their own."""
        return {row.name: row.baseline for row in self.rows if row.baseline}

    @property
    def compressed(self) -> bool:
        """Whether some row is compressed: then the records of all tell what the model takes."""
        return any(row.compression for row in self.rows)

    def identity(self) -> dict:
        """What a workdir is bound to; rows may be added later, nothing else may change."""
        return {
            "name": self.name,
            "seeds": list(self.seeds),
            "metric": self.metric,
            "data": self.data,
            "parallel": self.parallel,
            "budget": self.budget,
            "rows": {row.name: row.as_dict() for row in self.rows},
        } | ({"tuned": self.tuned} if self.tuned else {})

    def groups(self) -> list[tuple[int, ...]]:
        """The seeds, in groups that are trained together as replicas of one program."""
        width = self.parallel["replicas"] or len(self.seeds)
        return [self.seeds[i : i + width] for i in range(0, len(self.seeds), width)]


def resolve(config: ConfigDict) -> Ablation:
    """Checks a config and returns its rows; every problem is an InputError naming key and value."""
    plain = _plain(config)
    check_sections(plain)
    if plain["data"].get("manifest") or plain["data"].get("name") == "manifest":
        plain = on_own_files(plain)
    seeds = check_seeds(plain["seeds"])
    rows = [_row(name, entry, plain) for name, entry in plain["rows"].items()]
    if not rows:
        raise InputError("config.rows is empty: an ablation needs at least one row")
    _check_others(plain["rows"])
    baseline = plain.get("baseline", "")
    if baseline and baseline not in plain["rows"]:
        raise InputError(
            f"config.baseline '{baseline}' is no row{nearest(baseline, plain['rows'])}"
            f"{listed(list(plain['rows']))}"
        )
    return Ablation(
        name=plain.get("name", ""),
        seeds=seeds,
        baseline=baseline,
        metric=one_of(plain["metric"], METRICS, "config.metric"),
        data=check_data(plain["data"]),
        parallel=check_parallel(plain["parallel"], len(seeds)),
        rows=tuple(rows),
        budget=check_budget(plain.get("budget", {})),
        conditions=check_conditions(plain.get("conditions", {}), "config.conditions"),
    )


def _row(name: str, entry: dict, plain: dict) -> Row:
    """One row, checked: ``entry`` is what differs from all that ``plain``, the config, says."""
    differs = dict(entry)
    check_known(differs, ROW_SECTIONS, f"config.rows['{name}']")
    fusion = differs.get("fusion", plain.get("fusion"))
    check_named(fusion or {}, f"row '{name}' needs a fusion entry with a name")
    encoders = merged(plain["encoders"], differs.get("encoders", {}))
    for modality, fields in encoders.items():
        check_named(fields, f"config.encoders.{modality} needs a name")
    if differs.get("compression"):
        check_named(differs["compression"], f"row '{name}': its compression needs a name")
        build_compression(differs["compression"], f"config.rows['{name}']")
    baseline = differs.pop("baseline", "")  # changes nothing about the run
    train = train_settings(merged(plain["train"], differs.get("train", {})), name)
    return Row(
        name,
        fusion,
        encoders,
        train,
        differs,
        head=merged(plain.get("head", {}), differs.get("head", {})),
        modalities=check_modalities(differs.get("modalities", []), name),
        objectives=_objectives(differs, plain, name),
        compression=differs.get("compression", {}),
        baseline=baseline,
    )


def _check_others(rows: dict[str, dict]) -> None:
    """Checks the rows that a row names: its baseline, and its teacher, who learns from others."""
    for name, differs in rows.items():
        other, teacher = differs.get("baseline", ""), _teacher(differs)
        for key, found in (("baseline", other), ("compression.teacher", teacher)):
            if found and (found not in rows or found == name):
                raise InputError(
                    f"config.rows['{name}'].{key} '{found}' is no other row"
                    f"{nearest(found, rows)}{listed(rows)}"
                )
    for name, differs in rows.items():
        seen, teacher = {name}, _teacher(differs)
        while teacher:
            if teacher in seen:
                raise InputError(f"config.rows['{name}']: rows that learn from it teach it")
            seen.add(teacher)
            teacher = _teacher(rows[teacher])


def _teacher(differs: dict) -> str:
    return differs.get("compression", {}).get("teacher", "")


def _objectives(differs: dict, plain: dict, row: str) -> dict:
    """The row's own objectives or those of all rows, checked."""
    entries = differs.get("objectives", plain.get("objectives", {}))
    build_objectives(entries, f"row '{row}'")  # made again where the data is known
    return entries


def _plain(value):
    """Dicts and lists; in the order of the file, where ConfigDict's own iterators sort by key."""
    if isinstance(value, ConfigDict):
        value = {key: value[key] for key in value._fields}
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (tuple, list)) else value


def merged(base: dict, over: dict) -> dict:
    """``base`` with ``over`` merged in; an encoder that names another kind replaces the whole."""
    out = dict(base)
    for key, value in over.items():
        merge = isinstance(value, dict) and isinstance(out.get(key), dict) and "name" not in value
        out[key] = merged(out[key], value) if merge else value
    return out


def add_defaults(config: ConfigDict) -> None:
    """Adds every key that a config may leave out, so that the command line can set it."""
    for section, defaults in DEFAULTS.items():
        if isinstance(config.get(section), ConfigDict):
            for key in defaults.keys() - config[section].keys():
                with config.unlocked():
                    config[section][key] = defaults[key]
