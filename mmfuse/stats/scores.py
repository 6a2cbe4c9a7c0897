"""The score of every test example, fold or group of them, of a metric that is a mean over them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

CONSTANT = 1e-6  # a variance below which there is no R2, as in mmfuse.tasks.vector
EXAMPLES, FOLDS, GROUPS = "test examples", "folds", "groups of test examples"
DRAWN = {"fold": FOLDS, "group": GROUPS}

# {"output" [N, C], "label" [N]}, or dicts of arrays [N, ...]; "fold" [N] where folds were pooled,
# "group" [N] where examples belong together, as those of a dialogue do.
Predictions = Mapping[str, Any]


def _accuracy(output: np.ndarray, label: np.ndarray) -> np.ndarray:
    return (output.argmax(-1) == label).astype(np.float64)


def _recall(output: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Macro recall as a mean over examples: ``[right] N / (K N_label)``, K classes that are seen.

    The numbers of examples of the classes, N_label, are held fixed, whatever is drawn.
    """
    answer, counts = output.argmax(-1), np.bincount(label, minlength=output.shape[-1])
    classes = len(set(label.tolist()) | set(answer.tolist()))
    return (answer == label) * label.size / (classes * counts[label])


def _absolute(output: np.ndarray, label: np.ndarray) -> np.ndarray:
    return np.abs(output[:, 0].astype(np.float64) - label)


def _has0(output: np.ndarray, label: np.ndarray) -> np.ndarray:
    return ((output[:, 0] >= 0) == (label >= 0)).astype(np.float64)


def _non0(output: np.ndarray, label: np.ndarray) -> np.ndarray:
    kept = label != 0
    return ((output[kept, 0] > 0) == (label[kept] > 0)).astype(np.float64)


def _seven(output: np.ndarray, label: np.ndarray) -> np.ndarray:
    p, y = (np.round(np.clip(v, -3, 3)) for v in (output[:, 0], label))
    return (p == y).astype(np.float64)


def _r2(output: Mapping, label: Mapping) -> np.ndarray:
    """Mean R2 over F features as a mean over examples: ``1 - N / F sum_f wrong_if / spread_f``.

    The spread of a feature in the test split, ``sum (y - mean)^2``, is held fixed, whatever is
    drawn.
    """
    there, y = label["mask"], np.asarray(label["value"], np.float64)
    count = np.maximum(there.sum(0), 1)
    mean = np.where(there, y, 0).sum(0) / count
    spread = (np.where(there, y - mean[None], 0) ** 2).sum(0)
    wrong = np.where(there, y - output["prediction"], 0) ** 2
    varies = spread > CONSTANT * count
    return (1 - len(y) * wrong[:, varies] / spread[varies][None]).mean(1)


SCORES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "accuracy": _accuracy,
    "recall_macro": _recall,
    "mae": _absolute,
    "acc2_has0": _has0,
    "acc2_non0": _non0,
    "acc7": _seven,
}
OF_VECTORS = {"r2": _r2}  # of outputs and labels that are dicts
COUNTED = frozenset(SCORES) - {"mae", "recall_macro"}  # scores that are 0 or 1


def by_fold(scores: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Returns scores [S, U] of U folds, or groups, with the mean of the scores [S, N] of examples.

    ``z_su = m_s + U / N sum over i in u of (x_si - m_s)`` with ``m_s`` the mean over examples: the
    standard error of the mean of z over folds is the cluster-robust one of m (Liang and Zeger
    1986), ``sqrt(U / (U - 1) sum_u T_u^2) / N`` with ``T_u`` the sum of residuals of a fold.
    """
    found, place = np.unique(fold, return_inverse=True)
    mean = scores.mean(1, keepdims=True)
    totals = (scores - mean) @ np.eye(found.size)[place]
    return mean + totals * found.size / scores.shape[1]


def drawn(runs: Mapping[int, Predictions]) -> str:
    """Returns what the test split is made of: ``FOLDS`` if folds were pooled, else ``GROUPS`` or
    ``EXAMPLES``.
    """
    return DRAWN.get(_key(runs), EXAMPLES)


def _key(runs: Mapping[int, Predictions]) -> str | None:
    return next((key for key in DRAWN if any(key in run for run in runs.values())), None)


def scores_of(metric: str, runs: Mapping[int, Predictions], seeds: list[int]) -> np.ndarray | None:
    """Returns the scores [S, N] of N examples, folds or groups; None where there are none."""
    scores, key = _of_examples(metric, runs, seeds), _key(runs)
    if scores is None or key is None:
        return scores
    fold = runs[seeds[0]][key]
    return by_fold(scores, fold) if scores.shape[1] == fold.size else None  # non0 drops examples


def _of_examples(
    metric: str, runs: Mapping[int, Predictions], seeds: list[int]
) -> np.ndarray | None:
    if not seeds:
        return None
    output = runs[seeds[0]]["output"]
    if isinstance(output, Mapping) and metric in output:  # the scores themselves
        return np.stack([runs[s]["output"][metric] for s in seeds]).astype(np.float64)
    score = (OF_VECTORS if isinstance(output, Mapping) else SCORES).get(metric)
    if score is None:
        return None
    return np.stack([score(runs[s]["output"], runs[s]["label"]) for s in seeds])
