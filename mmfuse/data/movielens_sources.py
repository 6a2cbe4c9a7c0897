"""The files of ``movielens``: ratings, users and films as upstream has them, and the packed rest.

The packed npz adds to them, row by row: the official folds, a plot and a poster.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from mmfuse.data import raw, safe
from mmfuse.errors import InputError

FOLDS = ("u1", "u2", "u3", "u4", "u5", "ua", "ub")
POSTER = (48, 32, 3)
GENRE_AT = 5  # the column of u.item where the genres begin
FOLDER = "movielens_mm/ml-100k"
RATINGS = raw.RawFile(
    f"{FOLDER}/u.data",
    None,
    1_979_173,
    "06416e597f82b7342361e41163890c81036900f418ad91315590814211dca490",
)
ITEMS = raw.RawFile(
    f"{FOLDER}/u.item",
    None,
    236_344,
    "553841ebc7de3a0fd0d6b62a204ea30c1e651aacfb2814c7a6584ac52f2c5701",
)
USERS = raw.RawFile(
    f"{FOLDER}/u.user",
    None,
    22_628,
    "f120e114da2e8cf314fd28f99417c94ae9ddf1cb6db8ce0e4b5995d40e90e62c",
)
GENRES = raw.RawFile(
    f"{FOLDER}/u.genre",
    None,
    202,
    "9757e0d3e6b298159a80dd48eaf938114690e911e39af97a76949ef1663610bb",
)
PACKED = raw.RawFile(
    "movielens_mm/movielens_100k_mm.npz",
    None,
    14_166_407,
    "df824c0a9d999eeabb34a1246a99aa0a62be1c4e0d057aee814b6dfd745a1994",
)


@dataclasses.dataclass(frozen=True)
class Ratings:
    """Users, films and ratings; users and films count from 0.

    Attributes:
      user, item, rating, time: int64 [N], in the order of the file.
      tests: {fold: bool [N], True = test}.
      profile: float32 [users, P], and ``profile_names``.
      genre: float32 [films, G] of 0 and 1, and ``genre_names``.
      plot: of each film, "" where there is none.
      poster_row: of each film, its place in ``poster`` uint8 [M, 48, 32, 3], or -1.
    """

    user: np.ndarray
    item: np.ndarray
    rating: np.ndarray
    time: np.ndarray
    tests: dict[str, np.ndarray]
    profile: np.ndarray
    profile_names: list[str]
    genre: np.ndarray
    genre_names: list[str]
    plot: list[str]
    poster_row: np.ndarray
    poster: np.ndarray


def read(paths: dict[str, Path]) -> Ratings:
    """Reads all files and checks that they speak of the same ratings and films.

    Raises:
      InputError: one line, with the file, for whatever does not fit.
    """
    profile, profile_names = read_users(paths[USERS.path])
    genres = read_genres(paths[GENRES.path])
    genre = read_items(paths[ITEMS.path], genres)
    ratings = read_ratings(paths[RATINGS.path], len(profile), len(genre))
    packed = safe.read_npz(paths[PACKED.path])
    check_packed(packed, ratings, genre, str(paths[PACKED.path]))
    return Ratings(
        *ratings.T,
        tests={fold: packed[f"test_{fold}"] for fold in FOLDS},
        profile=profile,
        profile_names=profile_names,
        genre=genre,
        genre_names=genres,
        plot=packed["item_plot"].tolist(),
        poster_row=packed["item_poster_row"],
        poster=packed["poster"],
    )


def read_users(path: Path) -> tuple[np.ndarray, list[str]]:
    """Profiles float32 [users, 2 + occupations]: age / 10, female, and the occupation; names."""
    people = []
    for line, (number, age, gender, occupation, _) in safe.read_rows(path, "|", 5):
        where = f"{path}, line {line}"
        _check_number(where, number, len(people) + 1)
        if not age.isdecimal() or gender not in ("F", "M"):
            raise InputError(f"{where}: age '{age}', gender '{gender}'; expected a number, F or M")
        people.append((int(age) / 10, float(gender == "F"), occupation))
    names = sorted({occupation for *_, occupation in people})
    rows = [[age, female, *(o == name for name in names)] for age, female, o in people]
    return np.array(rows, np.float32), ["age / 10", "female", *names]


def read_genres(path: Path) -> list[str]:
    """The names of the genres, by number."""
    names: list[str] = []
    for line, (name, number) in safe.read_rows(path, "|", 2):
        _check_number(f"{path}, line {line}", number, len(names))
        names.append(name)
    return names


def read_items(path: Path, genres: list[str]) -> np.ndarray:
    """The genres of the films, float32 [films, G] of 0 and 1."""
    rows: list[list[float]] = []
    for line, (number, *cells) in safe.read_rows(path, "|", GENRE_AT + len(genres)):
        where, flags = f"{path}, line {line}", cells[GENRE_AT - 1 :]
        _check_number(where, number, len(rows) + 1)
        if not set(flags) <= {"0", "1"}:
            raise InputError(f"{where}: genres {'|'.join(flags)} are not all 0 or 1")
        rows.append([float(flag) for flag in flags])
    return np.array(rows, np.float32).reshape(-1, len(genres))


def read_ratings(path: Path, users: int, items: int) -> np.ndarray:
    """``user, item, rating, time`` int64 [N, 4]; users and items from 0."""
    limits = {"user": users, "item": items, "rating": 5}
    rows, seen = [], set()
    for line, cells in safe.read_rows(path, "\t", 4):
        where = f"{path}, line {line}"
        if not all(cell.isdecimal() for cell in cells):
            raise InputError(f"{where}: '{' '.join(cells)}' is not four numbers")
        user, item, rating, time = map(int, cells)
        for value, (name, most) in zip((user, item, rating), limits.items(), strict=True):
            if not 1 <= value <= most:
                raise InputError(f"{where}: {name} {value} is outside 1..{most}")
        if (user, item) in seen:
            raise InputError(f"{where}: user {user} rates item {item} again")
        seen.add((user, item))
        rows.append((user - 1, item - 1, rating, time))
    return np.array(rows, np.int64).reshape(-1, 4)


def check_packed(packed: dict, ratings: np.ndarray, genre: np.ndarray, where: str) -> None:
    """Checks that the packed file holds the same ratings and films, and whole columns of the rest.

    Raises:
      InputError: it does not.
    """
    upstream = {
        **dict(zip(("rating_user", "rating_item", "rating", "timestamp"), ratings.T, strict=True)),
        "item_genre": genre,
    }
    for name, values in upstream.items():
        if not np.array_equal(safe.pick(packed, name, where), values):
            raise InputError(f"{where}: {name} is not what the upstream files say")
    poster, row = (safe.pick(packed, name, where) for name in ("poster", "item_poster_row"))
    plot = safe.pick(packed, "item_plot", where)
    folds = [safe.pick(packed, f"test_{fold}", where) for fold in FOLDS]
    if any(fold.shape != (len(ratings),) or fold.dtype != bool for fold in folds):
        raise InputError(f"{where}: a fold must say yes or no of each of {len(ratings)} ratings")
    if plot.shape != (len(genre),) or plot.dtype.kind != "U" or row.shape != plot.shape:
        raise InputError(f"{where}: plots and posters must be those of {len(genre)} films")
    if poster.shape[1:] != POSTER or poster.dtype != np.uint8:
        raise InputError(f"{where}: posters are {poster.dtype} {list(poster.shape[1:])}")
    if ((row < -1) | (row >= len(poster))).any():
        raise InputError(f"{where}: item_poster_row is outside -1..{len(poster) - 1}")


def _check_number(where: str, found: str, expected: int) -> None:
    if found != str(expected):
        raise InputError(f"{where}: number '{found}'; expected {expected}: they count up")
