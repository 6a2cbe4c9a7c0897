"""The search of a tuning: the same settings, in the same order, for every row of the table.

``config.tune`` says what is searched; all of it has defaults::

    config.tune = {
        "space": {"train": {"lr": ("log", 1e-4, 1e-2), "batch": ("choice", 16, 32)}},
        "seed": 4294967295,     # of the trials; none of config.seeds, which the table reports
        "metric": "accuracy",   # its validation value is a trial's score; config.metric
        "together": 0,          # trials that train as replicas of one program; 0 = all that can
    }

The search is random: trial k of every row has the settings ``draw(k)``, a pure function of the
seed and k. So rows are compared on the very same settings, a killed trial is the same when it runs
again, and the trials of a row are independent, which the expected best of n trials asks for. No
trial is cut short: each has the whole budget of epochs.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mmfuse.ablation import Ablation, Row, merged
from mmfuse.budget import SCALED
from mmfuse.encoders import ENCODERS
from mmfuse.errors import InputError, listed, nearest
from mmfuse.fusion import find_fusion
from mmfuse.optim import PER_REPLICA
from mmfuse.record import flatten, plain
from mmfuse.sections import train_settings
from mmfuse.tasks import METRICS

KINDS = ("log", "uniform", "integer", "choice")
DEFAULT_SPACE = {"train": {"lr": ["log", 1e-4, 1e-2], "weight_decay": ["log", 1e-3, 1.0]}}
DEFAULT_SEED = 2**32 - 1  # far from those that people report
TUNABLE = (
    "epochs", "batch", "optimizer", "lr", "schedule", "warmup", "momentum", "weight_decay",
    "clip_norm", "label_smoothing", "patience",
)  # fmt: skip
Values = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Search:
    """What is searched, how often, and by which validation score."""

    trials: int
    seed: int
    metric: str
    space: dict[str, list]  # {"train.lr": ["log", low, high]}
    together: int

    def facts(self) -> dict[str, Any]:
        """What all records of a tuned table share."""
        names = ("trials", "seed", "metric", "space")
        return {name: getattr(self, name) for name in names}

    def draw(self, trial: int) -> Values:
        """The settings of trial number ``trial``, drawn by optuna's random sampler."""
        from optuna.samplers import RandomSampler

        key = np.random.SeedSequence([self.seed, trial]).generate_state(1)
        sampler = RandomSampler(seed=int(key[0]))
        return {  # It looks at neither study nor trial; that is what makes it independent.
            name: sampler.sample_independent(None, None, name, distribution)
            for name, distribution in self.distributions().items()
        }

    def distributions(self) -> dict[str, Any]:
        """The space in optuna's words."""
        return {name: _distribution(*entry) for name, entry in sorted(self.space.items())}


def _distribution(kind: str, *numbers: Any) -> Any:
    from optuna import distributions

    if kind == "choice":
        return distributions.CategoricalDistribution(numbers)
    if kind == "integer":
        return distributions.IntDistribution(*numbers)
    return distributions.FloatDistribution(*numbers, log=kind == "log")


def read_search(
    ablation: Ablation, tune: Mapping[str, Any], trials: int, given: Sequence[str] = ()
) -> Search:
    """The search of a config, checked for every row.

    Args:
      ablation: the resolved config.
      tune: its section ``tune``, in which all may be left out.
      trials: how many each row gets.
      given: ``KEY=KIND,VALUE,...`` of the command line; they replace the whole space.

    Raises:
      InputError: says in one line what is wrong, where, and what is allowed.
    """
    tune = {"space": DEFAULT_SPACE, "seed": DEFAULT_SEED, "together": 0} | plain(tune)
    if type(trials) is not int or trials < 1:
        raise InputError(f"--trials must be a whole number >= 1, got {trials}")
    space = dict(map(_parsed, given)) or flatten(tune["space"])
    if not space:
        raise InputError("config.tune.space is empty: name a setting, such as train.lr")
    for key, entry in space.items():
        where = f"--space={key}" if given else f"config.tune.space.{key}"
        for row in ablation.rows:
            _check_key(key, row, where)
        _check_entry(entry, where)
        if ablation.budget and key in [f"fusion.{width}" for width in SCALED]:
            raise InputError(f"{where}: config.budget sets the width of every row by itself")
    metric = tune.get("metric", ablation.metric)
    if metric not in METRICS:
        raise InputError(
            f"unknown config.tune.metric '{metric}'{nearest(metric, METRICS)}{listed(METRICS)}"
        )
    for name in ("seed", "together"):
        if type(tune[name]) is not int or not 0 <= tune[name] < 2**32:
            raise InputError(f"config.tune.{name}: {tune[name]!r} is not an integer in 0..2^32 - 1")
    if tune["seed"] in ablation.seeds:
        raise InputError(
            f"config.tune.seed {tune['seed']} is one of config.seeds: settings chosen with a seed "
            "must not be reported with it"
        )
    return Search(trials, tune["seed"], metric, space, tune["together"])


def _parsed(text: str) -> tuple[str, list]:
    key, _, rest = text.partition("=")
    kind, *numbers = rest.split(",")
    return key, [kind, *map(_number, numbers)]


def _number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _check_key(key: str, row: Row, where: str) -> None:
    """The setting must be one that this row has too."""
    section, *path = key.split(".")
    levels = {
        "train": lambda: [TUNABLE],
        "fusion": lambda: [_fields(find_fusion(row.fusion["name"]))],
        "encoders": lambda: [row.encoders, _fields(ENCODERS.get(_encoder(row, path)))],
    }
    if section not in levels:
        raise InputError(f"{where}: no section '{section}'{nearest(section, levels)}"
                         f"{listed(levels)}")  # fmt: skip
    allowed = levels[section]()
    if len(path) != len(allowed):
        form = "encoders.MODALITY.FIELD" if section == "encoders" else f"{section}.FIELD"
        raise InputError(f"{where} must have the form {form}")
    for name, names in zip(path, allowed, strict=True):
        if name not in names:
            raise InputError(
                f"{where}: row '{row.name}' has no '{name}' to tune, and every row is searched "
                f"alike{nearest(name, names)}{listed(names)}"
            )


def _fields(module: type | None) -> list[str]:
    fields = dataclasses.fields(module) if module else ()
    return [field.name for field in fields if field.name not in ("parent", "name")]


def _encoder(row: Row, path: Sequence[str]) -> str:
    return row.encoders.get(path[0] if path else "", {}).get("name", "")


def _check_entry(entry: Any, where: str) -> None:
    kind, *numbers = entry if isinstance(entry, list) and entry else [entry]
    if kind not in KINDS:
        raise InputError(f"{where}: unknown kind {kind!r}{nearest(kind, KINDS)}{listed(KINDS)}")
    if kind == "choice":
        scalar = all(isinstance(value, str | int | float) for value in numbers)
        if not scalar or len(numbers) < 2 or len(set(numbers)) != len(numbers):
            raise InputError(f"{where}: choice needs two or more different values, got {numbers}")
        return
    whole = (int,) if kind == "integer" else (int, float)
    if len(numbers) != 2 or any(type(x) not in whole or not math.isfinite(x) for x in numbers):
        what = "whole numbers" if kind == "integer" else "finite numbers"
        raise InputError(f"{where}: {kind} needs two {what}, low and high, got {numbers}")
    low, high = numbers
    if low >= high or (kind == "log" and low <= 0):
        positive = "0 < " if kind == "log" else ""
        raise InputError(f"{where}: {kind} needs {positive}low < high, got {low} and {high}")


def with_values(row: Row, values: Mapping[str, Any]) -> Row:
    """The row with these settings, as if its entry in the config file held them.

    Raises:
      InputError: a value that the setting cannot have.
    """
    changes: dict[str, dict] = {}
    for key, value in values.items():
        *path, last = key.split(".")
        node = changes
        for part in path:
            node = node.setdefault(part, {})
        node[last] = value
    train = dataclasses.asdict(row.train) | changes.get("train", {})
    fusion = row.fusion | changes.get("fusion", {})
    differs = merged(row.differs, {k: v for k, v in changes.items() if k != "fusion"})
    return dataclasses.replace(
        row,
        train=train_settings(train, row.name),
        fusion=fusion,
        encoders=merged(row.encoders, changes.get("encoders", {})),
        differs=differs | ({"fusion": fusion} if "fusion" in changes else {}),
    )


@dataclasses.dataclass(frozen=True)
class Group:
    """Trials of a row that one program trains together, as replicas.

    ``own`` holds the settings that differ between them: {name: one value each}.
    """

    row: Row
    trials: tuple[int, ...]
    own: dict[str, tuple[float, ...]]


def groups(row: Row, search: Search) -> Iterator[Group]:
    """All trials of a row in groups; those that differ in a program's shape cannot share one."""
    alike: dict[str, list[int]] = {}
    rows = [with_values(row, search.draw(trial)) for trial in range(search.trials)]
    for trial, made in enumerate(rows):
        shared = dataclasses.replace(made.train, **dict.fromkeys(PER_REPLICA, 1.0))
        alike.setdefault(repr((shared, made.fusion, made.encoders)), []).append(trial)
    for trials in alike.values():
        for part in _parts(trials, search.together or len(trials)):
            own = {n: tuple(float(getattr(rows[k].train, n)) for k in part) for n in PER_REPLICA}
            yield Group(rows[part[0]], tuple(part), own)


def _parts(items: Sequence[int], width: int) -> Iterable[Sequence[int]]:
    return (items[i : i + width] for i in range(0, len(items), width))
