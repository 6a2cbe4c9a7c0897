"""The sections of a config, and whether each value in them is of the right kind and range.

Every mistake is one InputError that names key and value.
"""

from __future__ import annotations

import dataclasses
import math
import re

from mmfuse.errors import InputError, listed, nearest
from mmfuse.optim import OPTIMISERS, SCHEDULES
from mmfuse.parallel import MODES
from mmfuse.settings import LAST, TrainSettings
from mmfuse.tasks import METRICS
from mmfuse.transforms import LISTS, build_transforms

OWN_FILES = ("manifest", "allow")  # keys of data that on_own_files puts in the builder's words
SECTIONS = {  # section: its keys, or None where the entries are checked by what they configure
    **dict.fromkeys(("name", "seeds", "baseline", "metric", "conditions")),
    "data": {"name", "builder", "preprocess", "folds", "resident_bytes", *OWN_FILES, *LISTS},
    "kinds": None,
    "encoders": None,
    "fusion": None,
    "head": None,
    "objectives": None,
    "budget": None,
    "train": {field.name for field in dataclasses.fields(TrainSettings)},
    "parallel": {"mode", "devices", "replicas"},
    "rows": None,
    "tune": {"space", "seed", "metric", "together"},  # what experiments.tune reads
}
REQUIRED = ("seeds", "metric", "data", "encoders", "train", "parallel", "rows")
BUDGETS = ("params", "flops")
ROW_SECTIONS = (  # what a row may change; the first three are merged, the others replaced whole
    "train", "encoders", "head", "fusion", "modalities", "objectives", "compression", "baseline",
)  # fmt: skip
NESTED = (  # what must have keys of its own, outer before inner; * = every key
    "data", "data.builder", "data.folds", "data.preprocess", "data.preprocess.*", "encoders",
    "encoders.*", "conditions", "objectives", "objectives.*", "kinds", "kinds.*",
    "kinds.*.preprocess", "kinds.*.encoder", "fusion", "head", "budget", "train", "parallel",
    "tune", "tune.space", "rows", "rows.*", "rows.*.fusion", "rows.*.train", "rows.*.encoders",
    "rows.*.encoders.*", "rows.*.head", "rows.*.objectives", "rows.*.objectives.*",
    "rows.*.compression",
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


def check_sections(config: dict) -> None:
    """All keys are known, what must be a section is one, and nothing required is missing."""
    check_known(config, SECTIONS, "config")
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
            check_known(config.get(section, {}), keys, f"config.{section}")


def check_known(found, allowed, where: str) -> None:
    """Each of the keys found is allowed there."""
    for key in found:
        if key not in allowed:
            raise InputError(
                f"unknown key '{key}' in {where}{nearest(key, allowed)}{listed(sorted(allowed))}"
            )


def check_named(fields: dict, problem: str) -> None:
    """The section has a name; else the problem is raised."""
    if not isinstance(fields.get("name"), str) or not fields["name"]:
        raise InputError(problem)


def one_of(value: str, allowed, where: str) -> str:
    """The value, if it is one of those."""
    if not isinstance(value, str) or value not in allowed:
        raise InputError(
            f"unknown {where} '{value}'; allowed: {', '.join(allowed)}{nearest(value, allowed)}"
        )
    return value


def check_seeds(seeds: list) -> tuple[int, ...]:
    """The seeds: whole numbers, at least one, each once."""
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


def check_modalities(names: list, row: str) -> list[str]:
    """What a row reads: names, each once."""
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"config.rows['{row}'].modalities must be a list of names, got {names!r}")
    if len(set(names)) < len(names):
        raise InputError(f"config.rows['{row}'].modalities: a name is given twice: {names}")
    return names


def train_settings(train: dict, row: str) -> TrainSettings:
    """Checks types and ranges of the training settings of one row."""
    where = f"config.train (row '{row}')"
    check_known(train, SECTIONS["train"], where)
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
    one_of(settings.optimizer, OPTIMISERS, f"{where}.optimizer")
    one_of(settings.schedule, SCHEDULES, f"{where}.schedule")
    if re.match(r"test(?![a-z])", settings.select):
        raise InputError(
            f"{where}.select '{settings.select}': an epoch is chosen on validation, never on test, "
            "which is opened once, after that"
        )
    one_of(settings.select, (*METRICS, LAST), f"{where}.select")
    return settings


def check_data(data: dict) -> dict:
    """The data section with its defaults; its transforms must be such as can be built."""
    for key in ("name", "preprocess"):
        if not data.get(key):
            raise InputError(f"config.data.{key} is missing")
    for modality, fields in data["preprocess"].items():
        check_named(fields, f"config.data.preprocess.{modality} needs a name")
    if data.get("allow"):
        raise InputError("config.data.allow is about a manifest, but config.data.manifest is empty")
    data = {key: v for key, v in (DEFAULTS["data"] | data).items() if key not in OWN_FILES}
    size = data["resident_bytes"]
    if not isinstance(size, int | float) or not 0 <= size < math.inf:
        raise InputError(f"config.data.resident_bytes must be a number of bytes, got {size!r}")
    for which in LISTS:
        build_transforms(data, which)  # checked here; made again where the data is known
    if "folds" in data:
        check_folds(data["folds"])
    return data | {which: list(data[which]) for which in LISTS}


def check_folds(folds: dict) -> None:
    """One field of the builder, and the two or more values that it takes in turn."""
    if len(folds) != 1:
        raise InputError(
            f"config.data.folds names one field of config.data.builder, not {len(folds)}"
        )
    ((field, values),) = folds.items()
    if not isinstance(values, list) or len(values) < 2 or len({*map(repr, values)}) < len(values):
        raise InputError(
            f"config.data.folds.{field} must be two or more different values, got {values!r}"
        )


def check_budget(budget: dict) -> dict:
    """The budget: nothing, or an amount of parameters or of FLOPs."""
    check_known(budget, BUDGETS, "config.budget")
    if len(budget) > 1:
        raise InputError("config.budget has params and flops; rows can be equal in one of them")
    for kind, amount in budget.items():
        if type(amount) is not int or amount < 1:
            raise InputError(f"config.budget.{kind} must be a whole number >= 1, got {amount!r}")
    return budget


def check_parallel(parallel: dict, seeds: int) -> dict:
    """The parallel section with its defaults, for so many seeds."""
    parallel = DEFAULTS["parallel"] | parallel
    one_of(parallel["mode"], MODES, "config.parallel.mode")
    for key in ("devices", "replicas"):
        if not isinstance(parallel[key], int) or parallel[key] < 0:
            raise InputError(f"config.parallel.{key} must be an integer >= 0, got {parallel[key]}")
    if parallel["replicas"] and seeds % parallel["replicas"]:
        raise InputError(
            f"config.parallel.replicas {parallel['replicas']} does not divide the {seeds} seeds: "
            "the number of seeds trained together is part of a run's identity"
        )
    return parallel
