"""Link prediction: each head by numpy and by its identities, and questions asked once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmfuse.data.roles import CALIBRATES, JUDGED
from mmfuse.decoders import ComplEx, DistMult, Regularised, TransE, tie
from mmfuse.decoders.links import complex_product, distances
from mmfuse.encoders import build_encoder
from mmfuse.errors import InputError
from mmfuse.fusion import Fused, build_fusion
from mmfuse.model import FusionModel
from mmfuse.tasks.classification import cross_entropy
from mmfuse.tasks.links import Links, Triples, accuracy_and_f1, threshold
from mmfuse.tasks.ranking import Ranking
from tests.tasks import examples

B, E, R, D = 5, 11, 4, 6


def fused(rng, width=D):
    tokens = rng.normal(size=(B, 3, 1, width)).astype(np.float32)
    mask = np.array([[1, 1, 1], [1, 0, 0], [0, 1, 1], [1, 1, 0], [0, 0, 0]], bool)[..., None]
    return Fused(tokens, mask)


def given(rng, answers=False):
    known = rng.random((B, E)) < (0.4 if answers else 0)
    relation = rng.integers(R, size=B).astype(np.int32)
    return {"relation": relation, "answers": np.packbits(known, axis=1)}


def pooled(f):
    means = [f.tokens[b][f.mask[b]].mean(0) if f.mask[b].any() else np.zeros(D) for b in range(B)]
    return np.array(means)


def drawn(kind, rng, **fields):
    """A head with random tables, its tables as numpy, what it is given, and ``s`` and ``r``."""
    head, f, g = kind(E, R, D, **fields), fused(rng), given(rng)
    params = head.init(jax.random.key(1), f, {}, g)["params"]
    params = jax.tree.map(lambda x: x + rng.normal(size=x.shape).astype(np.float32), params)
    tables = [np.asarray(params[name]["embedding"]) for name in ("entity", "relation")]
    return head, params, f, g, tables[0], pooled(f), tables[1][g["relation"]]


def whole(x):
    """Complex numbers of vectors that hold first the real parts, then the imaginary."""
    return x[..., : D // 2] + 1j * x[..., D // 2 :]


def test_complex_by_numpys_complex_numbers():
    head, params, f, g, table, s, r = drawn(ComplEx, np.random.default_rng(0))
    expected = np.einsum("bd,bd,ed->be", whole(s), whole(r), whole(table).conj()).real
    found = head.apply({"params": params}, f, {}, g)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_distmult_by_numpy():
    head, params, f, g, table, s, r = drawn(DistMult, np.random.default_rng(1))
    expected = np.einsum("bd,bd,ed->be", s, r, table)
    found = head.apply({"params": params}, f, {}, g)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_transe_by_numpy():
    head, params, f, g, table, s, r = drawn(TransE, np.random.default_rng(2))
    expected = -np.linalg.norm((s + r)[:, None] - table[None], axis=-1)
    found = head.apply({"params": params}, f, {}, g)
    np.testing.assert_allclose(found, np.exp(params["log_scale"]) * expected, rtol=1e-4)


def test_complex_without_imaginary_parts_is_distmult():
    rng = np.random.default_rng(3)
    s, r = (np.pad(rng.normal(size=(B, D)), [(0, 0), (0, D)]) for _ in range(2))
    np.testing.assert_allclose(complex_product(s, r)[:, :D], s[:, :D] * r[:, :D], rtol=1e-5)
    np.testing.assert_array_equal(complex_product(s, r)[:, D:], 0)


def test_a_purely_imaginary_relation_is_antisymmetric_and_a_real_one_symmetric():
    rng = np.random.default_rng(4)
    s, o, r = rng.normal(size=(3, 1, D)).astype(np.float32)
    for part, sign in ((slice(D // 2, None), -1), (slice(D // 2), 1)):
        alone = np.zeros_like(r)
        alone[:, part] = r[:, part]
        forth = np.sum(complex_product(s, alone) * o)
        np.testing.assert_allclose(np.sum(complex_product(o, alone) * s), sign * forth, rtol=1e-4)


def test_transe_translates():
    """Moving the given end and all others by one vector changes nothing; s + r = o is the best."""
    rng = np.random.default_rng(5)
    q, table, by = rng.normal(size=(B, D)), rng.normal(size=(E, D)), rng.normal(size=(1, D))
    before = distances(jnp.asarray(q), jnp.asarray(table))
    np.testing.assert_allclose(distances(q + by, table + by), before, rtol=1e-4, atol=1e-4)
    table[3] = q[2]
    assert np.argmin(distances(q, table)[2]) == 3
    slope = jax.grad(lambda x: distances(x, jnp.asarray(table)).sum())(jnp.asarray(q))
    assert np.isfinite(slope).all()


def test_the_skipped_modality_is_added_where_the_fusion_reads_it():
    rng = np.random.default_rng(6)
    head, params, f, g, table, s, r = drawn(DistMult, rng, skip="entity")
    tokens = rng.normal(size=(B, 1, 1, D)).astype(np.float32)
    here = np.array([1, 1, 0, 1, 1], bool)
    encoded = {"entity": (tokens, here[:, None, None])}
    own = s + tokens[:, 0, 0] * here[:, None]
    found = head.apply({"params": params}, f, encoded, g)
    np.testing.assert_allclose(found, (own * r) @ table.T, rtol=1e-4, atol=1e-4)
    found = head.apply({"params": params}, f, {"types": encoded["entity"]}, g)
    np.testing.assert_allclose(found, (s * r) @ table.T, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [DistMult, ComplEx])
def test_the_nuclear_norm_of_every_triple_in_training(kind):
    rng = np.random.default_rng(7)
    head, params, f, g, table, s, r = drawn(kind, rng, n3=0.3)
    g = g | {"answers": given(rng, answers=True)["answers"]}
    found = head.apply({"params": params}, f, {}, g, train=True)
    size = (lambda x: np.abs(whole(x))) if kind is ComplEx else np.abs
    cubed = [(size(x) ** 3).sum(-1) for x in (s, r, table)]
    expected = np.zeros(B)
    known = np.unpackbits(g["answers"], axis=1)[:, :E]
    for b, o in zip(*np.nonzero(known), strict=True):
        expected[b] += 0.1 * (cubed[0][b] + cubed[1][b] + cubed[2][o])
    assert isinstance(found, Regularised) and len({*known.sum(1)}) > 2
    np.testing.assert_allclose(found.losses["n3"], expected, rtol=1e-3)
    scores = head.apply({"params": params}, f, {}, g)
    np.testing.assert_array_equal(found.output, scores)  # nothing of it outside training


def test_widths_that_do_not_fit_are_named():
    rng = np.random.default_rng(8)
    with pytest.raises(InputError, match=r"tokens are 7 wide, but config\.head\.features is 6"):
        DistMult(E, R, D).init(jax.random.key(0), fused(rng, 7), {}, given(rng))
    with pytest.raises(InputError, match="features 7 is odd"):
        ComplEx(E, R, 7).init(jax.random.key(0), fused(rng, 7), {}, given(rng))


def tied(fusion, **fields):
    head = ComplEx(E, R, D, **fields)
    encoders = {
        "entity": build_encoder("tied", vocab_size=E, head=tie(head, E)),
        "types": build_encoder("embedding", features=D, vocab_size=3),
    }
    return FusionModel(encoders, fusion, head)


def inputs(rng):
    ids = {"entity": rng.integers(E, size=(B, 1)), "types": rng.integers(3, size=(B, 2))}
    masks = {name: np.ones(x.shape, bool) for name, x in ids.items()}
    masks["entity"][2] = False
    return ids, masks, given(rng)


def test_both_ends_share_one_table():
    """A structure row is ComplEx itself, and the halves of a model find the one table too."""
    rng = np.random.default_rng(9)
    model, batch = tied(build_fusion("identity", modality="entity")), inputs(rng)
    params = model.init(jax.random.key(0), *batch, train=False)["params"]
    tables = params["encoders_entity"]["head"]  # where it is met first
    assert jax.tree.map(np.shape, params) == {
        "encoders_entity": {
            "head": {"entity": {"embedding": (E, D)}, "relation": {"embedding": (R, D)}}
        }
    }
    table, relation = (np.asarray(tables[name]["embedding"]) for name in ("entity", "relation"))
    s = table[batch[0]["entity"][:, 0]] * batch[1]["entity"]
    r = relation[batch[2]["relation"]]
    expected = np.einsum("bd,bd,ed->be", whole(s), whole(r), whole(table).conj()).real
    found, _ = model.apply({"params": params}, *batch, train=False)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    tokens, masks = model.apply({"params": params}, *batch[:2], train=False, method="encode")
    again, _ = model.apply({"params": params}, tokens, masks, batch[2], train=False, method="fuse")
    np.testing.assert_array_equal(again, found)


def test_a_row_that_does_not_read_the_entity_has_the_table_all_the_same():
    rng, unread = np.random.default_rng(10), build_fusion("unimodal", features=D, modality="types")
    model, batch = tied(unread, skip="entity", n3=0.1), inputs(rng)
    params = model.init(jax.random.key(0), *batch, train=False)["params"]
    assert set(params) == {"encoders_entity", "encoders_types", "fusion"}
    other = {name: np.array(x) for name, x in batch[0].items()} | {"entity": np.zeros((B, 1), int)}
    found, fused_ = model.apply({"params": params}, *batch, train=True)
    again, _ = model.apply({"params": params}, other, *batch[1:], train=True)
    np.testing.assert_array_equal(found, again)
    assert set(fused_.losses) == {"n3"}


def test_what_cannot_be_tied_is_refused():
    with pytest.raises(InputError, match="12 ids, but the head has 11 entities"):
        tie(ComplEx(E, R, D), E + 1)
    with pytest.raises(InputError, match="PooledHead has none"):
        tie(examples.task("ranking").head({}), 3)


def test_a_question_asked_once_is_all_its_triples():
    rng = np.random.default_rng(11)
    task, scores = Links(E, groups=R), rng.normal(size=(2, E)).astype(np.float32)
    answers = [[3, 7, 8], []]  # the second is outside training: its label alone
    known = np.array([np.isin(np.arange(E), ids) for ids in answers])
    label = task.labels(
        {
            "label": [7, 2],
            "label_filter": list(np.zeros((2, 2), np.uint8)),
            "label_answers": list(np.packbits(known, axis=1)),
            "label_group": [0, 3],
        }
    )
    for smoothing in (0.0, 0.2):
        found = task.loss(scores, label, smoothing=smoothing)
        first = cross_entropy(
            np.tile(scores[:1], (3, 1)), np.array(answers[0]), smoothing=smoothing
        )
        second = cross_entropy(scores[1:], np.array([2]), smoothing=smoothing)
        np.testing.assert_allclose(found, [first.sum(), second[0]], rtol=1e-5)


def test_every_metric_by_relation():
    rng, task = np.random.default_rng(12), examples.task("links")
    label = task.labels(examples.columns("links", 40, rng))
    output = examples.output("links", 40, rng)
    sums = jax.device_get(task.sums(output, label, np.ones(40))) | {"count": 40}
    found, kept = task.scores(sums), task.kept_output(output, label)
    for name in Ranking.metrics:
        expected = [np.mean(kept[name][label["group"] == g]) for g in range(2)]
        np.testing.assert_allclose(found[f"{name}_by_group"], expected, rtol=1e-5)
    with pytest.raises(InputError, match="needs the number of relations"):
        Links(12)


def test_a_threshold_is_as_good_as_any():
    rng = np.random.default_rng(13)
    for _ in range(20):
        score, true = rng.integers(8, size=9).astype(float), rng.random(9) < 0.5
        found = threshold(score, true)
        right = [np.sum((score >= way) == true) for way in np.arange(-1, 10, 0.25)]
        assert np.sum((score >= found) == true) == max(right)
    assert threshold(np.array([1.0, 3.0]), np.array([False, True])) == 2
    assert threshold(np.array([1.0, 3.0]), np.array([True, True])) == 0
    assert threshold(np.array([1.0, 2.0, 5.0]), np.array([True, False, True]), near=4) == 3.5
    assert threshold(np.array([1.0, 2.0, 5.0]), np.array([True, False, True]), near=-4) == 0


def test_accuracy_and_f1_by_hand():
    said, true = np.array([1, 1, 0, 0, 1], bool), np.array([1, 0, 0, 1, 1], bool)
    assert accuracy_and_f1(said, true) == (0.6, pytest.approx(2 * 2 / (3 + 3)))
    assert accuracy_and_f1(np.zeros(2, bool), np.zeros(2, bool)) == (1.0, 0.0)


def test_triples_are_judged_by_thresholds_of_others():
    """Two relations whose scores differ in size: one shared threshold must err, two need not."""
    score = np.array([1, 2, 11, 12, 0.5, 2.5, 10, 13])  # relations 0, 0, 1, 1, and once more
    group = np.array([0, 0, 1, 1, 0, 0, 1, 1])
    true = np.array([0, 1, 0, 1, 0, 1, 0, 1])
    role = np.array([CALIBRATES] * 4 + [JUDGED] * 4)
    task, output = Triples(6, groups=3, triples=8), np.zeros((8, 6), np.float32)
    output[:, 2] = score
    empty = list(np.zeros((8, 1), np.uint8))
    columns = {
        "label": np.full(8, 2), "label_filter": empty, "label_answers": empty,
        "label_group": group, "label_true": true, "label_role": role,
        "label_place": np.arange(8)[::-1],
    }  # fmt: skip
    label = task.labels({name: list(value) for name, value in columns.items()})
    sums = jax.device_get(jax.jit(task.sums)(output, label, np.ones(8)))
    np.testing.assert_allclose(sums["score"][::-1], score)
    found = task.scores(sums)
    assert (found["accuracy"], found["f1_true"]) == (1, 1)
    assert found["accuracy_shared"] == 0.75  # 10 is above 1.5, or 2.5 below 11.5
    changed = sums | {"true": np.where(sums["role"] == JUDGED, 1 - sums["true"], sums["true"])}
    assert task.scores(changed)["accuracy"] == 0  # what is judged chooses nothing
    strange = sums | {"group": np.where(sums["role"] == JUDGED, 2, sums["group"])}
    assert task.scores(strange)["accuracy"] == found["accuracy_shared"]  # unseen relation
    nothing = task.sums(output, label | {"role": np.zeros(8, np.int32)}, np.ones(8))
    assert not any(np.any(value) for value in nothing.values())
    assert task.scores(nothing)["accuracy"] is None
