"""Search and sampling, against exhaustive search, counting and numpy."""

import itertools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmfuse.decoders import LSTMWords
from mmfuse.decoding import beam, decoder, distinct, greedy, nucleus, sample, searched
from mmfuse.fusion import Fused

V, T, B, END = 4, 3, 3, 1


def fused(repeat=1):
    tokens = np.random.default_rng(0).normal(size=(B, 2, 1, 5)).astype(np.float32)
    return Fused(np.repeat(tokens, repeat, 0), np.ones((B * repeat, 2, 1), bool))


@pytest.fixture(scope="module")
def head():
    """A decoder with strong opinions: its last layer is made larger."""
    module = LSTMWords(V, features=6, embed=4)
    previous = {"previous": np.zeros((B, T), np.int32)}
    params = module.init(jax.random.key(3), fused(), {}, previous)["params"]
    return module, params | {"affine": jax.tree.map(lambda x: 6 * x, params["affine"])}


def texts():
    """All texts of at most T words: those that end, and those that are cut off."""
    found = set()
    for ids in itertools.product(range(1, V), repeat=T):
        stop = ids.index(END) + 1 if END in ids else T
        found.add(ids[:stop] + (0,) * (T - stop))
    return sorted(found)


def log_p(head, ids):
    """log p of a text for every example [B], from the probabilities of its words; never padding."""
    previous = np.array([(0, *ids[:-1])] * B, np.int32)
    logits = np.array(decoder(*head, fused())(previous), np.float64)[:, :, 1:]
    each = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return sum(each[:, t, word - 1] for t, word in enumerate(ids) if word)


@pytest.fixture(scope="module")
def exhaustive(head):
    return {ids: log_p(head, ids) for ids in texts()}


def test_all_texts_together_are_certain(exhaustive):
    np.testing.assert_allclose(sum(np.exp(p) for p in exhaustive.values()), 1, rtol=1e-5)


def test_a_wide_beam_is_an_exhaustive_search(head, exhaustive):
    width = len(texts())
    ids, total = jax.jit(lambda: beam(decoder(*head, fused(width)), B, T, width, end=END))()
    for b in range(B):
        order = sorted(exhaustive, key=lambda text, b=b: -exhaustive[text][b])
        assert [tuple(row) for row in np.asarray(ids[b]).tolist()] == order
        np.testing.assert_allclose(total[b], [exhaustive[t][b] for t in order], rtol=1e-4)


def test_a_beam_of_one_is_greedy_and_a_wider_one_is_no_worse(head, exhaustive):
    said = np.asarray(greedy(decoder(*head, fused()), B, T, end=END))
    single, total = beam(decoder(*head, fused()), B, T, 1, end=END)
    np.testing.assert_array_equal(single[:, 0], said)
    for b in range(B):
        assert total[b, 0] == pytest.approx(exhaustive[tuple(said[b].tolist())][b], rel=1e-4)
        behind = np.cumsum(said[b] == END) - (said[b] == END)
        assert (said[b][behind > 0] == 0).all()
    wider = beam(decoder(*head, fused(3)), B, T, 3, end=END)[1]
    assert (np.asarray(wider[:, 0]) >= np.asarray(total[:, 0]) - 1e-5).all()


def test_a_wide_search_says_the_most_probable_text_of_each_example(head, exhaustive):
    module, params = head
    model = SimpleNamespace(apply=lambda *_, **__: (None, fused()), head=module)
    batch = {"inputs": {}, "masks": {}, "weight": np.ones(B)}
    said = searched(model, {"head": params}, batch, T, V**T, end=END)
    best = [max(exhaustive, key=lambda text, b=b: exhaustive[text][b]) for b in range(B)]
    assert [tuple(ids) for ids in np.asarray(said).tolist()] == best


def test_samples_have_the_frequencies_of_their_texts(head, exhaustive):
    many = 600
    score = decoder(*head, fused(many))
    drawn = jax.jit(lambda k: sample(score, B * many, T, k, end=END))(jax.random.key(1))
    drawn = np.asarray(drawn).reshape(B, many, T)
    for b in range(B):
        for text, chance in exhaustive.items():
            share, p = np.mean((drawn[b] == text).all(-1)), np.exp(chance[b])
            assert abs(share - p) < 4 * np.sqrt(p * (1 - p) / many) + 1e-3, text


def test_cold_samples_are_greedy_and_a_small_nucleus_too(head):
    said, key = greedy(decoder(*head, fused()), B, T, end=END), jax.random.key(2)
    for fields in ({"temperature": 1e-4}, {"top_p": 1e-6}):
        drawn = sample(decoder(*head, fused()), B, T, key, end=END, **fields)
        np.testing.assert_array_equal(drawn, said)


@pytest.mark.parametrize("top_p", [0.05, 0.3, 0.5, 0.9, 0.999, 1.0])
def test_nucleus_by_numpy(top_p):
    logits = np.random.default_rng(5).normal(0, 2, (40, 9)).astype(np.float32)
    kept = np.isfinite(np.asarray(nucleus(jnp.asarray(logits), top_p)))
    for z, found in zip(logits.astype(float), kept, strict=True):
        p = np.exp(z) / np.exp(z).sum()
        order, mass, expected = np.argsort(-p), 0.0, np.zeros(9, bool)
        for word in order:
            if mass >= top_p and top_p < 1:
                break
            expected[word], mass = True, mass + p[word]
        np.testing.assert_array_equal(found, expected)


def test_distinct_n_grams_by_hand():
    texts = [
        np.array([4, 5, 4, 5, 1, 0]),
        np.array([4, 5, 6, 1, 0, 0]),
        np.array([1, 0, 0, 0, 0, 0]),
    ]
    assert distinct(texts, 1, end=1) == 3 / 7
    assert distinct(texts, 2, end=1) == 3 / 5  # 45 54 45, 45 56
    assert distinct(texts, 5, end=1) is None
