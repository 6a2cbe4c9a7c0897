"""``codex_s``: the small CoDEx knowledge graph of Wikidata, to predict what is missing in a triple.

Every triple asks two questions: (head, relation) -> tail, and with the reciprocal relation (tail,
relation + R) -> head; training asks each question once, for all its answers. The structure comes
from upstream's text files; the packed npz adds the types of the entities, which are this graph's
text.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Collection, Iterator
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
    numbered,
    question_features,
    read_triples,
)
from mmfuse.data.roles import CALIBRATES, JUDGED
from mmfuse.errors import InputError

NAME = "codex_s"
TASKS = ("links", "triples")
TEXTS = ("descriptions", "labels", "labels_zh")
JUDGEMENT = {"links": (), "triples": ("label_true", "label_role", "label_place")}
TRAIN = raw.RawFile(
    "codex_s/train.txt",
    None,
    615_428,
    "64f93b7f314f3936a6f65739721429db3f6a7c8f5a1e1104ec3bb544f7434f59",
)
VALID = raw.RawFile(
    "codex_s/valid.txt",
    None,
    34_323,
    "3831c0e57daef03c3a18cdd1a72e370b496f696c5218883d35c7d2ab8a6a772c",
)
TEST = raw.RawFile(
    "codex_s/test.txt",
    None,
    34_252,
    "27127fcb34688c4778e88a39ef3c9b540807da846021e9d9685660ac1838aca1",
)
PACKED = raw.RawFile(
    "codex_s/codex_s.npz",
    None,
    230_106,
    "59cfb70c29b438d5ee11b275e5f1aa5c1f1b7134d2acc5f9f7defad32a4b2ce2",
)


@dataclasses.dataclass(kw_only=True)
class CodexSConfig(tfds.core.BuilderConfig):
    """What the text of an entity is.

    Attributes:
      task: "links", the other end of a triple, or "triples", whether a triple is true: upstream's
        hard negatives beside the triples.
      types: "descriptions", a label and a description of each of its types, "labels" alone, or
        "labels_zh", the Chinese labels of the 383 of 502 types that have one.
    """

    name: str = ""
    types: str = "descriptions"
    task: str = "links"

    def __post_init__(self):
        check_choice(NAME, "task", self.task, TASKS)
        check_choice(NAME, "types", self.types, TEXTS)
        self.name = f"{self.task}-types-{self.types}"


class CodexS(builder.RawBuilder):
    """TFDS builder of ``codex_s``: the other end of a triple of Wikidata.

    Features: ``entity`` int32 [1], the end that is given; ``relation`` int32 [1], below R from head
    to tail, R and more from tail to head; ``types``, a text on the given entity, and ``type_ids``
    int32 [K], the same types by number; ``label``, the other end; ``group``, the triple.
    ``label_filter``, ``label_answers`` and ``label_group`` (the relation) are for the task "links";
    "triples" has what it needs beside them, and asks the tail alone.
    """

    CONFIG = CodexSConfig
    VERSION = tfds.core.Version("1.1.0")  # 1.1: groups

    @classmethod
    def sources(cls, config: CodexSConfig) -> tuple[builder.Source, ...]:
        """Three files of triples, and the npz with the types."""
        return TRAIN, VALID, TEST, PACKED

    def features(self) -> dict[str, Any]:
        """Ids, a text, and what ranking needs."""
        return {
            "entity": builder.array(None, dtype=np.int32),
            "relation": builder.array(None, dtype=np.int32),
            "types": builder.text(),
            "type_ids": builder.array(None, dtype=np.int32),
            "group": builder.text(),
            **question_features(),
            **{name: builder.array(dtype=np.int64) for name in JUDGEMENT[self.builder_config.task]},
        }

    def card(self) -> dict[str, Any]:
        """What it is, whose, and what to beware of."""
        return {
            "name": NAME,
            "task": self.builder_config.task,
            "modalities": ["entity", "relation", "type_ids", "types"],
            "grouped_by": "triple",
            "source": "github.com/tsafavi/codex@3132e426c2a6, data/triples/codex-s and data/types",
            "licence": "MIT; the content is from Wikidata, CC0",
            "citation": "Safavi & Koutra 2020, CoDEx: A Comprehensive Knowledge Graph Completion "
            "Benchmark (EMNLP)",
            "split_rule": "upstream's; each triple is asked in both directions, in training each "
            "question once for all its triples",
            "traps": [
                "Ranks are filtered by the triples of all three splits, also on the validation "
                "split, as is usual; training examples hold no filter.",
                "The two directions of a triple are not independent: resample triples.",
                "Only the given entity's types are an input; those of the answer would tell it.",
                "Names and texts of entities are not included: the types are all the text.",
                "For the task triples the test split holds the validation triples too: thresholds "
                "are chosen by them, and they do not count. Upstream has one for all relations.",
                "No entity is missing from the training split: nothing here is cold.",
            ],
        }

    def splits(self, paths: dict[str, Path]) -> dict[str, Iterator[dict]]:
        """Reads the graph, numbers it, and asks every triple in both directions."""
        files = {"train": TRAIN, "valid": VALID, "test": TEST}
        found = {split: read_triples(paths[file.path]) for split, file in files.items()}
        together = [triple for triples in found.values() for triple in triples]
        if len(set(together)) < len(together):
            raise InputError(f"{NAME}: a triple is in two of the files {', '.join(found)}")
        entities, relations = names(together)
        types = read_types(paths[PACKED.path], entities, self.builder_config.types)
        rows = {split: numbered(part, entities, relations) for split, part in found.items()}
        asked = {split: both_ways(part, len(relations)) for split, part in rows.items()}
        known = Filter.of(np.concatenate(list(asked.values())), len(entities))
        self.note(
            entities=len(entities),
            groups=2 * len(relations),
            relations=relations,
            group_names=[*relations, *(f"{relation} reversed" for relation in relations)],
            ids={
                "entity": len(entities),
                "relation": 2 * len(relations),
                "type_ids": types.count,
                "type_ids of an entity, at most": max(map(len, types.ids)),
            },
        )
        questions = {"train": asked_once(asked["train"], known.entities)}
        if self.builder_config.task == "triples":
            wrong = read_negatives(paths[PACKED.path], entities, relations)
            judged = {split: (rows[split], wrong[split]) for split in wrong}
            self.note(triples=sum(len(part) for pair in judged.values() for part in pair))
            questions |= {
                "valid": _judged(known, judged["valid"], JUDGED + CALIBRATES),
                "test": itertools.chain(
                    _judged(known, judged["test"], JUDGED),
                    _judged(known, judged["valid"], CALIBRATES, sum(map(len, judged["test"]))),
                ),
            }
        else:
            counts = frequency(asked["train"], asked["test"], known, 2 * len(relations))
            self.note(references=counts)
            questions |= {split: known.asked(asked[split]) for split in ("valid", "test")}
        unjudged = JUDGEMENT[self.builder_config.task]
        return {split: _examples(split, q, types, unjudged) for split, q in questions.items()}


@dataclasses.dataclass(frozen=True)
class Types:
    """Of each entity: its types by number, and as a text; ``count`` types in all."""

    ids: list[np.ndarray]
    texts: list[str]
    count: int


def names(triples: list[Triple]) -> tuple[list[str], list[str]]:
    """The entities (Q1, Q2 ..) and the relations (P1, P2 ..) of the triples, by number."""
    entities = {end for head, _, tail in triples for end in (head, tail)}
    relations = {relation for _, relation, _ in triples}
    for found, letter in ((entities, "Q"), (relations, "P")):
        wrong = sorted(name for name in found if not (name[0] == letter and name[1:].isdecimal()))
        if wrong:
            raise InputError(f"{NAME}: '{wrong[0]}' is no {letter}-number of Wikidata")
    return tuple(sorted(found, key=lambda name: int(name[1:])) for found in (entities, relations))


def read_negatives(path: Path, entities: list[str], relations: list[str]) -> dict[str, np.ndarray]:
    """Upstream's false triples of "valid" and "test", [N, 3], in the numbers of these lists."""
    arrays, where, found = safe.read_npz(path), str(path), {}
    ends, kinds = (safe.pick(arrays, key, where).tolist() for key in ("entity", "relation"))
    for split in ("valid", "test"):
        rows = safe.pick(arrays, f"{split}_negatives", where)
        limit = [len(ends), len(kinds), len(ends)]
        if rows.ndim != 2 or rows.shape[1] != 3 or ((rows < 0) | (rows >= limit)).any():
            raise InputError(f"{where}: {split}_negatives names what is beyond the lists")
        triples = [(ends[head], kinds[relation], ends[tail]) for head, relation, tail in rows]
        strange = sorted({x for h, r, t in triples for x in (h, r, t)} - {*entities, *relations})
        if strange:
            raise InputError(f"{where}: {split}_negatives has '{strange[0]}', which no triple has")
        found[split] = numbered(triples, entities, relations)
    return found


def both_ways(rows: np.ndarray, relations: int) -> np.ndarray:
    """Triples [N, 3] as questions [2N, 3]: as they are, and turned, each beside the other."""
    turned = np.stack([rows[:, 2], rows[:, 1] + relations, rows[:, 0]], axis=1)
    return np.stack([rows, turned], axis=1).reshape(-1, 3)


def read_types(path: Path, entities: list[str], texts: str) -> Types:
    """The types of the entities, in their order, from the packed file.

    Raises:
      InputError: an entity that the file lacks, or a pair beyond its lists.
    """
    arrays, where = safe.read_npz(path), str(path)
    known = safe.pick(arrays, "entity", where).tolist()
    column = "type_label_zh" if texts == "labels_zh" else "type_label"
    label = safe.pick(arrays, column, where).tolist()
    told = safe.pick(arrays, "type_description", where).tolist()
    pairs = safe.pick(arrays, "entity_type_pair", where)
    if len(told) != len(label) or pairs.ndim != 2 or pairs.shape[1] != 2 or (
        pairs.size and ((pairs < 0) | (pairs >= [len(known), len(label)])).any()
    ):  # fmt: skip
        raise InputError(f"{where}: entity_type_pair names an entity or a type beyond the lists")
    missing = sorted(set(entities) - set(known))
    if missing:
        raise InputError(f"{where}: has no types of {len(missing)} entities, first {missing[0]}")
    of: dict[str, list[int]] = {name: [] for name in known}
    for entity, kind in pairs.tolist():
        of[known[entity]].append(kind)
    said = [f"{a}: {b}" if b and texts == "descriptions" else a
            for a, b in zip(label, told, strict=True)]  # fmt: skip
    return Types(
        [np.array(of[name], np.int32) for name in entities],
        ["; ".join(said[kind] for kind in of[name] if said[kind]) for name in entities],
        len(label),
    )


def _judged(
    known: Filter, pair: tuple[np.ndarray, np.ndarray], role: int, place: int = 0
) -> Iterator[dict]:
    """The true triples and the false ones of a pair [N, 3], with a place for each."""
    for true, rows in zip((1, 0), pair, strict=True):
        for question in known.asked(rows):
            yield question | {"label_true": true, "label_role": role, "label_place": place}
            place += 1


def _examples(
    split: str, questions: Iterator[dict], types: Types, unjudged: Collection[str]
) -> Iterator[dict]:
    for row, question in enumerate(questions):
        given, relation = question.pop("head"), question["label_group"]
        one = split == "train" or "label_true" in question  # else a triple is asked twice
        triple = row if one else row // 2
        name = triple if one else f"{triple}-{'head' if row % 2 else 'tail'}"
        yield (
            dict.fromkeys(unjudged, 0)
            | question
            | {
                "id": f"{split}-{name}",
                "group": f"{split}-{triple}",
                "entity": np.array([given], np.int32),
                "relation": np.array([relation], np.int32),
                "types": types.texts[given],
                "type_ids": types.ids[given],
            }
        )
