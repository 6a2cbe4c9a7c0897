"""What needs no fusion on ``movielens``: the mean, biases of users and films, the films most liked.

All are computed from ratings alone: fitted on one part of them, measured on another.
Letters: U users, I films.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from mmfuse.data.movielens_sources import Ratings
from mmfuse.data.references import reference

DAMPING = 5.0  # ratings of the mean that every user and every film begins with
ROUNDS = 20  # alternations; the biases move by less than 1e-4 after ten
TOP = 20  # places of a list


@dataclasses.dataclass(frozen=True)
class Biases:
    """``rating = mean + user[u] + item[i]``, by least squares with a penalty on both.

    ``sum (r - mean - b_u - c_i)^2 + DAMPING (sum b_u^2 + sum c_i^2)`` is least, found by
    alternating ``b_u = sum over the n ratings of u of (r - mean - c_i) / (DAMPING + n)`` and the
    same for films. Who has no rating has bias 0. In stars; ``user`` is [U] and ``item`` [I].
    """

    mean: float
    user: np.ndarray
    item: np.ndarray

    @classmethod
    def fit(cls, ratings: Ratings, chosen: np.ndarray, *, films: bool = True) -> Biases:
        """Of the chosen ratings, bool [N]; without ``films`` all films are alike."""
        user, item, rating = (c[chosen] for c in (ratings.user, ratings.item, ratings.rating))
        mean = rating.mean()
        b, c = np.zeros(len(ratings.profile)), np.zeros(len(ratings.genre))
        for _ in range(ROUNDS):
            b = _damped(user, rating - mean - c[item], len(b))
            c = _damped(item, rating - mean - b[user], len(c)) if films else c
        return cls(float(mean), b, c)

    def predict(self, ratings: Ratings) -> np.ndarray:
        """Of every rating, [N]."""
        return self.mean + self.user[ratings.user] + self.item[ratings.item]


def _damped(who: np.ndarray, rest: np.ndarray, size: int) -> np.ndarray:
    """The damped mean of what is left, for each of ``size`` users or films."""
    return np.bincount(who, rest, size) / (DAMPING + np.bincount(who, minlength=size))


def of_ratings(ratings: Ratings, split: np.ndarray, *, cold: bool) -> list[dict]:
    """RMSE and MAE on test (split 2), fitted on training (split 0), as a card's ``references``.

    With warm films also fitted on the whole base (splits 0 and 1), as in the published setting.
    """
    users = Biases.fit(ratings, split == 0, films=False)
    predictions = {
        "mean of training": np.full(len(split), users.mean),
        "user bias": users.predict(ratings),
    }
    if not cold:
        predictions["user + film bias"] = Biases.fit(ratings, split == 0).predict(ratings)
        base = Biases.fit(ratings, split < 2)
        predictions["mean of the whole base"] = np.full(len(split), base.mean)
        predictions["user + film bias of the whole base"] = base.predict(ratings)
    entries = []
    for name, predicted in predictions.items():
        error = (ratings.rating - predicted)[split == 2]
        entries.append(reference(name, "rmse", np.sqrt(np.mean(error**2))))
        entries.append(reference(name, "mae", np.mean(np.abs(error))))
    return entries


def of_lists(ratings: Ratings, split: np.ndarray, liked: np.ndarray) -> list[dict]:
    """Recall@20 and NDCG@20 on test of two lists that are the same for all users.

    By frequency: how often a film was liked in training. By bias: of ``Biases`` of training. A list
    leaves out what the user rated in the base; ``liked`` is bool [N].
    """
    likes = np.bincount(ratings.item[(split == 0) & liked], minlength=len(ratings.genre))
    lists = {"frequency": likes, "film bias": Biases.fit(ratings, split == 0).item}
    entries = []
    for name, scores in lists.items():
        recall, ndcg = listed(scores, ratings, split < 2, (split == 2) & liked)
        entries.append(reference(name, f"recall{TOP}", recall))
        entries.append(reference(name, f"ndcg{TOP}", ndcg))
    return entries


def listed(
    scores: np.ndarray, ratings: Ratings, had: np.ndarray, wanted: np.ndarray
) -> tuple[float, float]:
    """Recall@20 and NDCG@20 of scores [I], means over the users who want a film.

    The rank of a film is ``1 + #{better} + #{equal} / 2`` among the films the user has not had, the
    other wanted ones included; its gain is ``1 / log2(1 + rank)`` up to rank 20, else 0. Recall is
    the share of wanted films up to rank 20; NDCG the gains over those of ranks 1..min(n, 20).

    Args:
      scores: of films, the higher the better.
      had, wanted: bool [N], which ratings say so of their user and film.
    """
    recalls, gains = [], []
    for user in np.unique(ratings.user[wanted]):
        films = ratings.item[wanted & (ratings.user == user)]
        allowed = np.ones(len(scores), bool)
        allowed[ratings.item[had & (ratings.user == user)]] = False
        others, own = scores[None, allowed], scores[films, None]
        rank = 1 + (others > own).sum(1) + ((others == own).sum(1) - 1) / 2
        gain = np.where(rank <= TOP, 1 / np.log2(1 + rank), 0)
        best = 1 / np.log2(2 + np.arange(min(len(films), TOP)))
        recalls.append(np.mean(rank <= TOP))
        gains.append(gain.sum() / best.sum())
    return float(np.mean(recalls)), float(np.mean(gains))
