"""Words, sound and pictures: likelihoods by numpy, and what is masked changes nothing."""

import jax
import numpy as np
import pytest

from mmfuse.decoders import (
    LSTMSound,
    LSTMWords,
    PictureCNN,
    RecurrentSound,
    TransformerSound,
    TransformerWords,
)  # fmt: skip
from mmfuse.decoders.picture import Canvas
from mmfuse.decoding import decoder, frames, greedy
from mmfuse.errors import InputError, RowError
from mmfuse.fusion import Fused
from mmfuse.tasks.picture import PictureOf
from mmfuse.tasks.sequences import Sound, Words, late
from tests.tasks import examples

B, T, V = 4, 5, 6
WORDS = [LSTMWords(V, features=8, embed=4), TransformerWords(V, features=8, layers=1)]
SOUND = [LSTMSound(3, features=8), TransformerSound(3, features=8, layers=1)]


@pytest.fixture
def fused():
    rng = np.random.default_rng(0)
    mask = np.ones((B, 3, 2), bool)
    mask[1, 2], mask[2, 0, 1], mask[3] = False, False, False
    return Fused(rng.normal(size=(B, 3, 2, 7)).astype(np.float32), mask)


def test_perplexity_and_the_likelihood_of_a_text_by_numpy():
    rng = np.random.default_rng(1)
    z, label = rng.normal(0, 2, (B, T, V)).astype(np.float32), examples.texts(B, rng)
    log_p = z - np.log(np.exp(z.astype(float)).sum(-1, keepdims=True))
    each = [[-log_p[b, t, w] for t, w in enumerate(label[b]) if w] for b in range(B)]
    np.testing.assert_allclose(Words(V).loss(z, label), [sum(x) for x in each], rtol=1e-5)
    smooth = [
        sum(-0.9 * log_p[b, t, w] - 0.1 * log_p[b, t].mean() for t, w in enumerate(label[b]) if w)
        for b in range(B)
    ]
    np.testing.assert_allclose(Words(V).loss(z, label, smoothing=0.1), smooth, rtol=1e-5)
    sums = jax.device_get(Words(V).sums(z, label, np.ones(B, np.float32))) | {"count": B}
    found = Words(V).scores(sums)
    assert found["perplexity"] == pytest.approx(np.exp(np.mean(np.concatenate(each))), rel=1e-5)
    assert found["word_accuracy"] == pytest.approx(np.mean((z.argmax(-1) == label)[label > 0]))
    none = {"hits": 0.0, "exact": 0.0, "count": 1}
    assert Words(V).scores({"nll": 1e6, "words": 1.0} | none)["perplexity"] == float("inf")


def test_a_text_has_words_and_padding_only_behind_them():
    assert Words(V).labels({"label": [[2, 1, 0], [3, 4, 1]]}).dtype == np.int32
    for wrong in ([0, 0, 0], [2, 0, 1]):
        with pytest.raises(RowError, match="must have a word") as error:
            Words(V).labels({"label": [[2, 1, 0], wrong]})
        assert error.value.row == 1
    with pytest.raises(RowError, match=r"6 is outside 0\.\.5"):
        Words(V).labels({"label": [[6, 1, 0]]})
    given = Words(V).given({"label": [[2, 1, 0], [3, 4, 1]]})
    np.testing.assert_array_equal(given["previous"], [[0, 2, 1], [0, 3, 4]])


@pytest.mark.parametrize("head", WORDS + SOUND)
def test_a_decoder_sees_the_past_and_the_fused_tokens_alone(head, fused):
    rng = np.random.default_rng(2)
    words = head in WORDS
    x = examples.texts(B, rng) if words else rng.normal(size=(B, T, 3)).astype(np.float32)
    previous = late(x)
    variables = head.init(jax.random.key(0), fused, {}, {"previous": previous})
    run = jax.jit(lambda f, p: head.apply(variables, f, {}, {"previous": p}))
    output = np.asarray(run(fused, previous))
    for step in range(1, T):  # what comes later has no influence
        other = previous.copy()
        other[:, step:] = (other[:, step:] + 1) % V
        changed = np.asarray(run(fused, other))
        np.testing.assert_array_equal(changed[:, :step], output[:, :step])
        assert (changed[:, step] != output[:, step]).any(-1).all()
    hidden = np.where(fused.mask[..., None], fused.tokens, np.nan)
    np.testing.assert_array_equal(run(fused.replace(tokens=hidden), previous), output)
    seen = np.where(fused.mask[..., None], fused.tokens + 1, fused.tokens)
    changed = (np.asarray(run(fused.replace(tokens=seen), previous)) != output).any((1, 2))
    assert changed.tolist() == [True, True, True, False]  # the last has no token
    longer = np.concatenate([previous, np.zeros_like(previous[:, :3])], axis=1)
    np.testing.assert_allclose(run(fused, longer)[:, :T], output, rtol=1e-5, atol=1e-6)
    order = [2, 0, 1]  # attention to a set: the order of the tokens does not matter to the LSTM
    turned = Fused(fused.tokens[:, order], fused.mask[:, order])
    np.testing.assert_allclose(run(turned, previous), output, rtol=1e-4, atol=1e-5)


def test_what_is_behind_the_end_changes_no_bit_of_the_loss():
    rng = np.random.default_rng(3)
    z, label = rng.normal(size=(B, T, V)).astype(np.float32), examples.texts(B, rng)
    other = np.where((label > 0)[..., None], z, 50).astype(np.float32)
    np.testing.assert_array_equal(Words(V).loss(z, label), Words(V).loss(other, label))
    grads = jax.grad(lambda o: Words(V).loss(o, label).sum())(z)
    assert (np.asarray(grads)[label == 0] == 0).all() and (np.asarray(grads)[label > 0] != 0).all()
    task = examples.task("sound")
    columns = examples.columns("sound", B, rng)
    label, y = task.labels(columns), rng.normal(size=(B, 6, 3)).astype(np.float32)
    other = np.where(label["mask"][..., None], y, 1e6).astype(np.float32)
    np.testing.assert_array_equal(task.loss(y, label), task.loss(other, label))
    error = [np.mean((y[b] - label["value"][b])[label["mask"][b]] ** 2) for b in range(B)]
    np.testing.assert_allclose(task.loss(y, label), error, rtol=1e-5)
    sums = jax.device_get(task.sums(y, label, np.ones(B, np.float32)))
    rmse = np.sqrt(np.mean((y - label["value"])[label["mask"]] ** 2))
    assert task.scores(sums)["rmse"] == pytest.approx(rmse, rel=1e-5)
    given = task.given(columns)["previous"]
    np.testing.assert_array_equal(given[:, 1:], label["value"][:, :-1])
    assert (given[:, 0] == 0).all()
    assert Sound((6, 3)).scores({"square": 0.0, "frames": 0.0}) == {"rmse": None, "nll": None}
    normal = (
        np.log(rmse) + np.log(2 * np.pi * np.e) / 2
    )  # the entropy of a normal law of that width
    assert task.scores(sums)["nll"] == pytest.approx(normal, rel=1e-5)


@pytest.mark.parametrize("head", WORDS)
def test_a_text_is_exact_where_greedy_decoding_says_it(head, fused):
    rng = np.random.default_rng(5)
    label = examples.texts(B, rng, length=3)
    variables = head.init(jax.random.key(1), fused, {}, {"previous": late(label)})
    said = np.asarray(greedy(decoder(head, variables["params"], fused), B, 3, end=1))
    cut = said[1].copy()
    cut[-1] = 2 + (cut[-1] + 1) % 4  # all but the last is right
    label = np.where((said > 0).any(1, keepdims=True), said, label)
    label[1] = np.where(cut == 0, said[1], cut)
    output = head.apply(variables, fused, {}, {"previous": late(label)})
    exact = np.asarray(Words(V).kept_output(output, label)["exact"])
    np.testing.assert_array_equal(exact, (said == label).all(1))
    assert 0 < exact.sum() < B


def test_a_recurrent_sound_comes_from_the_fused_tokens_alone(fused):
    head, shape = RecurrentSound(3, features=8), np.zeros((B, T, 3), np.float32)
    output, variables = head.init_with_output(jax.random.key(0), fused, {}, {"previous": shape})
    assert output.shape == (B, T, 3)
    np.testing.assert_array_equal(
        head.apply(variables, fused, {}, {"previous": np.full_like(shape, np.nan)}), output
    )
    assert (np.asarray(output)[:3, 0] != np.asarray(output)[:3, 1]).any(-1).all(), "time is told"
    hidden = np.where(fused.mask[..., None], fused.tokens, np.nan)
    unseen = fused.replace(tokens=hidden)
    np.testing.assert_array_equal(head.apply(variables, unseen, {}, {"previous": shape}), output)
    made = frames(decoder(head, variables["params"], fused), B, (T, 3))
    np.testing.assert_allclose(made, output, atol=1e-6)


def test_pictures_by_numpy():
    rng = np.random.default_rng(4)
    columns = examples.columns("picture", B, rng)
    z = rng.normal(size=(B, 4, 5, 1)).astype(np.float32)
    task = PictureOf([4, 5, 1])
    y = task.labels(columns).astype(float)
    np.testing.assert_allclose(y, np.array(columns["label"]) / 255, rtol=1e-6)
    p = 1 / (1 + np.exp(-z.astype(float)))
    nll = -np.sum(y * np.log(p) + (1 - y) * np.log(1 - p), axis=(1, 2, 3))
    np.testing.assert_allclose(task.loss(z, y.astype(np.float32)), nll, rtol=1e-5)
    sums = jax.device_get(task.sums(z, y.astype(np.float32), np.ones(B, np.float32)))
    found = task.scores(sums | {"count": B})
    assert found["nll"] == pytest.approx(nll.mean(), rel=1e-5)
    assert found["rmse"] == pytest.approx(np.sqrt(np.mean((p - y) ** 2)), rel=1e-5)
    normal = PictureOf([4, 5, 1], "gaussian", sigma=0.3)
    density = np.exp(-(((z - y) / 0.3) ** 2) / 2) / (0.3 * np.sqrt(2 * np.pi))
    expected = -np.log(density).sum((1, 2, 3))
    np.testing.assert_allclose(normal.loss(z, y.astype(np.float32)), expected, rtol=1e-4)
    with pytest.raises(RowError, match="a pixel is outside"):
        task.labels({"label": [np.full((4, 5, 1), 1.5)]})
    with pytest.raises(InputError, match="did you mean 'gaussian'"):
        PictureOf([4, 5, 1], "gausian")


@pytest.mark.parametrize(
    ("shape", "blocks"), [((4, 5, 1), (8,)), ((7, 6, 3), (8, 4)), ((3, 3, 2), ())]
)
def test_a_picture_has_the_shape_asked_for_and_comes_from_real_tokens_alone(fused, shape, blocks):
    head = PictureCNN(shape, blocks)
    output, variables = head.init_with_output(jax.random.key(0), fused)
    assert output.shape == (B, *shape)
    hidden = np.where(fused.mask[..., None], fused.tokens, np.nan)
    np.testing.assert_array_equal(head.apply(variables, fused.replace(tokens=hidden)), output)
    grads = jax.grad(lambda v: (head.apply(v, fused) ** 2).sum())(variables)
    assert all((np.asarray(leaf) != 0).any() for leaf in jax.tree.leaves(grads))


def test_each_pixel_of_a_canvas_attends_to_the_real_tokens_by_numpy(fused):
    found, variables = Canvas(6, 4).init_with_output(jax.random.key(0), fused)
    params = jax.tree.map(np.asarray, variables["params"])
    tokens = fused.tokens[1][fused.mask[1]]
    x = (tokens.mean(0) @ params["start"]["kernel"] + params["start"]["bias"]).reshape(6, 4)
    query, key, value = (
        of @ params["attention"][name]["kernel"]
        for name, of in (("query", x), ("key", tokens), ("value", tokens))
    )
    score = np.exp(query @ key.T / 2)
    out = params["attention"]["out"]
    attended = (score / score.sum(1, keepdims=True)) @ value @ out["kernel"] + out["bias"]
    np.testing.assert_allclose(found[1], x + attended, rtol=1e-4, atol=1e-5)
