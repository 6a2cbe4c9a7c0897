"""A small instance of every task: its card, random columns of a dataset, and random outputs."""

import numpy as np

from mmfuse.tasks import make_task

CARDS = {
    "classification": {"classes": 4},
    "regression": {},
    "sentiment": {},
    "vector": {"width": 3},
    "multilabel": {"width": 5},
    "ranking": {"entities": 12, "groups": 2},
    "recommendation": {"entities": 42, "groups": 3},
    "links": {"entities": 12, "groups": 2},
    "triples": {"entities": 12, "groups": 2, "triples": 40},
    "pointing": {"choices": 4, "points_at": "dots"},
    "matching": {"choices": 3, "words": 7},
    "words": {"vocabulary": 6, "end": 1},
    "picture": {"shape": [4, 5, 1]},
    "sound": {"shape": [6, 3]},
}
OUTPUTS = {  # of one example
    "classification": (4,), "vector": (3,), "multilabel": (5,), "ranking": (12,),
    "recommendation": (42,), "links": (12,), "triples": (12,), "pointing": (4,), "matching": (3,),
    "words": (5, 6), "picture": (4, 5, 1), "sound": (6, 3),
}  # fmt: skip


def task(name):
    return make_task({"task": name} | CARDS[name])


def texts(n, rng, length=5, words=6):
    """Ids int [n, length] of texts that end with 1, and zeros behind it."""
    ids = np.zeros((n, length), np.int32)
    for row, size in zip(ids, rng.integers(1, length + 1, size=n), strict=True):
        row[: size - 1], row[size - 1] = rng.integers(2, words, size=size - 1), 1
    return ids


def columns(name, n, rng):
    """Columns of a dataset, as the loader hands them over: lists of values."""
    made = {
        "classification": lambda: {"label": rng.integers(4, size=n)},
        "vector": lambda: {
            "label": rng.normal(size=(n, 3)),
            "label_mask": rng.random((n, 3)) < 0.7,
        },
        "multilabel": lambda: {"label": rng.integers(2, size=(n, 5)).astype(np.uint8)},
        "ranking": lambda: {
            "label": rng.integers(12, size=n),
            "label_filter": np.packbits(rng.random((n, 12)) < 0.3, axis=1),
            "label_group": rng.integers(2, size=n),
        },
        "recommendation": lambda: {
            "label": rng.integers(42, size=n),
            "label_filter": np.packbits(rng.random((n, 42)) < 0.2, axis=1),
            "label_group": rng.integers(3, size=n),
        },
        "links": lambda: (
            columns("ranking", n, rng)
            | {"label_answers": list(np.packbits(rng.random((n, 12)) < 0.2, axis=1))}
        ),
        "triples": lambda: (
            columns("links", n, rng)
            | {
                "label_true": rng.integers(2, size=n),
                "label_role": rng.integers(1, 4, size=n),
                "label_place": np.arange(n),
            }
        ),
        "pointing": lambda: {"label": rng.integers(4, size=n)},
        "matching": lambda: {
            "label": rng.integers(3, size=n),
            "candidates": texts(3 * n, rng).reshape(n, 3, 5),
        },
        "words": lambda: {"label": texts(n, rng)},
        "picture": lambda: {"label": rng.integers(256, size=(n, 4, 5, 1)).astype(np.uint8)},
        "sound": lambda: {
            "label": rng.normal(size=(n, 6, 3)),
            "label_mask": np.arange(6)[None] < rng.integers(1, 7, size=n)[:, None],
        },
    }.get(name, lambda: {"label": rng.normal(size=n)})()
    return {key: list(value) for key, value in made.items()}


def output(name, n, rng):
    return rng.normal(size=(n, *OUTPUTS.get(name, (1,)))).astype(np.float32)
