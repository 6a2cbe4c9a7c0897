"""``movie_kg``: a knowledge graph of 3,202 films, each with a plot and a poster.

The question is (film, relation) -> tail; training asks each once, for all its tails. The graph and
the plots are read as text; the packed npz adds the two splits, row by row, and that of
``movielens`` the posters.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from mmfuse.data import builder, raw, safe
from mmfuse.data.fields import check_choice
from mmfuse.data.graph import (
    Filter,
    Triple,
    asked_once,
    frequency,
    known_id,
    numbered,
    question_features,
    read_triples,
)
from mmfuse.data.movielens_sources import PACKED as POSTERS
from mmfuse.data.movielens_sources import POSTER
from mmfuse.errors import InputError, nearest

NAME = "movie_kg"
PARTS = ("transductive", "inductive")
CANDIDATES = ("kind", "all")
SPLITS = ("train", "valid", "test")
OUTSIDE = -1  # of a split: the tail would be unseen
TRIPLES = raw.RawFile(
    "movie_kg/triples.tsv",
    None,
    1_352_917,
    "bddad7e139a98bcdcf167c4a08812a6dddb0d7940e34c53b29f06da0ac253e34",
)
FILMS = raw.RawFile(
    "movie_kg/films.jsonl",
    None,
    757_188,
    "5d20b10c58d6054ca41d78053615af4a1fdb4845c2930e561c251afcf7e24b57",
)
PACKED = raw.RawFile(
    "movie_kg/movie_kg.npz",
    None,
    593_008,
    "35679ba043a52fbe70e227806bed4351a505455414303be353c8955f2aa4d955",
)


@dataclasses.dataclass(kw_only=True)
class MovieKgConfig(tfds.core.BuilderConfig):
    """Which films are tested, and against what.

    Attributes:
      split: "transductive", other triples of films that training has, or "inductive", films that
        training has nothing of: their ``film`` is absent.
      candidates: the rank is among the entities of the tail's "kind", or among "all" that are no
        film.
    """

    name: str = ""
    split: str = "transductive"
    candidates: str = "kind"

    def __post_init__(self):
        check_choice(NAME, "split", self.split, PARTS)
        check_choice(NAME, "candidates", self.candidates, CANDIDATES)
        self.name = f"{self.split}-{self.candidates}"


class MovieKg(builder.RawBuilder):
    """TFDS builder of ``movie_kg``: the other end of a film's triple.

    Features: ``film`` int32 [1], or [0] for a film without a training triple; ``relation`` int32
    [1]; ``plot``; ``poster`` uint8 [48, 32, 3]; ``label``, the tail among all entities that are no
    film; ``group``, the film. ``label_filter``, ``label_answers`` and ``label_group`` (the
    relation) are for "links".
    """

    CONFIG = MovieKgConfig
    VERSION = tfds.core.Version("1.1.0")  # 1.1: groups

    @classmethod
    def sources(cls, config: MovieKgConfig) -> tuple[builder.Source, ...]:
        """Triples, films, splits and posters."""
        return TRIPLES, FILMS, PACKED, POSTERS

    def features(self) -> dict[str, Any]:
        """Ids, a text, a picture, and what ranking needs."""
        return {
            "film": builder.array(None, dtype=np.int32),
            "relation": builder.array(None, dtype=np.int32),
            "plot": builder.text(),
            "poster": builder.array(*POSTER, dtype=np.uint8),
            "group": builder.text(),
            **question_features(),
        }

    def card(self) -> dict[str, Any]:
        """What it is, whose, and what to beware of."""
        config = self.builder_config
        rule = {
            "transductive": "by triple; every entity keeps a training triple, films two",
            "inductive": "by film; triples whose tail training would not have are left out",
        }[config.split]
        return {
            "name": NAME,
            "task": "links",
            "modalities": ["film", "plot", "poster", "relation"],
            "grouped_by": "film",
            "source": "built from github.com/vectorsss/movielens_100k_1m_extension@06f84de (OMDb) "
            "and github.com/antonsteenvoorden/ml1m-images@1d45057; genres are MovieLens'",
            "licence": "MovieLens: research only, no redistribution, no commercial use; plots from "
            "OMDb CC BY-NC 4.0; posters: copyright of the film companies",
            "citation": "Harper & Konstan 2015, The MovieLens Datasets (ACM TiiS 5(4):19)",
            "split_rule": f"{config.split}, of the packed file: {rule}",
            "traps": [
                "Titles are no column: they hold the year, which tells the decade.",
                "Ranks are filtered by the triples of all splits, also on the validation split; "
                "training examples hold no filter.",
                f"Candidates: {config.candidates}; a rank among others is another measure. A film "
                "is none: it is never a tail.",
                "Copying the training frequency of a relation is strong: print it beside.",
                "Of the inductive split, training films have an id and the others none: what a row "
                "learns to read from the id it lacks in the test.",
                "Triples of one film are not independent: resample films.",
                "A person of the triple is named in the plot of 1.1 % of person triples.",
            ],
        }

    def splits(self, paths: dict[str, Path]) -> dict[str, Iterator[dict]]:
        """Reads the graph, divides it as the packed file says, and asks every tail."""
        config, triples = self.builder_config, read_triples(paths[TRIPLES.path])
        films = read_films(paths[FILMS.path])
        entities, relations = names(triples, films)
        rows = numbered(triples, entities, relations)
        packed = safe.read_npz(paths[PACKED.path])
        split = read_split(packed, config.split, rows, str(paths[PACKED.path]))
        posters = read_posters(safe.read_npz(paths[POSTERS.path]), packed, list(films))
        rows[:, 2] -= len(films)  # a tail is no film
        kinds = np.array([name.partition(":")[0] for name in entities[len(films) :]])
        of = tail_kinds(rows, kinds, relations)
        never = {r: kinds != kind for r, kind in of.items()} if config.candidates == "kind" else {}
        known = Filter.of(rows, len(kinds), never)
        parts = {part: rows[split == place] for place, part in enumerate(SPLITS)}
        self.note(
            entities=len(kinds),
            groups=len(relations),
            relations=relations,
            group_names=relations,
            kinds={relation: of[place] for place, relation in enumerate(relations)},
            references=frequency(parts["train"], parts["test"], known, len(relations)),
            ids={"film": len(films), "relation": len(relations)},
        )
        questions = {
            "train": asked_once(parts["train"], known.entities),
            "valid": known.asked(parts["valid"]),
            "test": known.asked(parts["test"]),
        }
        seen, plots = set(parts["train"][:, 0].tolist()), list(films.values())
        return {
            part: _examples(part, asked, seen, plots, posters) for part, asked in questions.items()
        }


def read_films(path: Path) -> dict[str, str]:
    """``{film as the triples name it: plot}``, in the order of the file.

    Raises:
      InputError: a film comes twice, or has no number or no plot.
    """
    films: dict[str, str] = {}
    for line, film in safe.read_jsonl(path):
        where = f"{path}, line {line}"
        number, plot = (safe.pick(film, key, where) for key in ("ml1m_id", "plot"))
        if type(number) is not int or not isinstance(plot, str):
            raise InputError(f"{where}: ml1m_id must be a number and plot a text")
        if f"ml1m:{number}" in films:
            raise InputError(f"{where}: film {number} comes twice")
        films[f"ml1m:{number}"] = plot
    return films


def names(triples: list[Triple], films: dict[str, str]) -> tuple[list[str], list[str]]:
    """The entities, films first and then ``kind:name`` in order, and the relations in order.

    Raises:
      InputError: a head that is no film, or a tail of no kind.
    """
    for head, _, tail in triples:
        if head not in films:
            raise InputError(f"{NAME}: no film '{head}'{nearest(head, films)}")
        if not all(tail.partition(":")) or tail in films:
            raise InputError(f"{NAME}: tail '{tail}' is no 'kind:name'")
    tails = sorted({tail for *_, tail in triples}, key=lambda tail: tuple(tail.partition(":")))
    return [*films, *tails], sorted({relation for _, relation, _ in triples})


def read_split(packed: dict, split: str, rows: np.ndarray, where: str) -> np.ndarray:
    """The split of each triple: 0, 1, 2, or -1 for none, int [N].

    Raises:
      InputError: the packed file has other triples, or in another order.
    """
    if not np.array_equal(safe.pick(packed, "triple", where), rows):
        raise InputError(f"{where}: has other triples than {TRIPLES.path}, or in another order")
    column = f"split_{split}"
    places = safe.pick(packed, column, where)
    if places.shape != (len(rows),) or not np.isin(places, (OUTSIDE, *range(len(SPLITS)))).all():
        raise InputError(f"{where}: {column} must be {len(rows)} numbers from -1 to 2")
    return places


def read_posters(pictures: dict, packed: dict, films: list[str]) -> np.ndarray:
    """The posters of the films in their order, uint8 [N, 48, 32, 3]."""
    place = safe.pick(packed, "film_poster_row", PACKED.path)
    owner = safe.pick(pictures, "poster_ml1m_id", POSTERS.path)
    poster = safe.pick(pictures, "poster", POSTERS.path)
    fits = poster.shape == (len(owner), *POSTER) and poster.dtype == np.uint8
    if not fits or place.shape != (len(films),) or ((place < 0) | (place >= len(owner))).any():
        raise InputError(f"{NAME}: {POSTERS.path} has not the posters that {PACKED.path} names")
    if [f"ml1m:{number}" for number in owner[place]] != films:
        raise InputError(f"{NAME}: a poster of {POSTERS.path} belongs to another film")
    return poster[place]


def tail_kinds(rows: np.ndarray, kinds: np.ndarray, relations: list[str]) -> dict[int, str]:
    """``{relation: the kind of all its tails}``; two kinds in one relation are an InputError."""
    found = {}
    for place, relation in enumerate(relations):
        of = np.unique(kinds[rows[rows[:, 1] == place, 2]])
        if len(of) > 1:
            raise InputError(f"{NAME}: tails of '{relation}' are of kinds {', '.join(of)}")
        found[place] = str(of[0])
    return found


def _examples(
    split: str, questions: Iterator[dict], seen: set[int], plots: list[str], posters: np.ndarray
) -> Iterator[dict]:
    for row, question in enumerate(questions):
        film, relation = question.pop("head"), question["label_group"]
        yield question | {
            "id": f"{split}-{row}-{film}-{relation}",
            "group": str(film),
            "film": known_id(film, seen),
            "relation": np.array([relation], np.int32),
            "plot": plots[film],
            "poster": posters[film],
        }
