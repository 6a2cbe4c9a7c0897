"""Tiny upstream files of both knowledge graphs."""

import json
from pathlib import Path

import numpy as np

from mmfuse.data import codex_s, movie_kg
from tests import graph_files

CODEX, MOVIES = ("TRAIN", "VALID", "TEST", "PACKED"), ("TRIPLES", "FILMS", "PACKED", "POSTERS")
ENTITIES, FILMS = 24, 30


def fabricate(root: Path) -> Path:
    """Writes them below ``root``, which it returns."""
    write_codex(root)
    write_movies(root)
    return root


def trust(root: Path, monkeypatch) -> None:
    """Makes both builders expect these files."""
    graph_files.trust(root, codex_s, monkeypatch, *CODEX)
    graph_files.trust(root, movie_kg, monkeypatch, *MOVIES)


def write_codex(root: Path) -> None:
    rng, names = np.random.default_rng(0), [f"Q{n}" for n in range(1, ENTITIES + 1)]
    triples = [f"Q{a}\tP{r}\tQ{b}" for r in (1, 2) for a in range(1, 25) for b in (a % 24 + 1, 3)]
    triples = list(dict.fromkeys(triples))
    parts = {"TRAIN": triples[4:], "VALID": triples[:2], "TEST": triples[2:4]}
    for name, lines in parts.items():
        graph_files.write_lines(root, getattr(codex_s, name), lines)
    kinds = ["human", "city", "river"]
    typed = {
        "entity": np.array(names),
        "type_label": np.array(kinds),
        "type_label_zh": np.array(["人", "城市", ""]),
        "type_description": np.array([f"a {kind} of some place" for kind in kinds]),
        "relation": np.array(["P1", "P2"]),
        "valid_negatives": np.array([[0, 0, 5], [3, 1, 8]], np.int32),
        "test_negatives": np.array([[1, 0, 9], [7, 1, 4]], np.int32),
        "entity_type_pair": np.array([[e, rng.integers(3)] for e in range(ENTITIES)], np.int32),
    }
    np.savez(graph_files.place(root, codex_s.PACKED), **typed)


def write_movies(root: Path) -> None:
    rng = np.random.default_rng(1)
    tails = {"genre": ["genre:A", "genre:B"], "starring": [f"person:{n}" for n in range(5)]}
    triples = [
        (f"ml1m:{film}", relation, tail)
        for film in range(FILMS)
        for relation, names in tails.items()
        for tail in rng.permutation(names)[:2].tolist()
    ]
    films = [{"ml1m_id": n, "plot": f"film {n % 4} has a plot"} for n in range(FILMS)]
    graph_files.write_lines(root, movie_kg.TRIPLES, ["\t".join(triple) for triple in triples])
    graph_files.write_lines(root, movie_kg.FILMS, [json.dumps(film) for film in films])
    order, relations = [*(t for names in tails.values() for t in names)], sorted(tails)
    rows = [[int(h[5:]), relations.index(r), FILMS + order.index(t)] for h, r, t in triples]
    film = np.array(rows)[:, 0]
    place = np.arange(len(rows)) % 10
    path = graph_files.place(root, movie_kg.POSTERS)
    others = dict(np.load(path)) if path.exists() else {}  # of films that only have ratings
    before = others.get("poster", np.zeros((0, *movie_kg.POSTER), np.uint8))
    pictures = rng.integers(0, 256, (FILMS, *movie_kg.POSTER), np.uint8)
    owners = np.concatenate([np.full(len(before), -1), np.arange(FILMS)]).astype(np.int32)
    posters = {"poster": np.concatenate([before, pictures]), "poster_ml1m_id": owners}
    np.savez(path, **others | posters)
    packed = {
        "triple": np.array(rows, np.int32),
        "split_transductive": np.select([place == 1, place == 2], [1, 2], 0).astype(np.int8),
        "split_inductive": np.select([film == 3, film == 4], [1, 2], 0).astype(np.int8),
        "film_poster_row": np.arange(len(before), len(owners), dtype=np.int32),
    }
    np.savez(graph_files.place(root, movie_kg.PACKED), **packed)
