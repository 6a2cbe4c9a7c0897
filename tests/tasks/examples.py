"""A small instance of every task: random outputs, labels, and columns that give such labels."""

import numpy as np

from mmfuse.tasks import make_task

CARDS = {
    "classification": {"classes": 4},
    "regression": {},
    "sentiment": {},
}


def task(name):
    return make_task({"task": name} | CARDS[name])


def columns(name, n, rng):
    """Columns of a dataset, as the loader hands them over: lists of values."""
    if name == "classification":
        return {"label": list(rng.integers(4, size=n))}
    return {"label": list(rng.normal(size=n))}


def output(name, n, rng):
    shape = {"classification": (4,)}.get(name, (1,))
    return rng.normal(size=(n, *shape)).astype(np.float32)
