"""From a row to a model, its costs and its programs; every mistake is an InputError."""

import dataclasses

import flax.linen as nn
import jax
import pytest

from mmfuse.ablation import resolve
from mmfuse.build import build, build_model, check_memory, state_bytes
from mmfuse.errors import InputError
from mmfuse.fusion import Fused
from mmfuse.parallel import Devices
from tests import tiny


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return tiny.dataset(tmp_path_factory)


def row(**changes):
    return dataclasses.replace(resolve(tiny.config()).rows[0], **changes)


def refused(said, dataset, devices=None, config=None, **changes):
    ablation = resolve(config or tiny.config())
    one = dataclasses.replace(ablation.rows[0], **changes)
    with pytest.raises(InputError, match=said) as caught:
        build(one, dataset, devices or Devices("jit", 1), ablation)
    assert "\n" not in str(caught.value)


def test_what_depends_on_the_data_is_filled_in(dataset):
    model = build_model(row(), dataset)
    assert model.encoders["text"].vocab_size == dataset.preprocessors["text"].vocab_size
    assert model.head.outputs == 8
    given = resolve(tiny.config()).rows[0].encoders
    given = given | {"text": given["text"] | {"vocab_size": 500}}
    assert build_model(row(encoders=given), dataset).encoders["text"].vocab_size == 500


def test_costs_are_those_of_the_real_parameters(dataset):
    for number, reads in ((0, ("audio", "text")), (1, ("text",))):
        built, _ = tiny.built(dataset, row=number)
        batch = dataset.batch("train", range(2))
        params = built.model.init(jax.random.key(0), batch["inputs"], batch["masks"], train=False)
        assert built.parameters == sum(x.size for x in jax.tree.leaves(params))
        assert built.reads == reads
        assert built.flops > 0
        assert built.activation_bytes > 0
        assert built.steps_per_epoch == 7


def test_what_only_training_keeps_counts_as_memory(dataset):
    """The decision of a vote has no gradient: what it keeps is for the losses of training."""
    voting = row(fusion={"name": "majority_vote", "features": 8})
    built = build(voting, dataset, Devices("jit", 1), resolve(tiny.config()))
    assert built.activation_bytes > 1000


def test_building_compiles_nothing_and_runs_nothing(dataset, monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("building must stay abstract")

    monkeypatch.setattr(Devices, "compile", fail)
    assert tiny.built(dataset)[0].parameters


def test_encoders_and_modalities_must_match(dataset):
    encoders = row().encoders
    one = {"text": encoders["text"]}
    refused("config.encoders has none for modality 'audio'; there are: text", dataset, encoders=one)
    typo = encoders | {"imgae": encoders["audio"]}
    refused("config.encoders.imgae: the data has no such modality", dataset, encoders=typo)
    unknown = encoders | {"audio": {"name": "mpl", "features": 8}}
    refused("unknown encoder 'mpl'.*did you mean 'mlp'", dataset, encoders=unknown)


@pytest.mark.parametrize("key", ["batch", "eval_batch"])
def test_batches_and_devices(dataset, key):
    train = dataclasses.replace(row().train, **{key: 20})
    said = rf"config.train.{key} 20 \(row 'concat'\) is not divisible by 8 devices"
    refused(said, dataset, Devices("jit", 8), train=train)


def test_a_batch_larger_than_the_training_split(dataset):
    train = dataclasses.replace(row().train, batch=104)
    refused("batch 104 .* larger than the 100 training examples", dataset, train=train)


def test_metrics_of_another_task(dataset):
    for key, where in (("metric", "metric"), ("select", "train.select")):
        config = tiny.config(**({"select": "mae"} if key == "select" else {}))
        if key == "metric":
            config.metric = "correlation"
        refused(f"config.{where} '.*' is not a metric of classification", dataset, config=config)


def test_sizes_that_do_not_fit(dataset):
    heads = {"name": "crossmodal", "features": 8, "heads": 3}
    refused("8.*3|3.*8", dataset, fusion=heads)
    bad = row().encoders | {"audio": {"name": "mlp", "features": -3}}
    refused("row 'concat'", dataset, encoders=bad)
    other = {"name": "unimodal", "features": 8, "modality": "txt"}
    refused("row 'concat': .*'txt' is not a modality of this data.*'text'", dataset, fusion=other)


class KeepsStatistics(nn.Module):
    features: int = 8

    @nn.compact
    def __call__(self, tokens, masks, *, train):
        x = nn.BatchNorm(use_running_average=not train)(tokens["audio"])
        return Fused(x, masks["audio"])


class Broken(nn.Module):
    @nn.compact
    def __call__(self, tokens, masks, *, train):
        raise RuntimeError("first line\nsecond line")


class WrongShape(nn.Module):
    @nn.compact
    def __call__(self, tokens, masks, *, train):
        return tokens["audio"]


def test_faulty_plug_ins_are_named_with_their_row(dataset):
    here = f"{__name__}:"
    refused("row 'concat' keeps state in batch_stats", dataset, fusion={"name": here + "KeepsStatistics"})  # noqa: E501  # fmt: skip
    refused("'concat' cannot be built: RuntimeError: first line second line", dataset, fusion={"name": here + "Broken"})  # noqa: E501  # fmt: skip
    refused("row 'concat' cannot be built", dataset, fusion={"name": here + "WrongShape"})


def test_a_row_that_needs_more_memory_than_there_is(dataset, monkeypatch):
    built, devices = tiny.built(dataset)
    check_memory(built, devices, replicas=2)
    monkeypatch.setattr(Devices, "memory_bytes", 10_000)
    said = r"row 'concat' needs 0\.\d GB to train 2 seeds at once with batch 16 .* the device has 0"
    with pytest.raises(InputError, match=said):
        check_memory(built, devices, replicas=2)
    kept = 2 * 16 * built.activation_bytes
    assert kept > 0
    monkeypatch.setattr(Devices, "memory_bytes", kept + state_bytes(built, 2))
    check_memory(built, devices, replicas=2)
    monkeypatch.setattr(Devices, "memory_bytes", kept + state_bytes(built, 2) - 1)
    with pytest.raises(InputError):
        check_memory(built, devices, replicas=2)


def test_a_machine_has_memory():
    assert 2**28 < Devices("pmap", 1).memory_bytes < 2**50
