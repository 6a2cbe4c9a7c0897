"""From a row to a model, its costs and its programs; every mistake is an InputError."""

import dataclasses

import flax.linen as nn
import jax
import numpy as np
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


def test_a_table_smaller_than_the_vocabulary_is_refused(dataset):
    given = row().encoders
    given = given | {"text": given["text"] | {"vocab_size": 3}}
    refused("encoders.text.vocab_size 3 is less than the .* ids", dataset, encoders=given)


@pytest.fixture(scope="module")
def with_vectors(tmp_path_factory):
    """The dataset with vectors of width 5 for its two most frequent words."""
    words = tiny.dataset(tmp_path_factory).preprocessors["text"].vocabulary.words
    path = tmp_path_factory.mktemp("vectors") / "v.txt"
    path.write_text(f"{words[0]} 1 2 3 4 5\n{words[1]} 9 8 7 6 5\n", encoding="utf-8")
    fields = tiny.PREPROCESS | {"text": tiny.PREPROCESS["text"] | {"vectors": str(path)}}
    return tiny.dataset(tmp_path_factory, preprocess=fields)


def text_encoder(**fields):
    given = dict(row().encoders)
    text = {key: value for key, value in given["text"].items() if key != "embed"}
    return given | {"text": text | fields}


def parameters_of(encoder, seeds=(0,)):
    """Of an encoder of ids, for each seed, and its first tokens for the ids 2, 3 and 1."""
    ids, mask = np.array([[2, 3, 1]], np.int32), np.ones((1, 3), bool)
    init = jax.jit(lambda key: encoder.init_with_output(key, ids, mask, train=False))
    for seed in seeds:
        (tokens, _), variables = init(jax.random.key(seed))
        yield jax.tree.map(np.asarray, variables["params"]), np.asarray(tokens[0, :, 0])


@pytest.mark.parametrize("name", ["text_local", "text_lstm"])
def test_pretrained_vectors_are_where_the_embedding_starts(with_vectors, name):
    encoder = build_model(row(encoders=text_encoder(name=name)), with_vectors).encoders["text"]
    tables = [params["Embed_0"]["embedding"] for params, _ in parameters_of(encoder, (0, 1))]
    for table in tables:
        assert table.shape == (with_vectors.preprocessors["text"].vocab_size, 5)
        np.testing.assert_array_equal(table[2:4], [[1, 2, 3, 4, 5], [9, 8, 7, 6, 5]])
    assert (tables[0][4:] != tables[1][4:]).all(), "words without a vector are drawn"


def test_vectors_that_are_not_trained_are_no_parameters(with_vectors):
    model = build_model(row(encoders=text_encoder(train_vectors=False)), with_vectors)
    ((params, tokens),) = parameters_of(model.encoders["text"])
    assert set(params) == {"Dense_0", "Dense_1"}
    x = np.array([[1, 2, 3, 4, 5], [9, 8, 7, 6, 5], [0] * 5], np.float32)
    hidden = np.maximum(x @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"], 0)
    expected = hidden @ params["Dense_1"]["kernel"] + params["Dense_1"]["bias"]
    np.testing.assert_allclose(tokens, expected, rtol=1e-4, atol=1e-5)


def test_vectors_must_fit_the_encoder(with_vectors, dataset):
    refused("vectors of shape .* do not fit", with_vectors, encoders=text_encoder(embed=8))
    frozen = text_encoder(train_vectors=False)
    refused("train_vectors is off, but .* no vectors", dataset, encoders=frozen)


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


def test_a_row_may_get_some_modalities_only(dataset):
    ablation = resolve(tiny.config())
    built = build(row(modalities=["text"]), dataset, Devices("jit", 1), ablation)
    assert built.reads == ("text",)
    assert sorted(built.model.encoders) == ["text"]
    batch = dataset.batch("train", range(2))
    params = built.model.init(jax.random.key(0), batch["inputs"], batch["masks"], train=False)
    output = built.model.apply(params, batch["inputs"], batch["masks"], train=False)[0]
    batch["inputs"]["audio"] = batch["inputs"]["audio"] + 1
    again = built.model.apply(params, batch["inputs"], batch["masks"], train=False)[0]
    np.testing.assert_array_equal(output, again)
    refused("modalities: the data has no 'txt'; did you mean 'text'", dataset, modalities=["txt"])


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
