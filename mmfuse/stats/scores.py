"""The score of every test example, or fold of them, of a metric that is a mean over them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

EXAMPLES, FOLDS = "test examples", "folds"

# {"output" [N, C], "label" [N]}, or dicts of arrays [N, ...]; "fold" [N] where folds were pooled.
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


SCORES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "accuracy": _accuracy,
    "recall_macro": _recall,
    "mae": _absolute,
    "acc2_has0": _has0,
    "acc2_non0": _non0,
    "acc7": _seven,
}
COUNTED = frozenset(SCORES) - {"mae", "recall_macro"}  # scores that are 0 or 1


def by_fold(scores: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Returns scores [S, U] of U folds whose mean is that of the scores [S, N] of N examples.

    ``z_su = m_s + U / N sum over i in u of (x_si - m_s)`` with ``m_s`` the mean over examples: the
    standard error of the mean of z over folds is the cluster-robust one of m (Liang and Zeger
    1986), ``sqrt(U / (U - 1) sum_u T_u^2) / N`` with ``T_u`` the sum of residuals of a fold.
    """
    found, place = np.unique(fold, return_inverse=True)
    mean = scores.mean(1, keepdims=True)
    totals = (scores - mean) @ np.eye(found.size)[place]
    return mean + totals * found.size / scores.shape[1]


def drawn(runs: Mapping[int, Predictions]) -> str:
    """Returns what the test split is made of: ``EXAMPLES``, or ``FOLDS`` if folds were pooled."""
    return FOLDS if any("fold" in run for run in runs.values()) else EXAMPLES


def scores_of(metric: str, runs: Mapping[int, Predictions], seeds: list[int]) -> np.ndarray | None:
    """Returns the score of every run and example, or fold, [S, N]; None where there is none."""
    scores = _of_examples(metric, runs, seeds)
    if scores is None or drawn(runs) == EXAMPLES:
        return scores
    fold = runs[seeds[0]]["fold"]
    return by_fold(scores, fold) if scores.shape[1] == fold.size else None  # non0 drops examples


def _of_examples(
    metric: str, runs: Mapping[int, Predictions], seeds: list[int]
) -> np.ndarray | None:
    if not seeds:
        return None
    if isinstance(runs[seeds[0]]["output"], Mapping):  # the scores themselves, by metric
        kept = [runs[s]["output"].get(metric) for s in seeds]
        return None if kept[0] is None else np.stack(kept).astype(np.float64)
    if metric not in SCORES:
        return None
    score = SCORES[metric]
    return np.stack([score(runs[s]["output"], runs[s]["label"]) for s in seeds])
