"""Multinomial logistic regression: what a linear model makes of a few hundred examples."""

from __future__ import annotations

import numpy as np
import scipy.optimize

PENALTY = 10.0


def answers(
    x: np.ndarray, label: np.ndarray, train: np.ndarray, test: np.ndarray, penalty: float = PENALTY
) -> np.ndarray:
    """Returns the class of each test example, by a model of the training examples alone.

    Columns are standardised by the training part; a constant one counts for nothing.

    Args:
      x: [N, F].
      label: int [N], classes from 0; those of ``train`` can be answered.
      train, test: bool [N].
      penalty: of :func:`fit`.
    """
    mean, std = x[train].mean(0), x[train].std(0)
    scaled = (x - mean) / np.where(std > 0, std, np.inf)
    weights, bias = fit(scaled[train], label[train], int(label.max()) + 1, penalty)
    return (scaled[test] @ weights + bias).argmax(1)


def fit(
    x: np.ndarray, label: np.ndarray, classes: int, penalty: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns W [F, C] and b [C] that minimise ``sum_i -log p_i(y_i) + penalty / 2 |W|^2``.

    ``p_i = softmax(x_i W + b)``; b is not penalised. By L-BFGS, from zero: one answer, as the loss
    is convex.

    Args:
      x: [N, F].
      label: int [N].
      classes: C.
      penalty: above 0.
    """
    target, n = np.eye(classes)[label], np.arange(len(x))

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights, bias = flat[classes:].reshape(-1, classes), flat[:classes]
        score = x @ weights + bias
        score -= score.max(1, keepdims=True)
        log_p = score - np.log(np.exp(score).sum(1, keepdims=True))
        error = np.exp(log_p) - target
        value = -log_p[n, label].sum() + penalty / 2 * np.square(weights).sum()
        slope = x.T @ error + penalty * weights
        return float(value), np.concatenate([error.sum(0), slope.ravel()])

    start = np.zeros(classes * (1 + x.shape[1]))
    options = {"maxiter": 5000, "maxfun": 10000, "ftol": 1e-10, "gtol": 1e-4}
    flat = scipy.optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options=options).x
    return flat[classes:].reshape(-1, classes), flat[:classes]
