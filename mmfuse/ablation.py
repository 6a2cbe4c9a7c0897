"""What a config means: the rows of the table, checked before anything is written.

A config says what is common to all rows; ``config.rows`` maps a row's name to what differs: a
``fusion`` entry replaces the base's whole ``fusion``, so that no field of one method is left behind
for another; ``train`` and ``encoders`` entries are merged.
"""

from __future__ import annotations

import dataclasses
import math
import re

from ml_collections import ConfigDict

from mmfuse.errors import InputError, listed, nearest
from mmfuse.optim import OPTIMISERS, SCHEDULES
from mmfuse.own import on_own_files
from mmfuse.parallel import MODES
from mmfuse.published import check_conditions
from mmfuse.tasks import METRICS
from mmfuse.train import LAST, TrainSettings
from mmfuse.transforms import LISTS, build_transforms

OWN_FILES = ("manifest", "allow")  # keys of data that on_own_files puts in the builder's words
SECTIONS = {  # section: its keys, or None where the entries are checked by what they configure
    **dict.fromkeys(("name", "seeds", "baseline", "metric", "conditions")),
    "data": {"name", "builder", "preprocess", "resident_bytes", *OWN_FILES, *LISTS},
    "kinds": None,
    "encoders": None,
    "fusion": None,
    "head": None,
    "budget": None,
    "train": {field.name for field in dataclasses.fields(TrainSettings)},
    "parallel": {"mode", "devices", "replicas"},
    "rows": None,
    "tune": {"space", "seed", "metric", "together"},  # what experiments.tune reads
}
REQUIRED = ("seeds", "metric", "data", "encoders", "train", "parallel", "rows")
BUDGETS = ("params", "flops")
ROW_SECTIONS = ("fusion", "train", "encoders")
NESTED = (  # what must have keys of its own, outer before inner; * = every key
    "data", "data.builder", "data.preprocess", "data.preprocess.*", "encoders", "encoders.*",
    "conditions", "kinds", "kinds.*", "kinds.*.preprocess", "kinds.*.encoder", "fusion", "head",
    "budget", "train", "parallel", "tune", "tune.space", "rows", "rows.*", "rows.*.fusion",
    "rows.*.train", "rows.*.encoders", "rows.*.encoders.*",
)  # fmt: skip
DEFAULTS = {
    "data": {
        "builder": {},
        "resident_bytes": 2**31,
        **dict.fromkeys(OWN_FILES, ""),
        **dict.fromkeys(LISTS, ()),
    },
    "train": dataclasses.asdict(TrainSettings()),
    "parallel": {"mode": "pmap", "devices": 0, "replicas": 0},
}


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of the table: its name, its fusion entry, and the settings it trains with."""

    name: str
    fusion: dict
    encoders: dict
    train: TrainSettings
    differs: dict  # what the config file says of this row alone
    budget_missed: bool = False  # no width brings it to the budget of the ablation
    head: dict = dataclasses.field(default_factory=dict)  # the same in all rows

    def as_dict(self) -> dict:
        """The row's resolved settings as plain data, for the record."""
        return {
            "fusion": self.fusion,
            "encoders": self.encoders,
            "train": dataclasses.asdict(self.train),
            **({"head": self.head} if self.head else {}),
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
    _check_sections(plain)
    if plain["data"].get("manifest") or plain["data"].get("name") == "manifest":
        plain = on_own_files(plain)
    seeds, rows = _seeds(plain["seeds"]), []
    for name, differs in plain["rows"].items():
        _known(differs, ROW_SECTIONS, f"config.rows['{name}']")
        fusion = differs.get("fusion", plain.get("fusion"))
        _named(fusion or {}, f"row '{name}' needs a fusion entry with a name")
        encoders = merged(plain["encoders"], differs.get("encoders", {}))
        for modality, fields in encoders.items():
            _named(fields, f"config.encoders.{modality} needs a name")
        train = train_settings(merged(plain["train"], differs.get("train", {})), name)
        rows.append(Row(name, fusion, encoders, train, differs, head=plain.get("head", {})))
    if not rows:
        raise InputError("config.rows is empty: an ablation needs at least one row")
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
        metric=_one_of(plain["metric"], METRICS, "config.metric"),
        data=_data(plain["data"]),
        parallel=_parallel(plain["parallel"], len(seeds)),
        rows=tuple(rows),
        budget=_budget(plain.get("budget", {})),
        conditions=check_conditions(plain.get("conditions", {}), "config.conditions"),
    )


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


def _known(found, allowed, where: str) -> None:
    for key in found:
        if key not in allowed:
            raise InputError(
                f"unknown key '{key}' in {where}{nearest(key, allowed)}{listed(sorted(allowed))}"
            )


def _named(fields: dict, problem: str) -> None:
    if not isinstance(fields.get("name"), str) or not fields["name"]:
        raise InputError(problem)


def add_defaults(config: ConfigDict) -> None:
    """Adds every key that a config may leave out, so that the command line can set it."""
    for section, defaults in DEFAULTS.items():
        if isinstance(config.get(section), ConfigDict):
            for key in defaults.keys() - config[section].keys():
                with config.unlocked():
                    config[section][key] = defaults[key]


def _check_sections(config: dict) -> None:
    _known(config, SECTIONS, "config")
    for key in REQUIRED:
        if key not in config:
            raise InputError(f"config.{key} is missing")
    for path in NESTED:
        found = [("config", config)]
        for part in path.split("."):
            found = [
                (f"{where}.{key}", value[key])
                for where, value in found
                for key in (value if part == "*" else [part])
                if key in value
            ]
        for where, value in found:
            if not isinstance(value, dict):
                raise InputError(f"{where} must be a section with keys, got {value!r}")
    for section, keys in SECTIONS.items():
        if keys is not None:
            _known(config.get(section, {}), keys, f"config.{section}")


def _one_of(value: str, allowed, where: str) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise InputError(
            f"unknown {where} '{value}'; allowed: {', '.join(allowed)}{nearest(value, allowed)}"
        )
    return value


def _seeds(seeds: list) -> tuple[int, ...]:
    if not isinstance(seeds, list):
        raise InputError(f"config.seeds must be a list such as (0, 1, 2), got {seeds!r}")
    if not seeds:
        raise InputError("config.seeds is empty: give at least one seed")
    for seed in seeds:
        if type(seed) is not int or not 0 <= seed < 2**32:
            raise InputError(f"config.seeds: {seed!r} is not an integer in 0..{2**32 - 1}")
    double = [seed for seed in seeds if seeds.count(seed) > 1]
    if double:
        raise InputError(f"config.seeds: seed {double[0]} is given {seeds.count(double[0])} times")
    return tuple(seeds)


def train_settings(train: dict, row: str) -> TrainSettings:
    """Checks types and ranges of the training settings of one row."""
    where = f"config.train (row '{row}')"
    _known(train, SECTIONS["train"], where)
    for field in dataclasses.fields(TrainSettings):
        value, kind = train.get(field.name, field.default), type(field.default)
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if (kind is str) != isinstance(value, str) or (kind is int and not isinstance(value, int)):
            raise InputError(f"{where}.{field.name}: expected {kind.__name__}, got {value!r}")
        if kind is not str and not (number and math.isfinite(value) and value >= 0):
            raise InputError(f"{where}.{field.name} must be finite and >= 0, got {value}")
    settings = TrainSettings(**train)
    for name in ("lr", "epochs", "batch", "eval_batch", "steps_per_dispatch"):
        if getattr(settings, name) <= 0:
            raise InputError(f"{where}.{name} must be > 0, got {getattr(settings, name)}")
    if settings.label_smoothing >= 1:
        raise InputError(f"{where}.label_smoothing must be < 1, got {settings.label_smoothing}")
    _one_of(settings.optimizer, OPTIMISERS, f"{where}.optimizer")
    _one_of(settings.schedule, SCHEDULES, f"{where}.schedule")
    if re.match(r"test(?![a-z])", settings.select):
        raise InputError(
            f"{where}.select '{settings.select}': an epoch is chosen on validation, never on test, "
            "which is opened once, after that"
        )
    _one_of(settings.select, (*METRICS, LAST), f"{where}.select")
    return settings


def _data(data: dict) -> dict:
    for key in ("name", "preprocess"):
        if not data.get(key):
            raise InputError(f"config.data.{key} is missing")
    for modality, fields in data["preprocess"].items():
        _named(fields, f"config.data.preprocess.{modality} needs a name")
    if data.get("allow"):
        raise InputError("config.data.allow is about a manifest, but config.data.manifest is empty")
    data = {key: v for key, v in (DEFAULTS["data"] | data).items() if key not in OWN_FILES}
    size = data["resident_bytes"]
    if not isinstance(size, int | float) or not 0 <= size < math.inf:
        raise InputError(f"config.data.resident_bytes must be a number of bytes, got {size!r}")
    for which in LISTS:
        build_transforms(data, which)  # checked here; made again where the data is known
    return data | {which: list(data[which]) for which in LISTS}


def _budget(budget: dict) -> dict:
    _known(budget, BUDGETS, "config.budget")
    if len(budget) > 1:
        raise InputError("config.budget has params and flops; rows can be equal in one of them")
    for kind, amount in budget.items():
        if type(amount) is not int or amount < 1:
            raise InputError(f"config.budget.{kind} must be a whole number >= 1, got {amount!r}")
    return budget


def _parallel(parallel: dict, seeds: int) -> dict:
    parallel = DEFAULTS["parallel"] | parallel
    _one_of(parallel["mode"], MODES, "config.parallel.mode")
    for key in ("devices", "replicas"):
        if not isinstance(parallel[key], int) or parallel[key] < 0:
            raise InputError(f"config.parallel.{key} must be an integer >= 0, got {parallel[key]}")
    if parallel["replicas"] and seeds % parallel["replicas"]:
        raise InputError(
            f"config.parallel.replicas {parallel['replicas']} does not divide the {seeds} seeds: "
            "the number of seeds trained together is part of a run's identity"
        )
    return parallel
