"""Triples (head, relation, tail) of a knowledge graph, and the tails that are known of a query."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from mmfuse.data import safe
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


def packed_bits(ids: Sequence[int], entities: int) -> np.ndarray:
    """A filter that leaves out these entities, uint8 [ceil(E / 8)]."""
    out = np.zeros(entities, bool)
    out[ids] = True
    return np.packbits(out)
