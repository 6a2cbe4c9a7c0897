"""Magnitude pruning: which weights stay, when they go, and what training does to them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmfuse.compression import COMPRESSIONS, Facts, build_compression, forms
from mmfuse.compression.base import largest, share_dropped
from mmfuse.errors import InputError


def params(seed=0):
    random = np.random.default_rng(seed)
    return {
        "a": {"kernel": random.normal(size=(6, 10)), "bias": random.normal(size=10)},
        "b": {"kernel": 3 * random.normal(size=(2, 2, 5, 8)), "scale": random.normal(size=8)},
    }


def arrays(tree):
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), tree)


def test_largest_marks_as_many_as_it_is_asked_for_and_of_equals_the_first():
    random = np.random.default_rng(1)
    values = np.abs(random.normal(size=500)).astype(np.float32)
    values[100:300] = values[7]
    for count in (0, 1, 33, 250, 499, 500):
        wanted = np.zeros(500, bool)
        wanted[np.argsort(-values, kind="stable")[:count]] = True
        np.testing.assert_array_equal(largest(jnp.asarray(values), count), wanted)
    np.testing.assert_array_equal(largest(jnp.zeros(4), 2), [True, True, False, False])


def test_one_shot_keeps_exactly_the_largest_fifth_of_every_kernel():
    tree = params()
    kept = build_compression({"name": "prune", "sparsity": 0.8}, "row").after(arrays(tree))
    for name in "ab":
        kernel = tree[name]["kernel"]
        limit = np.sort(np.abs(kernel).ravel())[round(0.8 * kernel.size)]
        wanted = np.where(np.abs(kernel) >= limit, kernel, 0).astype(np.float32)
        np.testing.assert_array_equal(kept[name]["kernel"], wanted)
    np.testing.assert_array_equal(kept["a"]["bias"], tree["a"]["bias"].astype(np.float32))
    np.testing.assert_array_equal(kept["b"]["scale"], tree["b"]["scale"].astype(np.float32))
    stored = build_compression({"name": "prune"}, "row").packed(jax.tree.map(np.asarray, kept))
    jax.tree.map(np.testing.assert_array_equal, forms.ready(stored), kept)
    bits = -(-60 // 8) + 160 // 8
    assert forms.stored_bytes(stored) == bits + 4 * (12 + 32) + 4 * 18


def test_the_schedule_is_that_of_zhu_and_gupta():
    steps, begin, end, every, share = 100, 0.2, 0.7, 10, 0.8
    for step in range(101):
        at = min(70, 20 + (step - 20) // every * every)
        wanted = 0 if step < 20 else share + (0 - share) * (1 - (at - 20) / (70 - 20)) ** 3
        found = share_dropped(jnp.int32(step), steps, begin, end, share, every)
        assert float(found) == pytest.approx(wanted, abs=1e-6)
    at_once = [float(share_dropped(jnp.int32(s), 10, 0.5, 0.5, 0.8, 1)) for s in range(10)]
    np.testing.assert_allclose(at_once, [0] * 5 + [0.8] * 5, rtol=1e-6)


def test_what_is_out_gets_no_gradient_and_what_is_in_all_of_it():
    entry = {"name": "prune", "begin": 0.0, "end": 0.0, "sparsity": 0.75}
    method = build_compression(entry, "row", Facts(steps=10))
    tree = arrays(params())

    def loss(p):
        used = method.during(p, jnp.int32(3))
        return sum(jnp.sum(jnp.sin(x)) for x in jax.tree.leaves(used))

    used, gradient = method.during(tree, jnp.int32(3)), jax.grad(loss)(tree)
    kept = method.after(tree)
    jax.tree.map(np.testing.assert_array_equal, used, kept)
    for name in "ab":
        mask = np.asarray(kept[name]["kernel"]) != 0
        wanted = np.where(mask, np.cos(tree[name]["kernel"]), 0)
        np.testing.assert_allclose(gradient[name]["kernel"], wanted, rtol=1e-6)
    assert method.trains and not build_compression({"name": "prune"}, "row").trains


def test_channels_go_whole_by_the_sum_of_their_weights_but_not_where_the_model_answers():
    tree = params()
    tree["head"] = {"kernel": np.ones((8, 4)), "bias": np.ones(4)}
    facts = Facts(10, (("a",), ("head",)), (("head",),))
    method = build_compression({"name": "prune_channels", "share": 0.3}, "row", facts)
    kept = jax.tree.map(np.asarray, method.after(arrays(tree)))
    out = np.argsort(np.abs(tree["a"]["kernel"]).sum(0))[:3]
    wanted = {k: v.astype(np.float32) for k, v in tree["a"].items()}
    wanted["kernel"][:, out], wanted["bias"][out] = 0, 0
    jax.tree.map(np.testing.assert_array_equal, kept["a"], wanted)
    jax.tree.map(np.testing.assert_array_equal, kept["b"], arrays(tree["b"]))
    np.testing.assert_array_equal(kept["head"]["kernel"], 1)
    stored = method.packed(kept)
    assert stored["a"]["kernel"].kept.shape == (6, 7) and stored["a"]["bias"].shape == (7,)
    whole = np.concatenate([stored["a"]["kernel"].kept, np.zeros((6, 1))], axis=1)
    np.testing.assert_array_equal(whole[:, stored["a"]["kernel"].places], wanted["kernel"])


def test_pruned_int8_is_int8_of_what_pruning_keeps():
    tree = arrays(params())
    both = build_compression({"name": "prune_int8", "sparsity": 0.8}, "row")
    pruned = build_compression({"name": "prune", "sparsity": 0.8}, "row").after(tree)
    wanted = build_compression({"name": "int8"}, "row").after(pruned)
    found = both.after(tree)
    jax.tree.map(np.testing.assert_array_equal, found, wanted)
    stored = both.packed(jax.tree.map(np.asarray, found))
    jax.tree.map(np.testing.assert_array_equal, forms.ready(stored), found)
    assert stored["a"]["kernel"].values.values.dtype == np.int8


@pytest.mark.parametrize(
    "entry, said",
    [
        ({"name": "prunne"}, "no 'prunne'; did you mean 'prune'"),
        ({"name": "prune", "sparsitty": 1}, "no field 'sparsitty'; did you mean 'sparsity'"),
        ({"name": "prune", "sparsity": 1.5}, "sparsity must be a number in 0..0.999, got 1.5"),
        ({"name": "prune", "begin": 0.9, "end": 0.2}, "end is 0.2, before begin, 0.9"),
        ({"name": "prune", "every": 0}, "every must be an integer >= 1, got 0"),
        ({"name": "low_rank", "keep": 0}, "keep must be > 0"),
        ({"name": "distil"}, "the field 'teacher' is missing"),
        ({"name": "distil", "teacher": "x", "temperature": 0}, "temperature must be > 0"),
        ({"name": "int8", "facts": 1}, "no field 'facts'"),
    ],
)
def test_bad_fields_are_one_line(entry, said):
    with pytest.raises(InputError, match=said) as caught:
        build_compression(entry, "config.rows['x']")
    assert "\n" not in str(caught.value) and "config.rows['x'].compression" in str(caught.value)


def test_every_name_is_a_class_of_its_own():
    assert len(set(COMPRESSIONS.values())) == len(COMPRESSIONS)
