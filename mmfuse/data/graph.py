"""Triples (head, relation, tail) of a knowledge graph, and the questions (head, relation) of it.

A question is a dict ``{"head", "label", "label_filter", "label_answers", "label_group"}``, the
columns of the task "links" and its head: ``label_group`` is the relation.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmfuse.data import builder, safe
from mmfuse.data.references import reference
from mmfuse.errors import InputError

Triple = tuple[str, str, str]


def read_triples(path: Path) -> list[Triple]:
    """The lines ``head, tab, relation, tab, tail`` of a file.

    Raises:
      InputError: a line of another form, an empty name, or a triple that comes twice.
    """
    first: dict[Triple, int] = {}
    for line, cells in safe.read_rows(path, "\t", 3):
        triple = tuple(cells)
        if not all(cell.strip() for cell in cells):
            raise InputError(f"{path}, line {line}: a triple with an empty name")
        if triple in first:
            raise InputError(f"{path}, line {line}: the triple of line {first[triple]} again")
        first[triple] = line
    return list(first)


def numbered(triples: Iterable[Triple], entities: Sequence[str], relations: Sequence[str]):
    """The triples as int64 [N, 3] of places in the two lists."""
    entity = {name: place for place, name in enumerate(entities)}
    relation = {name: place for place, name in enumerate(relations)}
    rows = [(entity[head], relation[kind], entity[tail]) for head, kind, tail in triples]
    return np.array(rows, np.int64).reshape(-1, 3)


@dataclasses.dataclass(frozen=True)
class Filter:
    """What a rank leaves out: for ``(head, relation)`` the tails known to be true, and more.

    Attributes:
      entities: how many there are.
      tails: {(head, relation): known tails}.
      never: {relation: bool [E], True where an entity can not be its tail}; empty = all can.
    """

    entities: int
    tails: Mapping[tuple[int, int], list[int]]
    never: Mapping[int, np.ndarray]

    @classmethod
    def of(cls, triples: np.ndarray, entities: int, never: Mapping[int, np.ndarray] | None = None):
        """The filter that knows these triples [N, 3]."""
        tails = defaultdict(list)
        for head, relation, tail in triples.tolist():
            tails[head, relation].append(tail)
        return cls(entities, dict(tails), never or {})

    def bits(self, head: int, relation: int) -> np.ndarray:
        """One bit an entity, uint8 [ceil(E / 8)]; the answer's own may be set too."""
        out = self.never.get(relation, np.zeros(self.entities, bool)).copy()
        out[self.tails.get((head, relation), [])] = True
        return np.packbits(out)

    def asked(self, triples: np.ndarray) -> Iterator[dict]:
        """A question for every triple [N, 3], to be ranked; no answers are told."""
        for head, relation, tail in triples.tolist():
            known, told = self.bits(head, relation), packed_bits([], self.entities)
            yield _question(head, relation, tail, known, told)


def asked_once(triples: np.ndarray, entities: int) -> Iterator[dict]:
    """Every question of the triples [N, 3] once, with all its answers; nothing is left out."""
    tails = Filter.of(triples, entities).tails
    for (head, relation), answers in tails.items():
        nothing = packed_bits([], entities)
        yield _question(head, relation, answers[0], nothing, packed_bits(answers, entities))


def _question(head: int, relation: int, tail: int, left_out: np.ndarray, told: np.ndarray) -> dict:
    return {
        "head": head,
        "label": tail,
        "label_filter": left_out,
        "label_answers": told,
        "label_group": relation,
    }


def question_features() -> dict[str, Any]:
    """The features of a question's columns in a dataset, all but its head."""
    return {
        "label": builder.array(dtype=np.int64),
        "label_filter": builder.array(None, dtype=np.uint8),
        "label_answers": builder.array(None, dtype=np.uint8),
        "label_group": builder.array(dtype=np.int64),
    }


def known_id(number: int, seen: Container[int]) -> np.ndarray:
    """The id, int32 [1], of what training has ``seen``, and [0] of what it has not."""
    return np.array([number] if number in seen else [], np.int32)


def frequency(train: np.ndarray, test: np.ndarray, known: Filter, relations: int) -> list[dict]:
    """References of a card: filtered ranks of test by how often train has a tail in the relation.

    Triples are [N, 3]. Ties have the mean of their places. Each has its values by relation, None
    where test has no triple of it.
    """
    counts = np.zeros((relations, known.entities))
    np.add.at(counts, tuple(train[:, 1:].T), 1)
    ranks = np.array([_rank(counts[row[1]], row, known) for row in test.tolist()])
    terms = {"mrr": 1 / ranks} | {f"hits{k}": (ranks <= k).astype(float) for k in (1, 3, 10)}
    by_group = [test[:, 1] == relation for relation in range(relations)]
    return [
        reference("frequency of the answer in training, by relation", metric, term.mean())
        | {"by_group": [float(term[where].mean()) if where.any() else None for where in by_group]}
        for metric, term in terms.items()
    ]


def _rank(scores: np.ndarray, triple: Sequence[int], known: Filter) -> float:
    head, relation, tail = triple
    others = np.unpackbits(known.bits(head, relation))[: known.entities] == 0
    others[tail] = False
    better, equal = (scores > scores[tail]) & others, (scores == scores[tail]) & others
    return 1 + better.sum() + equal.sum() / 2


def packed_bits(ids: Sequence[int], entities: int) -> np.ndarray:
    """A filter that leaves out these entities, uint8 [ceil(E / 8)]."""
    out = np.zeros(entities, bool)
    out[ids] = True
    return np.packbits(out)
