"""A fixed classifier that says what a generated picture or sound shows; numpy, in closed form.

It is fitted once, on clean training examples, when a dataset is prepared, and lies beside the
dataset's files. No loss has its verdict in it, and no gradient passes through it. The share that it
reads right, ``recognised``, is a metric all the same, by which a config may choose the epoch
(``config.train.select``) on validation: such a row is picked by the judge that then counts on the
test split.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mmfuse.errors import InputError
from mmfuse.params import load_params, save_params

FILE = "judge.npz"
AVERAGED = 8  # examples of a class in the average that a blend is made of
SHARES = (3.0, 1.0, 1.0)  # Dirichlet parameters of a blend's three parts
GRID = 16  # binary digits behind the point of what is multiplied while fitting
AT_ONCE = 4096  # examples whose features are held at a time
SPREAD = 0.5  # of the thresholds of the random features, which have variance 1


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Judge:
    """``argmax_k (max(0, x W + b) V + c)_k``: ridge regression on random features.

    ``projection`` W [D, K] and ``threshold`` b [K] are drawn, ``weights`` V [K, C] and ``offset`` c
    [C] fitted. Rahimi and Recht 2008 (Random Kitchen Sinks), with rectified features.
    """

    projection: np.ndarray
    threshold: np.ndarray
    weights: np.ndarray
    offset: np.ndarray

    def __repr__(self) -> str:
        return f"Judge({self.sha256})"

    @property
    def sha256(self) -> str:
        """Over all numbers."""
        digest = hashlib.sha256()
        for array in vars(self).values():
            digest.update(np.ascontiguousarray(array))
        return digest.hexdigest()

    @property
    def classes(self) -> int:
        """How many there are."""
        return len(self.offset)

    def scores(self, x: Any) -> Any:
        """What speaks for each class, [B, C], of examples [B, ...]: numpy's, or traced by jax."""
        hidden = (x.reshape(len(x), -1) @ self.projection + self.threshold[None]).clip(0)
        return hidden @ self.weights + self.offset[None]

    def __call__(self, x: Any) -> Any:
        """The class that is read in each example, [B]."""
        return self.scores(x).argmax(-1)

    def accuracy(self, x: np.ndarray, y: np.ndarray) -> float:
        """The share of examples that are read right; in float64, where no order of sums decides."""
        return float(np.mean(self(x.astype(np.float64)) == y))

    def save(self, folder: Path) -> dict[str, Any]:
        """Writes the judge into a dataset's folder; returns what the card says of it."""
        save_params(folder / FILE, vars(self))
        return {"file": FILE, "sha256": self.sha256}


def load_judge(folder: str | Path, said: Mapping[str, Any]) -> Judge:
    """The judge that a card tells of, from the dataset's folder.

    Raises:
      InputError: the file is missing, or another.
    """
    path = Path(folder) / said["file"]
    if not path.is_file():
        raise InputError(f"'{path}' is missing: remove the folder, and the data is prepared again")
    judge = Judge(**load_params(path))
    if judge.sha256 != said["sha256"]:
        raise InputError(
            f"'{path}' is not the judge that the card tells of; prepare the data again"
        )
    return judge


def fit_judge(
    x: np.ndarray, y: np.ndarray, *, features: int, ridge: float, blends: int, seed: int
) -> Judge:
    """Fits a judge to examples x [N, ...] of the classes y int [N], 0..C - 1.

    Besides the examples it learns ``blends`` mixtures with their shares as targets (mixup, Zhang et
    al. 2018, arXiv:1710.09412), of averages of a class: what minimises a squared error or a cross-
    entropy per pixel is an average, and it should be read as what it is for the most part.

    The same examples give the same bits with any number of threads: matrix products are of numbers
    on a grid (``_on_grid``), where their order does not matter, and all else has a fixed one.

    Args:
      x, y: clean training examples.
      features: K.
      ridge: the penalty, as a multiple of the mean variance of a feature.
      blends: how many mixtures.
      seed: of the features and the mixtures.
    """
    rng = np.random.default_rng(seed)
    flat, classes = x.reshape(len(x), -1).astype(np.float32), int(y.max()) + 1
    mixed, shares = _blends(flat, y, classes, blends, rng)
    flat = np.concatenate([flat, mixed])
    target = np.concatenate([np.eye(classes)[y], shares])
    mean = flat.mean(axis=0)
    size = np.sqrt(np.square(flat - mean).sum(axis=1).mean())
    drawn = _on_grid(rng.normal(size=(flat.shape[1], features)))
    spread = rng.uniform(-SPREAD, SPREAD, features)
    square, cross, centre = _sums((flat - mean) / size, drawn, spread, target)
    level = target.mean(axis=0)
    square -= len(flat) * centre[:, None] * centre
    cross -= len(flat) * centre[:, None] * level
    penalty = ridge * np.trace(square) / features * np.eye(features)
    weights = _solved(square + penalty, cross)
    projection = drawn / size
    threshold = spread - (mean[:, None] * projection).sum(axis=0)
    offset = level - (centre[:, None] * weights).sum(axis=0)
    return Judge(*(a.astype(np.float32) for a in (projection, threshold, weights, offset)))


def _sums(
    x: np.ndarray, drawn: np.ndarray, spread: np.ndarray, target: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``h^T h`` [K, K], ``h^T target`` [K, C] and mean [K] of the features ``max(0, x W + b)``."""
    features = len(spread)
    square, cross = np.zeros((features, features)), np.zeros((features, target.shape[1]))
    total = np.zeros(features)
    for start in range(0, len(x), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        hidden = _on_grid((_on_grid(x[part]) @ drawn + spread).clip(0))
        square += hidden.T @ hidden
        cross += hidden.T @ _on_grid(target[part])
        total += hidden.sum(axis=0)
    return square, cross, total / len(x)


def _on_grid(x: np.ndarray) -> np.ndarray:
    """``x`` in float64, in whole multiples of ``2^-GRID``.

    Products of two such numbers are multiples of ``2^(-2 GRID)``, and so are their sums: float64
    holds all of these exactly as long as they stay below ``2^(53 - 2 GRID)``. A feature that has
    variance 1 takes a million examples to get there.
    """
    return np.round(x * 2.0**GRID) / 2.0**GRID


def _solved(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``a^-1 b`` of a positive definite ``a`` [K, K] and ``b`` [K, C], by elimination.

    A library's solver takes another order of sums with another number of threads.
    """
    a, b = a.copy(), b.copy()
    for k in range(len(a) - 1):
        factor = a[k + 1 :, k, None] / a[k, k]
        a[k + 1 :, k + 1 :] -= factor * a[k, k + 1 :]
        b[k + 1 :] -= factor * b[k]
    for k in reversed(range(len(a))):
        b[k] = (b[k] - (a[k, k + 1 :, None] * b[k + 1 :]).sum(axis=0)) / a[k, k]
    return b


def _blends(
    flat: np.ndarray, y: np.ndarray, classes: int, number: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Mixtures [number, D] of the averages of three classes (or one twice), and the shares."""
    places = [np.flatnonzero(y == k) for k in range(classes)]
    picked = rng.integers(classes, size=(number, len(SHARES)))
    share = rng.dirichlet(SHARES, number).astype(np.float32)
    mixed, target = np.zeros((number, flat.shape[1]), np.float32), np.zeros((number, classes))
    for part, of_part in enumerate(picked.T):
        for k, own in enumerate(places):
            rows = np.flatnonzero(of_part == k)
            averaged = flat[rng.choice(own, (len(rows), AVERAGED))].mean(axis=1)
            mixed[rows] += share[rows, part, None] * averaged
            target[rows, k] += share[rows, part]
    return mixed, target
