"""``movielens``: MovieLens 100K with a plot and a poster of the films.

Three tasks over the same ratings. "rating": of a user and a film, on an official fold. "cold": the
same, of films without any rating in training. "top": which film a user likes, out of all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from mmfuse.data import builder, movielens_baselines
from mmfuse.data import movielens_sources as sources
from mmfuse.data.fields import MAX_SEED, check_choice, check_range
from mmfuse.data.graph import known_id, packed_bits

NAME = "movielens"
TASKS = {"rating": "regression", "cold": "regression", "top": "recommendation"}
PARTS = 5  # of the films, in the task "cold"
COLD = tuple(f"items{part}" for part in range(1, PARTS + 1))
VALID = 0.1  # of the ratings of the base; of the films that are left, in the task "cold"
LIKED = 4  # the least rating that says so
HISTORY = 50  # films of a user that a query shows, at most
SCALES = (1, 2, 4, 8)  # of posters
SPLITS = ("train", "valid", "test")


@dataclasses.dataclass(kw_only=True)
class MovielensConfig(tfds.core.BuilderConfig):
    """What is asked, and which ratings are the test.

    Attributes:
      task: "rating" or "cold" (regression), or "top" (ranking of all films).
      fold: "u1" to "u5", "ua" or "ub"; of the task "cold" "items1" to "items5".
      split_seed: of the validation ratings; of the task "cold" of all its folds of films.
      poster_scale: a pixel of a poster is the mean of as many upstream ones, squared: as posters
        are stored with every rating, 1 takes 437 MB a fold.
    """

    name: str = ""
    task: str = "rating"
    fold: str = "u1"
    split_seed: int = 0
    poster_scale: int = 1

    def __post_init__(self):
        check_choice(NAME, "task", self.task, tuple(TASKS))
        allowed = COLD if self.task == "cold" else sources.FOLDS
        check_choice(NAME, f"fold of task {self.task}", self.fold, allowed)
        check_range(NAME, "split_seed", self.split_seed, 0, MAX_SEED)
        check_choice(NAME, "poster_scale", self.poster_scale, SCALES)
        scaled = f"-poster{self.poster_scale}" if self.poster_scale > 1 else ""
        self.name = f"{self.task}-{self.fold}-split{self.split_seed}{scaled}"

    @property
    def poster(self) -> tuple[int, int, int]:
        """Height, width and channels."""
        height, width, channels = sources.POSTER
        return height // self.poster_scale, width // self.poster_scale, channels


class Movielens(builder.RawBuilder):
    """TFDS builder of ``movielens``: ratings of films, and the films that a user likes.

    Features: ``user`` int32 [1]; ``profile`` float32 [P], age / 10, female and the occupation;
    ``genre`` float32 [G]; ``plot``; ``poster`` uint8 [48, 32, 3] (over ``poster_scale``) or
    [0, 32, 3]. With a rating as ``label`` these are the film's, and ``item`` int32 [1] is its id,
    or [0] if training has no rating of it. With the task "top" ``label`` is the film; ``history``
    int32 [K] are the last K films of training that the user liked, ``genre`` is their mean, and
    plot and poster are those of the last one: none of them tells the answer. ``group``: the user.
    """

    CONFIG = MovielensConfig
    VERSION = tfds.core.Version("1.1.0")  # 1.1: groups

    @classmethod
    def sources(cls, config: MovielensConfig) -> tuple[builder.Source, ...]:
        """Upstream's ratings, users, films and genres, and the packed rest."""
        return (
            sources.RATINGS, sources.ITEMS, sources.USERS, sources.GENRES, sources.PACKED,
        )  # fmt: skip

    def features(self) -> dict[str, Any]:
        """Ids, vectors, a text, a picture, and a rating or what ranking needs."""
        ranked = self.builder_config.task == "top"
        return {
            "user": builder.array(None, dtype=np.int32),
            "history" if ranked else "item": builder.array(None, dtype=np.int32),
            "profile": builder.array(None),
            "genre": builder.array(None),
            "plot": builder.text(),
            "group": builder.text(),
            "poster": builder.array(None, *self.builder_config.poster[1:], dtype=np.uint8),
            "label": builder.array(dtype=np.int64 if ranked else np.float32),
        } | (
            {
                "label_filter": builder.array(None, dtype=np.uint8),
                "label_group": builder.array(dtype=np.int64),
            }
            if ranked
            else {}
        )

    def card(self) -> dict[str, Any]:
        """What it is, whose, and what to beware of."""
        config = self.builder_config
        ranked = config.task == "top"
        rule = (
            f"{config.fold} of {PARTS} parts of the films; valid is a tenth of the others; seeded "
            f"by split_seed {config.split_seed}"
            if config.task == "cold"
            else f"the official fold {config.fold}; valid is a tenth of its base ratings, drawn "
            f"here, seeded by split_seed {config.split_seed}"
        )
        return {
            "name": NAME,
            "task": TASKS[config.task],
            "grouped_by": "user",
            "modalities": sorted(
                ("user", "history" if ranked else "item", "profile", "genre", "plot", "poster")
            ),
            "source": "MovieLens 100K as in github.com/argowtham/Data-Mining@5975dce; plots of "
            "github.com/vectorsss/movielens_100k_1m_extension@06f84de (OMDb), posters of "
            "github.com/antonsteenvoorden/ml1m-images@1d45057",
            "licence": "MovieLens: research only, to be acknowledged, no redistribution, no "
            "commercial use; plots CC BY-NC 4.0; posters: copyright of the film companies",
            "citation": "Harper & Konstan 2015, The MovieLens Datasets (ACM TiiS 5(4):19)",
            "split_rule": rule + (f"; examples are ratings of {LIKED} and more" if ranked else ""),
            "traps": [
                "Random folds are not chronological: training has ratings from after the test's.",
                "Titles are no column: they hold the year.",
                "IMDb's own ratings and votes are left out: they tell the target.",
                "Film 267 is 'unknown': no genre, no poster, and the plot of a film of 2011.",
                "18 titles occur under two ids, with ratings and content of their own.",
                "With warm films the ids carry almost everything: print the user + item bias.",
                "A few films of a fold's test have no training rating: their id is absent.",
                "Ratings of one user are not independent: resample users.",
            ]
            + (
                [
                    "A rank leaves out the films that the user rated in the base (on valid: in "
                    "train), whatever the rating, and no other; negatives are never sampled.",
                    "The tests of u1 to u5 have 459 to 927 of the 943 users; ua and ub all, with "
                    "ten ratings each.",
                    "The answer's own plot, poster and genre are no input: they would tell it.",
                ]
                if ranked
                else []
            ),
        }

    def splits(self, paths: dict[str, Path]) -> dict[str, Iterator[dict]]:
        """Reads the files, divides the ratings, and makes examples of them."""
        ratings, config = sources.read(paths), self.builder_config
        ratings = dataclasses.replace(ratings, poster=shrunk(ratings.poster, config.poster_scale))
        split = divide(ratings, config)
        users, films = len(ratings.profile), len(ratings.genre)
        ids = {"user": users, "item": films}
        if config.task == "top":
            self.note(entities=films, groups=users)
            ids = {"user": users, "history": films, "history, at most": HISTORY}
            bounds = movielens_baselines.of_lists(ratings, split, ratings.rating >= LIKED)
        else:
            bounds = movielens_baselines.of_ratings(ratings, split, cold=config.task == "cold")
        self.note(
            ids=ids,
            profile_names=ratings.profile_names,
            genre_names=ratings.genre_names,
            references=bounds,
        )
        made = liked if config.task == "top" else rated
        return {part: made(ratings, split, place) for place, part in enumerate(SPLITS)}


def shrunk(posters: np.ndarray, scale: int) -> np.ndarray:
    """Posters uint8 [M, H, W, C], each pixel the mean of ``scale`` x ``scale``, half rounded up."""
    count, height, width, channels = posters.shape
    blocks = posters.reshape(count, height // scale, scale, width // scale, scale, channels)
    return np.floor(blocks.mean((2, 4)) + 0.5).astype(np.uint8)


def divide(ratings: sources.Ratings, config: MovielensConfig) -> np.ndarray:
    """The split of each rating, int [N]: 0 train, 1 valid, 2 test."""
    rng, split = np.random.default_rng(config.split_seed), np.zeros(len(ratings.user), int)
    if config.task != "cold":
        split[ratings.tests[config.fold]] = 2
        base = rng.permutation(np.flatnonzero(split == 0))
        split[base[: round(VALID * len(base))]] = 1
        return split
    parts = np.array_split(rng.permutation(len(ratings.genre)), PARTS)
    test = parts.pop(COLD.index(config.fold))
    others = np.concatenate(parts)
    split[np.isin(ratings.item, others[: round(VALID * len(others))])] = 1
    split[np.isin(ratings.item, test)] = 2
    return split


def rated(ratings: sources.Ratings, split: np.ndarray, place: int) -> Iterator[dict]:
    """A user, a film, and the rating."""
    users, items = (_seen(column[split == 0]) for column in (ratings.user, ratings.item))
    for row in np.flatnonzero(split == place).tolist():
        user, item = int(ratings.user[row]), int(ratings.item[row])
        yield {
            "id": str(row),
            "group": str(user),
            "user": known_id(user, users),
            "item": known_id(item, items),
            "profile": ratings.profile[user],
            "genre": ratings.genre[item],
            **_content(ratings, item),
            "label": np.float32(ratings.rating[row]),
        }


def liked(ratings: sources.Ratings, split: np.ndarray, place: int) -> Iterator[dict]:
    """A user as known from training, and a film that the user liked."""
    likes = ratings.rating >= LIKED
    users, before = _seen(ratings.user[split == 0]), _by_user(ratings, (split == 0) & likes)
    had = _by_user(ratings, split < place)  # of a training example nothing
    for row in np.flatnonzero((split == place) & likes).tolist():
        user, item = int(ratings.user[row]), int(ratings.item[row])
        history = [other for other in before[user] if other != item][-HISTORY:]
        genre = ratings.genre[history].mean(0) if history else np.zeros_like(ratings.genre[0])
        yield {
            "id": str(row),
            "group": str(user),
            "user": known_id(user, users),
            "history": np.array(history, np.int32),
            "profile": ratings.profile[user],
            "genre": genre.astype(np.float32),
            **_content(ratings, history[-1] if history else None),
            "label": item,
            "label_filter": packed_bits(had[user], len(ratings.genre)),
            "label_group": user,
        }


def _seen(ids: np.ndarray) -> set[int]:
    return set(ids.tolist())


def _content(ratings: sources.Ratings, item: int | None) -> dict[str, Any]:
    """Plot and poster of a film, empty where there is none."""
    row = -1 if item is None else int(ratings.poster_row[item])
    absent = np.zeros((0, *ratings.poster.shape[2:]), np.uint8)
    return {
        "plot": "" if item is None else ratings.plot[item],
        "poster": absent if row < 0 else ratings.poster[row],
    }


def _by_user(ratings: sources.Ratings, chosen: np.ndarray) -> list[list[int]]:
    """The films of the chosen ratings of each user, the earliest first."""
    films: list[list[int]] = [[] for _ in ratings.profile]
    order = np.argsort(ratings.time, kind="stable")
    for row in order[chosen[order]].tolist():
        films[ratings.user[row]].append(int(ratings.item[row]))
    return films
