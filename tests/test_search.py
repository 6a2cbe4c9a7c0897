"""The search: trial k is a function of its number, alike for every row; mistakes are one line."""

import dataclasses
import itertools
import json
import math

import pytest

from mmfuse.ablation import resolve
from mmfuse.errors import InputError
from mmfuse.optim import PER_REPLICA
from mmfuse.search import DEFAULT_SEED, groups, read_search, with_values
from tests import tiny

SPACE = {
    "train": {
        "lr": ["log", 1e-4, 1e-1],
        "momentum": ["uniform", 0.5, 0.9],
        "batch": ["choice", 16, 32],
        "warmup": ["integer", 0, 3],
    },
    "encoders": {"audio": {"hidden": ["integer", 4, 6]}},
}


def read(tune=None, trials=6, given=(), **config):
    changed = tiny.config()
    changed.update(config)
    return read_search(resolve(changed), tune or {}, trials, given)


def test_a_trial_is_a_function_of_seed_and_number():
    search, fewer = read({"space": SPACE}), read({"space": SPACE}, trials=2)
    reversed_space = {s: dict(reversed(list(v.items()))) for s, v in SPACE.items()}
    drawn = [search.draw(k) for k in range(6)]
    assert len({json.dumps(values) for values in drawn}) == 6
    assert [fewer.draw(k) for k in range(2)] == drawn[:2]
    assert [read({"space": reversed_space}).draw(k) for k in (5, 4)] == drawn[:3:-1]
    assert read({"space": SPACE, "seed": 5}).draw(0) != drawn[0]


def test_values_are_drawn_as_the_space_says():
    search = read({"space": SPACE}, trials=1)
    drawn = [search.draw(k) for k in range(300)]
    values = {key: [trial[key] for trial in drawn] for key in search.space}
    powers = [math.log10(lr) for lr in values["train.lr"]]
    assert -4 <= min(powers) < -3.9 and -1.1 < max(powers) <= -1
    for part in range(3):  # log-uniform: each decade a third, within four standard errors
        share = sum(-4 + part <= power < -3 + part for power in powers) / 300
        assert abs(share - 1 / 3) < 4 * math.sqrt(2 / 9 / 300)
    assert all(0.5 <= momentum <= 0.9 for momentum in values["train.momentum"])
    assert set(values["train.batch"]) == {16, 32}
    assert set(values["train.warmup"]) == {0, 1, 2, 3}
    assert all(type(n) is int for n in values["encoders.audio.hidden"])


def test_defaults():
    search = read()
    assert sorted(search.space) == ["train.lr", "train.weight_decay"]
    assert (search.seed, search.metric) == (DEFAULT_SEED, "accuracy")
    given = read(given=["train.lr=log,1e-3,1", "train.batch=choice,16,32"])
    assert given.space == {"train.lr": ["log", 0.001, 1], "train.batch": ["choice", 16, 32]}
    assert read({"space": {"train": {"lr": ("log", 0.1, 1)}}}).space["train.lr"][0] == "log"


@pytest.mark.parametrize(
    "given, said",
    [
        ("train.lrr=log,1,2", "row 'concat' has no 'lrr' .* did you mean 'lr'"),
        ("trian.lr=log,1,2", "no section 'trian'; did you mean 'train'"),
        ("train=log,1,2", "must have the form train.FIELD"),
        ("train.lr.x=log,1,2", "must have the form train.FIELD"),
        ("train.select=choice,loss,accuracy", "has no 'select' to tune"),
        ("fusion.hidden=integer,4,8", "row 'text only' has no 'hidden' to tune"),
        ("encoders.txt.embed=integer,4,8", "no 'txt' .* did you mean 'text'"),
        ("encoders.text.embd=integer,4,8", "no 'embd' .* did you mean 'embed'"),
        ("encoders.text=integer,4,8", "must have the form encoders.MODALITY.FIELD"),
        ("train.lr", "--space=train.lr: unknown kind ''"),
        ("train.lr=lgo,1,2", "unknown kind 'lgo'; did you mean 'log'"),
        ("train.lr=log,0,2", "log needs 0 < low < high"),
        ("train.lr=uniform,2,2", "uniform needs low < high"),
        ("train.lr=log,1", "log needs two finite numbers"),
        ("train.lr=log,1,inf", "log needs two finite numbers"),
        ("train.lr=log,1,x", "log needs two finite numbers"),
        ("train.batch=integer,1.5,3", "integer needs two whole numbers"),
        ("train.batch=choice,16", "choice needs two or more different values"),
        ("train.batch=choice,16,16", "choice needs two or more different values"),
    ],
)
def test_faulty_spaces(given, said):
    with pytest.raises(InputError, match=said) as error:
        read(given=[given])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "tune, trials, said",
    [
        ({"space": {}}, 1, "space is empty"),
        ({"space": {"train": {"lr": 0.1}}}, 1, r"config.tune.space.train.lr: unknown kind 0.1"),
        ({"space": {"train": {"batch": ["choice", [1], [2]]}}}, 1, "choice needs"),
        ({"metric": "acuracy"}, 1, "did you mean 'accuracy'"),
        ({"seed": 1}, 1, "is one of config.seeds"),
        ({"seed": -1}, 1, "config.tune.seed: -1"),
        ({"together": 1.5}, 1, "config.tune.together: 1.5"),
        ({}, 0, "--trials must be a whole number >= 1, got 0"),
    ],
)
def test_faulty_settings(tune, trials, said):
    with pytest.raises(InputError, match=said):
        read(tune, trials)


def test_a_width_that_the_budget_sets_is_not_searched():
    space = {"space": {"fusion": {"features": ["integer", 4, 8]}}}
    assert read(space).space
    with pytest.raises(InputError, match=r"config.budget sets the width"):
        read(space, budget={"params": 1000})


@pytest.mark.parametrize("key", ["tun", "tune"])
def test_the_section_of_the_config(key):
    config = tiny.config()
    config.update({key: {"spac": {}}})
    with pytest.raises(InputError, match=r"did you mean '(tune|space)'"):
        resolve(config)


def test_a_row_with_values_is_the_row_of_a_config_with_them():
    config = tiny.config()
    values = {"train.lr": 0.5, "fusion.features": 4, "encoders.audio.hidden": 6}
    found = [with_values(row, values) for row in resolve(config).rows]
    for entry in config.rows.values():
        entry.fusion.features = 4
        entry.update({"train": {"lr": 0.5}, "encoders": {"audio": {"hidden": 6}}})
    assert found == list(resolve(config).rows)
    with pytest.raises(InputError, match=r"config.train \(row 'concat'\).batch: expected int"):
        with_values(found[0], {"train.batch": 1.5})


@pytest.mark.parametrize("together", [0, 2])
def test_groups_share_all_but_what_a_replica_may_have_of_its_own(together):
    search = read({"space": SPACE, "together": together}, trials=9)
    row = resolve(tiny.config()).rows[0]
    found = list(groups(row, search))
    assert sorted(itertools.chain(*(group.trials for group in found))) == list(range(9))
    if together:
        assert max(len(group.trials) for group in found) == together
    for group in found:
        for lane, trial in enumerate(group.trials):
            own = {name: group.own[name][lane] for name in PER_REPLICA}
            train = dataclasses.replace(group.row.train, **own)
            alone = with_values(row, search.draw(trial))
            assert (train, group.row.encoders) == (alone.train, alone.encoders)
    assert len(list(groups(row, read(trials=9)))) == 1
