"""A fixed classifier that says what a generated picture or sound shows; numpy, in closed form.

It is fitted once, on clean training examples, when a dataset is prepared, and lies beside the
dataset's files. No model is trained on its verdict.
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
        """The share of examples that are read right."""
        return float(np.mean(self(x) == y))

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
    projection = (rng.normal(size=(flat.shape[1], features)) / size).astype(np.float32)
    threshold = rng.uniform(-SPREAD, SPREAD, features).astype(np.float32) - mean @ projection
    hidden = (flat @ projection + threshold).clip(0).astype(np.float64)
    centre, level = hidden.mean(axis=0), target.mean(axis=0)
    hidden -= centre
    covariance = hidden.T @ hidden
    penalty = ridge * np.trace(covariance) / features * np.eye(features)
    weights = np.linalg.solve(covariance + penalty, hidden.T @ (target - level))
    learned = (threshold, weights, level - centre @ weights)
    return Judge(projection, *(array.astype(np.float32) for array in learned))


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
