"""What a config means, and every way in which one can be wrong."""

import json
import math
import re

import pytest
from ml_collections import ConfigDict

from mmfuse.ablation import add_defaults, resolve
from mmfuse.config import apply_override
from mmfuse.errors import InputError
from mmfuse.settings import TrainSettings
from tests import tiny


def changed(**entries) -> ConfigDict:
    """The tiny config with whole entries replaced."""
    config = tiny.config()
    with config.unlocked(), config.ignore_type():
        for key, value in entries.items():
            node, *path = config, *key.split("__")
            for part in path[:-1]:
                node = node[part]
            node[path[-1]] = value
    return config


def refused(said, config):
    with pytest.raises(InputError, match=said) as caught:
        resolve(config)
    assert "\n" not in str(caught.value)


FUSION = {"name": "concat", "features": 8, "hidden": 8}


def test_a_row_replaces_the_whole_fusion_and_merges_the_rest():
    config = changed(
        fusion={"name": "mbt", "features": 8, "heads": 2},
        rows={
            "base": {},
            "tfn": {"fusion": {"name": "tfn", "features": 8}},
            "slow": {"train": {"lr": 1e-4}},
            "wide text": {"encoders": {"text": {"embed": 64}}},
            "other audio": {"encoders": {"audio": {"name": "audio_lstm", "features": 8}}},
        },
        baseline="base",
    )
    rows = {row.name: row for row in resolve(config).rows}
    assert rows["base"].fusion == {"name": "mbt", "features": 8, "heads": 2}
    assert rows["tfn"].fusion == {"name": "tfn", "features": 8}  # no heads left behind
    assert (rows["slow"].train.lr, rows["slow"].train.batch) == (1e-4, 16)
    assert rows["base"].train.lr == 1e-2
    text = {"name": "text_local", "features": 8, "embed": 64}
    assert rows["wide text"].encoders["text"] == text
    assert rows["base"].encoders["text"]["embed"] == 8
    assert rows["other audio"].encoders["audio"] == {"name": "audio_lstm", "features": 8}
    assert rows["other audio"].encoders["text"] == rows["base"].encoders["text"]
    assert rows["slow"].differs == {"train": {"lr": 1e-4}}
    assert rows["base"].differs == {}


def test_a_row_has_its_own_modalities_objectives_head_and_compression():
    config = changed(
        fusion=FUSION,
        head={"hidden": 8},
        objectives={"contrastive": {"weight": 0.1}},
        rows={
            "base": {},
            "other": {
                "modalities": ("text",),
                "head": {"embed": 4},
                "objectives": {"mfm": {}},
                "compression": {"name": "prune", "sparsity": 0.5},
            },
        },
        baseline="base",
    )
    base, other = resolve(config).rows
    assert base.as_dict().keys() - {"fusion", "encoders", "train"} == {"head", "objectives"}
    assert base.objectives == {"contrastive": {"weight": 0.1}}
    assert other.head == {"hidden": 8, "embed": 4}
    assert other.objectives == {"mfm": {}}
    assert other.as_dict()["modalities"] == ["text"]
    assert other.as_dict()["compression"] == {"name": "prune", "sparsity": 0.5}


@pytest.mark.parametrize(
    ("differs", "said"),
    [
        ({"modalities": "text"}, r"modalities must be a list of names, got 'text'"),
        ({"modalities": ("text", "text")}, r"modalities: a name is given twice"),
        ({"compression": {"bits": 8}}, r"row 'base': its compression needs a name"),
        ({"objectives": ("a",)}, r"rows.base.objectives must be a section"),
        ({"objectives": {"a": 1}}, r"rows.base.objectives.a must be a section"),
        ({"compression": "a"}, r"rows.base.compression must be a section"),
    ],
)
def test_what_a_row_cannot_say(differs, said):
    refused(said, changed(fusion=FUSION, rows={"base": differs}, baseline="base"))


def test_rows_keep_the_order_of_the_file():
    names = ["z last", "b", "10", "9", "A"]
    config = changed(rows={name: {"fusion": FUSION} for name in names}, baseline="b")
    ablation = resolve(config)
    assert [row.name for row in ablation.rows] == names
    assert list(ablation.identity()["rows"]) == names


def test_settings_that_are_not_named_have_their_defaults():
    ablation = resolve(tiny.config())
    row = ablation.rows[0]
    assert row.train == TrainSettings(epochs=2, batch=16, eval_batch=16, lr=1e-2)
    assert ablation.parallel == {"mode": "pmap", "devices": 1, "replicas": 0}
    assert ablation.data["resident_bytes"] == 2**31
    assert ablation.seeds == (0, 1)


def test_identity_is_plain_data_and_holds_what_a_run_depends_on():
    one = resolve(tiny.config()).identity()
    assert json.loads(json.dumps(one)) == json.loads(json.dumps(resolve(tiny.config()).identity()))
    for key, value in (
        ("seeds", (0, 2)),
        ("train__lr", 0.5),
        ("data__builder__seed", 3),
        ("encoders__text__embed", 9),
        ("parallel__devices", 2),
        ("metric", "loss"),
    ):
        assert resolve(changed(**{key: value})).identity() != one, key
    assert resolve(changed(baseline="text only")).identity() == one  # only how the table reads


def test_seeds_are_grouped():
    config = changed(seeds=(5, 6, 7, 8), parallel={"mode": "jit", "replicas": 2})
    assert resolve(config).groups() == [(5, 6), (7, 8)]
    assert resolve(changed(seeds=(5, 6, 7))).groups() == [(5, 6, 7)]


def test_unknown_and_missing_sections():
    refused("unknown key 'trian' in config; did you mean 'train'", changed(trian={}))
    refused("unknown key 'eopchs' in config.train; did you mean 'epochs'", changed(train__eopchs=3))
    refused("unknown key 'devces' in config.parallel", changed(parallel__devces=3))
    refused("unknown key 'bulder' in config.data", changed(data__bulder={}))
    for section in ("seeds", "metric", "data", "encoders", "train", "parallel", "rows"):
        config = tiny.config()
        del config[section]
        refused(f"config.{section} is missing", config)


@pytest.mark.parametrize(
    ("section", "value"),
    [
        ("train", 3),
        ("data", "helpdesk"),
        ("rows", ["concat"]),
        ("rows", None),
        ("encoders", "mlp"),
        ("parallel", None),
        ("rows__concat", "concat"),
        ("rows__concat__fusion", "concat"),
        ("rows__concat__train", 3),
        ("rows__concat__encoders", {"text": "mlp"}),
        ("rows__concat__encoders", 3),
        ("encoders__text", "mlp"),
        ("data__preprocess", ["text"]),
        ("data__preprocess__text", "text"),
        ("data__builder", "mixed"),
        ("seeds", 3),
        ("seeds", "012"),
    ],
)
def test_a_section_of_the_wrong_kind(section, value):
    where = section.replace("__", ".") + (".text" if isinstance(value, dict) else "")
    refused(f"config.{where} must be a ", changed(**{section: value}))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ({}, "config.rows is empty"),
        ({"a": {"fusoin": FUSION}}, r"unknown key 'fusoin' in config.rows\['a'\]; did you mean"),
        ({"a": {"seeds": (1,), "fusion": FUSION}}, "unknown key 'seeds'"),
        ({"a": {}}, "row 'a' needs a fusion entry with a name"),
        ({"a": {"fusion": {"features": 8}}}, "row 'a' needs a fusion entry with a name"),
        ({"a": {"fusion": FUSION, "train": {"lrr": 1}}}, r"'lrr' in config.train \(row 'a'\)"),
        ({"a": {"fusion": FUSION, "train": {"lr": -1.0}}}, r"\(row 'a'\).lr must be"),
    ],
)
def test_faulty_rows(rows, said):
    refused(said, changed(rows=rows, baseline=""))


@pytest.mark.parametrize("lr", [math.nan, math.inf, -1.0, 0, 0.0])
def test_learning_rates_without_sense(lr):
    refused(r"config.train \(row 'concat'\).lr must be (finite|> 0)", changed(train__lr=lr))


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("epochs", 0, "epochs must be > 0, got 0"),
        ("epochs", 2.5, "epochs: expected int, got 2.5"),
        ("epochs", True, "epochs"),
        ("batch", -8, "batch must be finite and >= 0, got -8"),
        ("batch", 0, "batch must be > 0"),
        ("eval_batch", 0, "eval_batch must be > 0"),
        ("steps_per_dispatch", 0, "steps_per_dispatch must be > 0"),
        ("warmup", -1, "warmup must be"),
        ("momentum", math.nan, "momentum must be finite"),
        ("lr", "fast", "lr: expected float, got 'fast'"),
        ("lr", None, "lr must be finite and >= 0, got None"),
        ("schedule", 3, "schedule: expected str"),
        ("label_smoothing", 1.0, "label_smoothing must be < 1"),
        (
            "optimizer",
            "adamx",
            "unknown .*optimizer 'adamx'; allowed: adamw, adam, sgd; did you mean",
        ),
        ("schedule", "cosin", "unknown .*schedule 'cosin'; .*did you mean 'cosine'"),
        ("select", "acuracy", "unknown .*select 'acuracy'; .*did you mean 'accuracy'"),
        ("select", "first", "unknown .*select 'first'; allowed: loss, .*, accuracy, .*, last"),
        ("select", "test accuracy", "select 'test accuracy': .* chosen on validation, never on"),
        ("select", "test/loss", "select 'test/loss': .* chosen on validation, never on test"),
    ],
)
def test_faulty_settings(key, value, said):
    refused(said, changed(**{f"train__{key}": value}))


@pytest.mark.parametrize(
    ("seeds", "said"),
    [
        ((1, 1), "seed 1 is given 2 times"),
        ((), "config.seeds is empty"),
        ((0, -1), "-1 is not an integer in 0"),
        ((2**32,), "4294967296 is not an integer"),
        ((0.5,), "0.5 is not an integer"),
        (("a",), "'a' is not an integer"),
        ((True, 0), "True is not an integer"),
    ],
)
def test_faulty_seeds(seeds, said):
    refused(said, changed(seeds=seeds))


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("metric", "acuracy", "unknown config.metric 'acuracy'; .*did you mean 'accuracy'"),
        ("metric", ["accuracy"], "config.metric"),
        ("baseline", "conact", "config.baseline 'conact' is no row; did you mean 'concat'"),
        ("data__name", "", "config.data.name is missing"),
        ("data__preprocess", {}, "config.data.preprocess is missing"),
        ("data__preprocess__text", {"length": 3}, "config.data.preprocess.text needs a name"),
        ("data__resident_bytes", "2GB", "config.data.resident_bytes"),
        ("data__resident_bytes", -1, "config.data.resident_bytes"),
        ("parallel__mode", "pamp", "unknown config.parallel.mode 'pamp'; .*did you mean 'pmap'"),
        ("parallel__devices", -1, "config.parallel.devices must be an integer >= 0, got -1"),
        ("parallel__devices", 1.5, "config.parallel.devices must be an integer"),
        ("parallel__replicas", 3, "replicas 3 does not divide the 2 seeds"),
        ("encoders__text", {"features": 8}, "config.encoders.text needs a name"),
    ],
)
def test_faulty_entries(key, value, said):
    refused(said, changed(**{key: value}))


def test_what_a_config_leaves_out_can_be_set_on_the_command_line():
    config, full = tiny.config(), tiny.config()
    add_defaults(full)
    assert resolve(full).identity() == resolve(config).identity()
    assert [row.name for row in resolve(full).rows] == ["concat", "text only"]
    for path, text in (
        ("train.schedule", "constant"),
        ("train.patience", "3"),
        ("data.resident_bytes", "0"),
        ("parallel.replicas", "1"),
    ):
        assert path.split(".")[1] not in config[path.split(".")[0]]
        apply_override(full, path, text)
    ablation = resolve(full)
    assert (ablation.rows[0].train.schedule, ablation.rows[0].train.patience) == ("constant", 3)
    assert (ablation.data["resident_bytes"], ablation.parallel["replicas"]) == (0, 1)


def test_conditions_are_words_and_no_part_of_the_identity():
    words = {"features": "raw", "split": "official"}
    plain, stated = resolve(changed()), resolve(changed(conditions=words))
    assert plain.conditions == {} and stated.conditions == words
    assert stated.identity() == plain.identity()


@pytest.mark.parametrize(
    ("conditions", "said"),
    [
        ({"spilt": "x"}, "unknown key 'spilt' in config.conditions; did you mean 'split'?"),
        ({"split": 3}, "config.conditions: split must be a text that is not empty, got 3"),
        ("official", "config.conditions must be a section with keys"),
    ],
)
def test_bad_conditions(conditions, said):
    refused(re.escape(said), changed(conditions=conditions))
