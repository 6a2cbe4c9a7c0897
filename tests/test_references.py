"""Simple rules against other ways to the same numbers."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime, minimize

from mmfuse.data import maec, polymusic, waimai_10k
from mmfuse.data import references as refs
from mmfuse.data.maec_references import of_voice, of_words
from mmfuse.data.maec_sources import Call, Scale

SPLITS = ("train", "valid", "test")


def test_rates_and_their_loss_by_hand():
    y = np.array([[1, 0], [1, 0], [1, 1]])
    p = refs.rates(y)
    np.testing.assert_allclose(p, [4 / 5, 2 / 5])
    by_hand = -np.mean([np.log(0.8) + np.log(0.6)] * 2 + [np.log(0.8) + np.log(0.4)])
    assert refs.bernoulli_nll(p, y) == pytest.approx(by_hand)


def test_r2_leaves_out_what_is_undefined():
    y = np.array([[1.0, 0], [2, 0], [6, 5], [99, 7]])
    mask = np.array([[1, 0], [1, 0], [1, 1], [0, 1]], bool)
    p = np.array([[1.0, 3], [3, 3], [6, 5], [0, 6]])
    first, second = 1 - 1 / ((1 - 3) ** 2 + 1 + 9), 1 - 1 / 2
    assert refs.r2(p, y, mask) == pytest.approx((first + second) / 2)


def test_ridge_is_least_squares_with_more_rows_and_a_penalty_by_validation(monkeypatch):
    rng = np.random.default_rng(0)
    x = {s: rng.normal(size=(n, 6)) for s, n in zip(SPLITS, (9, 40, 50), strict=True)}
    w = rng.normal(size=(6, 2))
    y = {s: 3 + x[s] @ w + 2 * rng.normal(size=(len(x[s]), 2)) for s in SPLITS}
    mask = {s: rng.random(y[s].shape) < 0.9 for s in SPLITS}
    scores = {}
    for penalty in refs.PENALTIES:
        rows = np.vstack(
            [np.c_[np.ones(9), x["train"]], np.c_[np.zeros(6), penalty**0.5 * np.eye(6)]]
        )
        found = np.linalg.lstsq(rows, np.vstack([y["train"], np.zeros((6, 2))]), rcond=None)[0]
        scores[penalty] = [
            refs.r2(np.c_[np.ones(len(x[s])), x[s]] @ found, y[s], mask[s]) for s in SPLITS[1:]
        ]
    assert refs.ridge(x, y, mask) == pytest.approx(max(scores.values())[1])
    assert len({max(scores.values())[1], scores[1.0][1]}) == 2  # another than the first is chosen


def test_tf_idf_by_hand():
    x = refs.tf_idf({"train": ["ab", "b"], "test": ["bb?"]}, 2)
    both, one = 1 + np.log(3 / 3), 1 + np.log(3 / 2)  # b is in both, a and ab in one
    row = np.array([one, one, both])  # a, ab, b
    np.testing.assert_allclose(x["train"].toarray()[0], row / np.linalg.norm(row))
    np.testing.assert_allclose(x["test"].toarray(), [[0, 0, 1]])  # 'bb' and '?' are unknown


def test_logistic_regression_finds_the_optimum(monkeypatch):
    rng = np.random.default_rng(1)
    texts = {s: ["".join(rng.choice(list("abcd"), 5)) for _ in range(60)] for s in SPLITS}
    y = {
        s: np.array([int(t.count("a") + (rng.random() < 0.2) > 1) for t in texts[s]])
        for s in SPLITS
    }
    x = refs.tf_idf(texts, 1)
    dense = {s: np.c_[np.ones(60), x[s].toarray()] for s in SPLITS}
    right = {}
    for strength in refs.STRENGTHS:

        def cost(w, c=strength):
            z = dense["train"] @ w
            return -np.sum(y["train"] * z - np.log1p(np.exp(z))) + w[1:] @ w[1:] / (2 * c)

        w = minimize(
            cost,
            np.zeros(5),
            method="Nelder-Mead",
            options={"maxiter": 9000, "xatol": 1e-7, "fatol": 1e-9},
        ).x
        assert np.abs(approx_fprime(w, cost)).max() < 1e-2
        right[strength] = [np.mean((dense[s] @ w > 0) == y[s]) for s in SPLITS[1:]]
    best = max(right.values(), key=lambda pair: pair[0])[1]
    assert refs.logistic(x, y) == pytest.approx(best)


def test_a_chain_of_each_key_knows_what_is_held():
    rng = np.random.default_rng(2)
    held = [np.repeat(rng.integers(2, size=(4, 88)), 5, axis=0).astype(np.uint8) for _ in range(9)]
    marginal, chain = polymusic.of_keys({"train": held[:6], "test": held[6:]})
    assert marginal["metric"] == chain["metric"] == "nll"
    p = np.array([(sum(r[:, 0].sum() for r in held[:6]) + 1) / (6 * 20 + 2)])
    first = -np.mean([np.log(p if on else 1 - p) for r in held[6:] for on in r[1:, 0]])
    assert refs.bernoulli_nll(p, np.concatenate([r[1:, :1] for r in held[6:]])) == pytest.approx(
        first
    )
    # A key changes in 3 of 19 steps with p = 1/2: the entropy of that, 88 times.
    q = 1.5 / 19
    assert chain["value"] == pytest.approx(-88 * (q * np.log(q) + (1 - q) * np.log1p(-q)), rel=0.1)
    assert marginal["value"] == pytest.approx(88 * np.log(2), rel=0.05)


def talk(rng, split, number, n=60):
    """The next voice leans on the last and on the mean of two before; the words say nothing."""
    voice = rng.normal(size=(n, 29))
    for t in range(3, n):
        voice[t] += 0.4 * voice[t - 1] + 0.5 * voice[t - 3 : t - 1].mean(0)
    said = [" ".join(rng.choice(["alpha", "beta", "gamma"], 2)) for _ in range(n)]
    return Call(f"{split}{number}", split, said, voice, rng.random((n, 29)) < 0.95)


def test_references_of_calls_know_what_they_read():
    rng = np.random.default_rng(3)
    parts = {s: [talk(rng, s, i) for i in range(20)] for s in SPLITS}
    scale = Scale.fit([call for calls in parts.values() for call in calls])
    words = maec.ranked(parts["train"])
    assert sorted(words) == ["alpha", "beta", "gamma"]
    found = {r["name"]: r["value"] for r in of_voice(parts, scale, 2, words)}
    past = "mean of 2 sentences before"
    assert found["ridge: audio"] > max(found["persistence: the same voice again"], 0)
    assert found[f"ridge: audio + {past}"] > found["ridge: audio"] + 0.02
    assert abs(found["ridge: text"]) < 0.05
    y = np.concatenate([scale(call)[1:] for call in parts["test"]])
    again = np.concatenate([scale(call)[:-1] for call in parts["test"]])
    mask = np.concatenate([call.defined[1:] for call in parts["test"]])
    persistence = found["persistence: the same voice again"]
    assert persistence == pytest.approx(refs.r2(again, y, mask))
    assert len(of_voice(parts, scale, 0, words)) == 4  # no past, no reference that reads it
    (marginal,) = of_words(parts, ["beta", "never"])
    said = [[("beta" in s) for s in call.sentences[1:]] for call in parts["train"]]
    p = (np.sum(said) + 1) / (20 * 59 + 2)
    heard = np.array([("beta" in s) for call in parts["test"] for s in call.sentences[1:]])
    by_hand = -np.mean(np.where(heard, np.log(p), np.log(1 - p))) - np.log(1 - 1 / (20 * 59 + 2))
    assert marginal["value"] == pytest.approx(by_hand)


def test_reviews_by_their_characters():
    good, bad = ["好吃", "很好", "好"], ["难吃", "太差", "差"]
    texts = (good + bad) * 3
    columns = {
        "text": np.array(texts), "label": np.array([1, 1, 1, 0, 0, 0] * 3),
        "split": np.repeat(SPLITS, 6),
    }  # fmt: skip
    (entry,) = waimai_10k.of_characters(columns)
    assert entry["metric"] == "accuracy" and entry["value"] == 1
