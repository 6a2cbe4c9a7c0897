"""What needs no network: scores of simple rules on a test split, for the last lines of a table.

All is learned from the training split; a penalty is chosen on the validation split. A builder notes
``reference``s in its card.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import sparse
from scipy.optimize import minimize
from scipy.special import expit

PENALTIES = (1.0, 10.0, 100.0, 1000.0, 10_000.0)  # of a ridge
STRENGTHS = (0.3, 1.0, 3.0, 10.0)  # C of a logistic regression
Parts = Mapping[str, np.ndarray]  # of a split, [N, ...] each


def reference(name: str, metric: str, value: float) -> dict:
    """An entry of the card's ``references``."""
    return {"name": name, "metric": metric, "value": float(value)}


def rates(y: np.ndarray) -> np.ndarray:
    """How often each label of y [N, K] is 1, between the two: (sum + 1) / (N + 2), [K]."""
    return (y.sum(0, dtype=np.float64) + 1) / (len(y) + 2)


def bernoulli_nll(p: np.ndarray, y: np.ndarray) -> float:
    """``-sum_k y_k log p_k + (1 - y_k) log(1 - p_k)``, its mean over the rows of y [N, K]."""
    p = np.broadcast_to(p, y.shape)
    return float(-np.where(y > 0, np.log(p), np.log1p(-p)).sum(1).mean())


def r2(prediction: np.ndarray, y: np.ndarray, mask: np.ndarray) -> float:
    """The mean over the columns of y [N, F] of R2 over what is defined, as the task ``vector``."""
    n = np.maximum(mask.sum(0), 1)
    mean = np.where(mask, y, 0).sum(0) / n
    wrong = np.where(mask, np.square(y - prediction), 0).sum(0)
    spread = np.where(mask, np.square(y - mean[None]), 0).sum(0)
    return float(np.mean(1 - wrong[spread > 0] / spread[spread > 0]))


def ridge(x: Parts, y: Parts, mask: Parts) -> float:
    """R2 on test of ``argmin_W |X W - Y|^2 + penalty |W|^2``, with a bias that costs nothing.

    The penalty of ``PENALTIES`` with the best R2 on validation. An undefined target counts as the
    0 that y holds for it, the training mean, in the fit; in the scores it does not count.
    """
    x = {split: np.pad(part.astype(np.float64), ((0, 0), (1, 0)), constant_values=1)
         for split, part in x.items()}  # fmt: skip
    square, product = x["train"].T @ x["train"], x["train"].T @ y["train"]
    costs = np.eye(len(square))
    costs[0, 0] = 0
    found = []
    for penalty in PENALTIES:
        w = np.linalg.solve(square + penalty * costs, product)
        scores = [r2(x[s] @ w, y[s], mask[s]) for s in ("valid", "test")]
        found.append(scores)
    return max(found, key=lambda scores: scores[0])[1]


def tf_idf(texts: Parts, most: int) -> dict[str, sparse.csr_array]:
    """TF-IDF of character 1- to ``most``-grams, rows of length one; grams of training alone.

    ``tf (1 + log((1 + N) / (1 + df)))`` of N training texts, df of which have the gram.
    """
    grams = {split: [_grams(text, most) for text in part] for split, part in texts.items()}
    df = Counter(gram for found in grams["train"] for gram in found)
    place = {gram: i for i, gram in enumerate(sorted(df))}
    weight = {gram: 1 + np.log((1 + len(grams["train"])) / (1 + n)) for gram, n in df.items()}
    return {split: _rows(found, place, weight) for split, found in grams.items()}


def _grams(text: str, most: int) -> Counter:
    return Counter(text[i : i + n] for n in range(1, most + 1) for i in range(len(text) - n + 1))


def _rows(found: Sequence[Counter], place: dict, weight: dict) -> sparse.csr_array:
    entries = [
        (row, place[gram], n * weight[gram])
        for row, counts in enumerate(found)
        for gram, n in counts.items()
        if gram in place
    ]
    row, column, value = (np.array(part) for part in zip(*entries, strict=True))
    x = sparse.csr_array((value, (row, column)), shape=(len(found), len(place)))
    length = np.sqrt(x.multiply(x).sum(axis=1))
    return sparse.csr_array(sparse.diags_array(1 / np.maximum(length, 1e-12)) @ x)


def logistic(x: Mapping[str, sparse.csr_array], y: Parts) -> float:
    """Accuracy on test of ``argmin_w sum_i log(1 + exp(-s_i (w . x_i + b))) + |w|^2 / (2 C)``.

    s is the label, -1 or 1. C is the one of ``STRENGTHS`` with the best accuracy on validation.
    """
    sign = np.where(np.asarray(y["train"]) > 0, 1.0, -1.0)
    found = []
    for strength in STRENGTHS:

        def cost(w: np.ndarray, strength: float = strength) -> tuple[float, np.ndarray]:
            margin = sign * (x["train"] @ w[1:] + w[0])
            slope = -sign * expit(-margin)
            gradient = np.concatenate([[slope.sum()], x["train"].T @ slope + w[1:] / strength])
            return np.logaddexp(0, -margin).sum() + w[1:] @ w[1:] / (2 * strength), gradient

        w = minimize(cost, np.zeros(x["train"].shape[1] + 1), jac=True, method="L-BFGS-B").x
        found.append(
            [
                np.mean((x[s] @ w[1:] + w[0] > 0) == (np.asarray(y[s]) > 0))
                for s in ("valid", "test")
            ]
        )
    return float(max(found, key=lambda scores: scores[0])[1])
