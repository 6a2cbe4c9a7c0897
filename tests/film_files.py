"""Tiny upstream files of the films and their ratings, and a builder that trusts them."""

from pathlib import Path

import numpy as np

from mmfuse.data import movielens_sources as sources
from tests import graph_files
from tests.graph_files import place, write_lines

NAMES = ("RATINGS", "ITEMS", "USERS", "GENRES", "PACKED")
USERS, ITEMS = 6, 20
GENRES = ("unknown", "Action", "Drama")
JOBS = ("artist", "writer")


def tiny(rng: np.random.Generator, users: int = USERS, count: int = 100) -> dict[str, np.ndarray]:
    """The packed columns: most pairs of users and 20 films, in a random order of time."""
    pairs = rng.permutation(users * ITEMS)[:count]
    ratings = np.stack([pairs // ITEMS, pairs % ITEMS, rng.integers(1, 6, count),
                        rng.permutation(count) + 1000], axis=1)  # fmt: skip
    tests = rng.permutation(count) % 5
    return {
        **dict(zip(("rating_user", "rating_item", "rating", "timestamp"), ratings.T, strict=True)),
        **{f"test_u{fold + 1}": tests == fold for fold in range(5)},
        "test_ua": tests == 1,
        "test_ub": tests == 2,
        "item_genre": np.eye(3, dtype=np.int8)[np.arange(ITEMS) % 3],
        "item_plot": np.array(["", *(f"plot {item}" for item in range(1, ITEMS))]),
        "item_poster_row": np.arange(ITEMS, dtype=np.int32) - 1,
        "poster": rng.integers(0, 256, (ITEMS - 1, *sources.POSTER), np.uint8),
    }


def lines(columns: dict[str, np.ndarray], users: int = USERS) -> dict[str, list[str]]:
    """The upstream files of these columns, by source."""
    rated = zip(*(columns[n] for n in ("rating_user", "rating_item", "rating", "timestamp")),
                strict=True)  # fmt: skip
    return {
        "RATINGS": [f"{u + 1}\t{i + 1}\t{r}\t{t}" for u, i, r, t in rated],
        "ITEMS": [
            f"{i + 1}|Film {i} (1990)|01-Jan-1990||http://x|{'|'.join(map(str, genres))}"
            for i, genres in enumerate(columns["item_genre"])
        ],
        "USERS": [f"{u + 1}|{20 + u}|{'MF'[u % 2]}|{JOBS[u % 2]}|1234" for u in range(users)],
        "GENRES": [f"{name}|{number}" for number, name in enumerate(GENRES)],
    }


def write_files(root: Path, text: dict[str, list[str]], columns: dict[str, np.ndarray]) -> None:
    """Writes the upstream files and the packed one below ``root``."""
    for name, those in text.items():
        write_lines(root, getattr(sources, name), those)
    np.savez(place(root, sources.PACKED), **columns)


def fabricate(root: Path) -> Path:
    """Enough ratings for a batch of 48, whatever the task."""
    columns = tiny(np.random.default_rng(1), users=12, count=220)
    write_files(root, lines(columns, users=12), columns)
    return root


def trust(root: Path, monkeypatch) -> None:
    """Makes the builder expect the sizes and hashes of the files in ``root``."""
    graph_files.trust(root, sources, monkeypatch, *NAMES)
