"""Attention per token by hand, integrated gradients that are exact, deletions that must hurt."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import probe_entries
from mmfuse.decoders import PooledHead
from mmfuse.model import FusionModel
from mmfuse.parallel import Devices
from mmfuse.probing.deletion import explain_row, hurts, keep_mask
from mmfuse.probing.explain import attention_maps, explain, integrated_gradients, received
from mmfuse.tasks import Regression
from tests import probed, tiny

MASKS = {"x": jnp.array([[[True, True], [True, False]]]), "y": jnp.ones((1, 3, 1), bool)}


def test_maps_over_the_tokens_of_a_modality_are_found_and_all_else_is_left_out():
    weights = {
        "y<-x": jnp.ones((1, 2, 3, 4)),
        "x<-y": jnp.ones((1, 4, 3)),
        "latent<-x": jnp.ones((1, 5, 4)),
        "x<-latent": jnp.ones((1, 4, 5)),
        "y<-y": jnp.ones((1, 3, 2)),  # not over all tokens
        "x": jnp.ones((1, 4)),  # a gate
    }
    maps = attention_maps(weights, MASKS)
    assert {name: (key, a.shape) for name, (key, a) in maps.items()} == {
        "y<-x": ("x", (1, 2, 3, 4)),
        "x<-y": ("y", (1, 1, 4, 3)),
        "latent<-x": ("x", (1, 1, 5, 4)),
    }
    asked = np.asarray(maps["x<-y"][1])[0, 0].any(-1)
    np.testing.assert_array_equal(asked, [True, True, True, False])  # the masked query is silent


def test_received_attention_is_the_mean_over_queries_that_look():
    a = jnp.array([[[[1.0, 0, 0, 0], [0, 0, 0, 0]], [[0, 0.5, 0.5, 0], [0, 1, 0, 0]]]])
    found = received({"p<-x": ("x", a), "q<-x": ("x", jnp.array([[[[0, 0, 1.0, 0]]]]))})
    np.testing.assert_allclose(found["x"], [[1 / 4, 1.5 / 4, 1.5 / 4, 0]])
    np.testing.assert_array_equal(received({"p<-x": ("x", a * 0)})["x"], np.zeros((1, 4)))


def test_integrated_gradients_of_a_linear_function_are_its_terms():
    rng = np.random.default_rng(0)
    w, x = (rng.normal(size=(2, 3, 2, 4)).astype(np.float32) for _ in range(2))
    found = integrated_gradients(lambda t: jnp.sum(w * t["x"], (1, 2, 3)), {"x": x})
    np.testing.assert_allclose(found["x"], (w * x).sum(-1).reshape(2, 6), rtol=2e-5, atol=1e-6)


def test_integrated_gradients_of_a_product_share_it_by_degree():
    """f = a^2 b, along the line: 2/3 of f goes to a and 1/3 to b."""
    tokens = {"a": jnp.full((1, 1, 1, 1), 3.0), "b": jnp.full((1, 1, 1, 1), 5.0)}
    found = integrated_gradients(lambda t: (t["a"] ** 2 * t["b"])[:, 0, 0, 0], tokens)
    np.testing.assert_allclose([found["a"][0, 0], found["b"][0, 0]], [30, 15], rtol=1e-5)


def test_integrated_gradients_are_complete_for_a_real_method(tmp_path_factory):
    """The sum over all tokens is f(x) - f(0), and a masked token has none."""
    dataset = tiny.dataset(tmp_path_factory)
    built, _ = tiny.built(dataset)
    batch = dataset.batch("valid", range(12))
    params = built.model.init(jax.random.key(0), batch["inputs"], batch["masks"], train=False)
    params = jax.tree.map(lambda x: 3 * x, params["params"])  # well away from linear
    found = jax.jit(lambda p: explain(built.model, built.program.task, p, batch, 2))(params)
    total = sum(g.sum(-1) for g in found["gradients"].values())
    change = found["explained"] - found["baseline"]
    assert np.abs(change).min() > 1e-3
    np.testing.assert_allclose(total, change, rtol=5e-3, atol=5e-3)
    np.testing.assert_array_equal(found["explained"], found["output"].max(-1))
    for m, mask in found["masks"].items():
        assert not np.asarray(found["gradients"][m])[~np.asarray(mask)].any()
    output, _ = built.model.apply({"params": params}, batch["inputs"], batch["masks"], train=False)
    np.testing.assert_allclose(found["output"], output, rtol=1e-4, atol=1e-4)


def test_what_stays_when_the_most_weighed_tokens_go():
    weights = np.array([[0.1, 0.9, 0.5, 0.2, 99.0]])
    mask = np.array([[True, True, True, True, False]])
    kept = {share: keep_mask(weights, mask, share)[0].tolist() for share in (0.1, 0.5, 1.0)}
    assert kept[0.1] == [True, False, True, True, False]  # at least one goes
    assert kept[0.5] == [True, False, False, True, False]
    assert kept[1.0] == [True, False, False, False, False]  # one stays
    alone = np.array([[True, False]])
    np.testing.assert_array_equal(keep_mask(np.ones((1, 2)), alone, 0.5), alone)
    nothing = np.zeros((1, 2), bool)
    np.testing.assert_array_equal(keep_mask(np.ones((1, 2)), nothing, 0.5), nothing)


def test_the_direction_of_the_metric_says_what_hurts():
    assert hurts("accuracy", 0.9, 0.5) == pytest.approx(0.4)
    assert hurts("mae", 0.5, 0.9) == pytest.approx(0.4)


@pytest.fixture(scope="module")
def explained():
    devices, batches = Devices("jit", 1), probed.frames_data()
    row = probed.peak()
    return row, explain_row(row, batches, "accuracy", 2, devices), devices.compilations


def test_deleting_the_token_that_decides_leaves_chance(explained):
    row, found, programs = explained
    assert programs == 2
    assert found.attends and found.clean == [1, 1]
    for by in ("attention", "integrated gradients"):
        assert found.scores[by, 0.1, "targeted"][0] < 0.75
        assert found.scores[by, 0.1, "random"][0] > found.scores[by, 0.1, "targeted"][0] + 0.1
    entry = probe_entries.attention_entry(row, found, "accuracy")
    line = entry["faithfulness"][0]
    assert (line["by"], line["share"]) == ("attention", 0.1)
    assert line["difference"]["mean"] == pytest.approx(
        found.scores["attention", 0.1, "random"][0] - found.scores["attention", 0.1, "targeted"][0]
    )
    assert entry["shares"]["x"]["summary"]["mean"] == pytest.approx(1)
    assert entry["completeness"]["summary"]["mean"] < 1e-2
    assert entry["maps"] == ["x<-x"]


def test_attention_finds_the_token_that_decides(explained):
    _, found, _ = explained
    x = np.concatenate([batch["inputs"]["x"] for batch in probed.frames_data()])
    place = x[..., 0].argmax(-1)
    np.testing.assert_array_equal(found.seen["attention"]["x"][0].argmax(-1), place)
    assert found.first["maps"]["x<-x"].shape == (2, 1, 6, 6)
    assert found.seen["masks"]["x"].shape == (2, probed.N, 6)


def test_a_method_without_attention_is_explained_by_gradients_alone():
    model = FusionModel({"x": probed.Itself()}, probed.Sum(), PooledHead(2))
    kernel = np.array([[0, 0], [-1, 1]], np.float32)
    head = {"affine": {"kernel": kernel, "bias": np.zeros(2, np.float32)}}
    row = probed.finished(model, {"head": head}, ("x",))
    batches = probed.frames_data()
    found = explain_row(row, batches, "accuracy", 2, Devices("jit", 1))
    assert not found.attends
    assert {by for by, _, _ in found.scores} == {"integrated gradients"}
    # Linear: the attribution of a token is its share of the mean, times the weight of the class.
    x = np.concatenate([b["inputs"]["x"] * b["masks"]["x"][..., None] for b in batches])
    mask = np.concatenate([b["masks"]["x"] for b in batches])
    sign = np.where(found.seen["output"][0].argmax(-1) == 1, 1, -1)
    wanted = sign[:, None] * x[..., 1] / mask.sum(-1, keepdims=True)
    np.testing.assert_allclose(found.seen["gradients"]["x"][0], wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("decisive", [6.0, -6.0])
def test_a_number_is_explained_by_what_moves_it_in_either_direction(decisive):
    """y = the sum of five tokens, of which one is +-6: without it, y is wrong by 6."""
    model = FusionModel({"x": probed.Itself()}, probed.Total(), PooledHead(1))
    head = {"affine": {"kernel": np.ones((1, 1), np.float32), "bias": np.zeros(1, np.float32)}}
    row = probed.finished(model, {"head": head}, ("x",), task=Regression())
    rng = np.random.default_rng(2)
    x = rng.uniform(-0.5, 0.5, size=(40, 5, 1)).astype(np.float32)
    x[np.arange(40), rng.integers(5, size=40)] = decisive
    batches = probed.batches({"x": x}, {"x": np.ones((40, 5), bool)}, x.sum((1, 2)), 20)
    found = explain_row(row, batches, "mae", 2, Devices("jit", 1))
    assert found.clean == pytest.approx([0, 0], abs=1e-5)
    targeted, chance = (
        found.scores["integrated gradients", 0.1, kind] for kind in ("targeted", "random")
    )
    assert targeted == pytest.approx([6, 6], abs=1e-5)
    assert max(chance) < 3  # one token in five decides
