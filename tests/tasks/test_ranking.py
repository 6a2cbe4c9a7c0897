"""Ranking and choosing: filtered ranks with ties counted one by one, and pointers by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmfuse.decoders import MatchingHead, PointerHead
from mmfuse.errors import InputError, RowError
from mmfuse.fusion import Fused
from mmfuse.tasks import make_task
from mmfuse.tasks.choice import Matching, Pointing
from mmfuse.tasks.ranking import Ranking, Recommendation
from tests.tasks import examples


def rank_by_counting(scores, answer, known):
    """The mean place of the answer over both extreme orders of what is equal."""
    rivals = [s for e, s in enumerate(scores) if e != answer and e not in known]
    first = 1 + sum(s > scores[answer] for s in rivals)
    return (first + first + sum(s == scores[answer] for s in rivals)) / 2


def test_filtered_ranks_by_counting():
    rng = np.random.default_rng(0)
    task = Ranking(12, groups=3)
    scores = rng.integers(4, size=(60, 12)).astype(np.float32)  # many ties
    known = rng.random((60, 12)) < 0.3
    columns = {
        "label": rng.integers(12, size=60),
        "label_filter": np.packbits(known, axis=1),
        "label_group": rng.integers(2, size=60),  # the third group is empty
    }
    label = task.labels({key: list(value) for key, value in columns.items()})
    ranks = np.array(
        [
            rank_by_counting(row, answer, np.flatnonzero(left_out))
            for row, answer, left_out in zip(scores, columns["label"], known, strict=True)
        ]
    )
    kept, sums = jax.jit(lambda s, y: (task.kept_output(s, y), task.sums(s, y, jnp.ones(60))))(
        scores, label
    )
    np.testing.assert_array_equal(kept["rank"], ranks)
    sums = jax.device_get(sums) | {"count": 60}
    found = task.scores(sums)
    assert found["mrr"] == pytest.approx(np.mean(1 / ranks), rel=1e-5)
    for k in (1, 3, 10):
        assert found[f"hits{k}"] == pytest.approx(np.mean(ranks <= k))
    groups = [np.mean(1 / ranks[columns["label_group"] == g]) for g in (0, 1)]
    assert found["mrr_by_group"] == [pytest.approx(each, rel=1e-5) for each in groups] + [None]
    assert set(task.kept_label(label)) == {"entity", "group"}


def test_recall_and_ndcg_by_sorting_each_users_list():
    rng = np.random.default_rng(1)
    users, items = 5, 60
    scores = rng.normal(size=(users, items)).astype(np.float32)
    had = rng.random((users, items)) < 0.2
    liked = (rng.random((users, items)) < 0.3) & ~had
    liked[3] = False  # a user without an example
    user, item = np.nonzero(liked)
    task = Recommendation(items, groups=users)
    columns = {"label": item, "label_filter": np.packbits(had[user], axis=1), "label_group": user}
    label = task.labels({key: list(value) for key, value in columns.items()})
    sums = jax.jit(task.sums)(scores[user], label, jnp.ones(len(user)))
    found = task.scores(jax.device_get(sums) | {"count": len(user)})
    recall, ndcg = [], []
    for row in (0, 1, 2, 4):
        shown = np.argsort(-np.where(had[row], -np.inf, scores[row]))[:20]
        gains = liked[row][shown] / np.log2(np.arange(2, 22))
        best = np.sort(liked[row])[::-1][:20] / np.log2(np.arange(2, 22))
        recall.append(liked[row][shown].sum() / liked[row].sum())
        ndcg.append(gains.sum() / best.sum())
    assert liked.sum(1).max() > 10 and 0.1 < np.mean(recall) < 0.9
    assert found["recall20"] == pytest.approx(np.mean(recall), rel=1e-5)
    assert found["ndcg20"] == pytest.approx(np.mean(ndcg), rel=1e-5)
    with pytest.raises(InputError, match="needs the number of users"):
        Recommendation(items)


def test_scoring_all_alike_or_nan_wins_nothing():
    label = {"entity": jnp.array([2]), "filter": jnp.zeros((1, 2), jnp.uint8)}
    assert Ranking(9).kept_output(jnp.zeros((1, 9)), label)["rank"] == 5
    assert Ranking(9).kept_output(jnp.full((1, 9), jnp.nan), label)["rank"] == 9
    assert Pointing(9, "x").sums(jnp.zeros((1, 9)), jnp.array([0]), jnp.ones(1))["recall1"] == 0


def test_entities_beyond_the_list_are_refused():
    columns = examples.columns("ranking", 5, np.random.default_rng(0))
    task = examples.task("ranking")
    for name, wrong, said in (
        ("label", 12, "is outside"),
        ("label", -1, "is outside"),
        ("label_filter", np.zeros(3, np.uint8), r"uint8 \[3\]; .* 12 entities is uint8 \[2\]"),
        ("label_filter", np.zeros(2, np.int64), r"int64 \[2\]"),
    ):
        bad = columns | {name: [*columns[name][:3], wrong, columns[name][4]]}
        with pytest.raises(RowError, match=said) as error:
            task.labels(bad)
        assert error.value.row == 3


def fused(rng, size=5, tokens=3, width=6):
    mask = rng.random((size, tokens, 1)) < 0.6
    return Fused(rng.normal(size=(size, tokens, 1, width)).astype(np.float32), mask)


def test_pointer_by_numpy_and_its_mask():
    rng = np.random.default_rng(1)
    f, dots = fused(rng), rng.normal(size=(5, 2, 2, 3)).astype(np.float32)
    mask = np.array([[[1, 1], [1, 1]]] * 4 + [[[1, 0], [1, 1]]], bool)
    head = PointerHead(4, "dots", hidden=7)
    scores, variables = head.init_with_output(jax.random.key(0), f, {"dots": (dots, mask)})
    p = jax.tree.map(np.asarray, variables["params"])
    pooled = [f.tokens[b][f.mask[b]].mean(0) if f.mask[b].any() else np.zeros(6) for b in range(5)]
    query = np.array(pooled) @ p["fused"]["kernel"] + p["fused"]["bias"]
    gate = 1 + np.array(pooled) @ p["gate"]["kernel"] + p["gate"]["bias"]
    e = dots.reshape(5, 4, 3) @ p["candidates"]["kernel"]
    hidden = np.tanh(query[:, None] + gate[:, None] * e)
    expected = np.where(mask.reshape(5, 4), (hidden @ p["score"]["kernel"])[..., 0], -1e9)
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)
    hidden = dots.copy()
    hidden[4, 0, 1] = 99
    again = head.apply(variables, f, {"dots": (hidden, mask)})
    np.testing.assert_array_equal(again, scores)
    loss = Pointing(4, "dots").loss(scores, jnp.zeros(5, jnp.int32), smoothing=0.3)
    assert np.all(np.asarray(loss) < 20)  # smoothing gives nothing to what is not there
    with pytest.raises(InputError, match="'dots' has 4 tokens, but the task has 5 choices"):
        PointerHead(5, "dots").init(jax.random.key(0), f, {"dots": (dots, mask)})


def test_a_fusion_that_does_not_see_the_candidates_sees_none_of_them():
    rng = np.random.default_rng(2)
    f, head = fused(rng), PointerHead(4, "dots")
    scores, variables = head.init_with_output(jax.random.key(0), f, {"words": None})
    assert scores.shape == (5, 4)
    assert variables["params"]["places"].shape == (4, 64)
    assert len({row.tobytes() for row in np.asarray(scores)}) > 1  # but it may know the places


def test_matching_is_a_product_and_padding_changes_no_bit():
    rng = np.random.default_rng(3)
    f, ids = fused(rng), examples.texts(15, rng, words=7).reshape(5, 3, 5)
    ids[0, 2] = 0
    head = MatchingHead(7, features=8, embed=4)
    scores, variables = head.init_with_output(jax.random.key(0), f, {}, {"candidates": ids})
    longer = np.concatenate([ids, np.zeros((5, 3, 4), np.int32)], axis=-1)
    again = head.apply(variables, f, {}, {"candidates": longer})
    np.testing.assert_array_equal(again, scores)
    assert scores[0, 2] == -1e9
    turned = head.apply(variables, f, {}, {"candidates": ids[:, ::-1]})
    np.testing.assert_allclose(turned, scores[:, ::-1], rtol=1e-5)
    given = Matching(3, words=7).given({"candidates": list(ids)})
    np.testing.assert_array_equal(given["candidates"], ids)


def test_choice_by_hand():
    scores = jnp.array([[2.0, 1.0, 0.0], [0.0, 5.0, 1.0], [1.0, 1.0, -1e9]])
    label, task = jnp.array([0, 2, 1]), Pointing(3, "dots")
    sums = jax.device_get(task.sums(scores, label, jnp.ones(3))) | {"count": 3}
    assert task.scores(sums) == pytest.approx({"recall1": 1 / 3, "mrr": (1 + 1 / 2 + 1 / 1.5) / 3})
    expected = [-np.log(np.exp(s[y]) / np.exp(s).sum()) for s, y in zip(scores, label, strict=True)]
    np.testing.assert_allclose(task.loss(scores, label), expected, rtol=1e-5)


def test_a_subset_is_scored_by_itself():
    task = make_task({"task": "pointing", "choices": 3, "points_at": "x", "subsets": ["a", "none"]})
    columns = {"label": [0, 2, 1, 0], "a": [0, 1, 1, 1], "none": [0] * 4}
    label = task.labels(columns)
    scores = jnp.array([[2.0, 1, 0], [0, 5, 1], [1, 9, 1], [7, 1, 1]])
    sums = jax.device_get(task.sums(scores, label, jnp.array([1.0, 1, 1, 0])))  # the last: padding
    found = task.scores(sums | {"count": 3})
    assert found["recall1"] == pytest.approx(2 / 3) and found["recall1_a"] == 1 / 2
    assert found["recall1_none"] is None
    plain = Pointing(3, "x").loss(scores, label["place"], smoothing=0.1)
    np.testing.assert_array_equal(task.loss(scores, label, smoothing=0.1), plain)
    with pytest.raises(RowError, match=r"is outside 0\.\.1"):
        task.labels(columns | {"a": [0, 2, 1, 1]})
