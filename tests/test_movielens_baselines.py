"""The baselines of ``movielens``, against hand computations and the figures published with it."""

from pathlib import Path

import numpy as np
import pytest

from mmfuse.data import movielens, raw
from mmfuse.data import movielens_baselines as baselines
from mmfuse.data import movielens_sources as sources
from mmfuse.data.movielens import MovielensConfig, divide


def ratings(triples, users, films):
    """Ratings (user, film, stars) without content."""
    user, item, rating = np.array(triples).T
    none = np.zeros(0)
    return sources.Ratings(
        user=user, item=item, rating=rating, time=np.arange(len(user)), tests={},
        profile=np.zeros((users, 1)), profile_names=[], genre=np.zeros((films, 1)),
        genre_names=[], plot=[], poster_row=none, poster=none,
    )  # fmt: skip


def test_biases_solve_the_penalised_least_squares():
    """Against one linear system of all biases."""
    rng = np.random.default_rng(0)
    pairs = rng.permutation(7 * 9)[:40]
    data = ratings([(p // 9, p % 9, rng.integers(1, 6)) for p in pairs], 7, 9)
    chosen = rng.random(40) < 0.8
    found = baselines.Biases.fit(data, chosen)
    design = np.zeros((chosen.sum(), 16))
    rows = np.arange(chosen.sum())
    design[rows, data.user[chosen]] = design[rows, 7 + data.item[chosen]] = 1
    mean = data.rating[chosen].mean()
    normal = design.T @ design + baselines.DAMPING * np.eye(16)
    expected = np.linalg.solve(normal, design.T @ (data.rating[chosen] - mean))
    assert found.mean == pytest.approx(mean)
    np.testing.assert_allclose(np.r_[found.user, found.item], expected, atol=1e-6)
    np.testing.assert_allclose(
        found.predict(data), mean + expected[data.user] + expected[7 + data.item], atol=1e-6
    )


def test_references_of_ratings_by_hand():
    """Two users, one film each in training; the test asks for a film without ratings."""
    data = ratings([(0, 0, 5), (1, 1, 1), (0, 2, 4), (1, 2, 3)], 2, 3)
    split = np.array([0, 0, 2, 2])
    found = {(e["name"], e["metric"]): e["value"] for e in baselines.of_ratings(data, split, cold=True)}  # noqa: E501  # fmt: skip
    assert found["mean of training", "rmse"] == pytest.approx(np.sqrt((1 + 0) / 2))
    assert found["mean of training", "mae"] == pytest.approx(0.5)
    bias = 2 / (baselines.DAMPING + 1)  # of one rating, 2 above the mean or below it
    expected = np.sqrt(((4 - 3 - bias) ** 2 + (3 - 3 + bias) ** 2) / 2)
    assert found["user bias", "rmse"] == pytest.approx(expected)
    assert len(found) == 4
    warm = baselines.of_ratings(data, np.array([0, 1, 2, 2]), cold=False)
    means = [e["value"] for e in warm if e["metric"] == "mae" and e["name"].startswith("mean")]
    assert means == pytest.approx([1.5, 0.5])  # of the training rating 5; of 5 and 1


def test_lists_by_hand(monkeypatch):
    """Films 0..3 by their scores; film 1 ties with film 2; lists of two."""
    monkeypatch.setattr(baselines, "TOP", 2)
    data = ratings([(0, 0, 5), (0, 2, 5), (0, 3, 5), (1, 1, 5), (1, 2, 1)], 2, 4)
    had = np.array([True, False, False, False, True])
    wanted = np.array([False, True, True, True, False])
    scores = np.array([9.0, 5.0, 5.0, 1.0])
    recall, ndcg = baselines.listed(scores, data, had, wanted)
    # User 0 has had film 0: film 2 is at 1.5, film 3 at 3. User 1 has had film 2: film 1 is at 2.
    assert recall == pytest.approx((1 / 2 + 1) / 2)
    first = (1 / np.log2(2.5)) / (1 + 1 / np.log2(3))
    assert ndcg == pytest.approx((first + 1 / np.log2(3)) / 2)


def test_lists_are_made_of_training_alone():
    """Film 0 is liked once in training, film 1 more often, but on validation and test."""
    triples = [(0, 0, 5), (1, 1, 5), (2, 1, 5), (2, 0, 4)] + [(2, f, 1) for f in range(2, 30)]
    data = ratings(triples, 3, 30)
    split = np.array([0, 1, 2, 2] + [2] * 28)
    found = baselines.of_lists(data, split, data.rating >= 4)
    values = {(e["name"], e["metric"]): e["value"] for e in found}
    # By frequency film 0 is at 1; film 1 ties with 28 others at 2..30, in the middle 16.
    gains = 1 + 1 / np.log2(1 + 16)
    assert values["frequency", "recall20"] == 1
    assert values["frequency", "ndcg20"] == pytest.approx(gains / (1 + 1 / np.log2(3)))


@pytest.fixture(scope="module")
def real(raw_data):
    if not raw.place(sources.PACKED, Path(raw_data)).exists():
        pytest.skip("needs movielens_100k_mm.npz beside the upstream files")
    files = movielens.Movielens.sources(MovielensConfig())
    return sources.read({f.path: raw.place(f, Path(raw_data)) for f in files})


def test_the_mean_and_biases_are_as_good_as_published_with_the_data(real):
    """u1, all of its base: RMSE 1.154 of the mean, and 0.955 with biases of user and film."""
    found = baselines.of_ratings(real, divide(real, MovielensConfig()), cold=False)
    rmse = {entry["name"]: entry["value"] for entry in found if entry["metric"] == "rmse"}
    assert rmse["mean of the whole base"] == pytest.approx(1.154, abs=5e-4)
    assert rmse["user + film bias of the whole base"] == pytest.approx(0.955, abs=5e-4)
    assert rmse["user + film bias"] == pytest.approx(0.958, abs=5e-4)


def test_what_most_like_is_a_better_list_than_the_biases(real):
    """A film that few rate, and these well, is in no test: as Cremonesi et al. 2010 found."""
    found = baselines.of_lists(real, divide(real, MovielensConfig(task="top")), real.rating >= 4)
    values = {(e["name"], e["metric"]): e["value"] for e in found}
    assert values["frequency", "recall20"] > values["film bias", "recall20"] > 0.02
