"""``banking77``: what a bank's customer wants, one of 77 intents; text only.

13,083 English questions to online banking (Casanueva et al. 2020). There is nothing to fuse: the
table of this dataset compares ways to read a text.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from mmfuse.data import builder, raw, safe, splits
from mmfuse.data.fields import MAX_SEED, check_range
from mmfuse.errors import InputError, nearest

NAME = "banking77"
CLASSES = 77
SHARES = {"train": 0.9, "valid": 0.1}  # of the upstream training questions
COMMIT = "57ec275d8078af65b7731c2a98be812d844a6d6b"
_URL = f"https://raw.githubusercontent.com/PolyAI-LDN/task-specific-datasets/{COMMIT}/banking_data/"
TRAIN, TEST, CATEGORIES = (
    raw.RawFile(f"banking77/{name}", _URL + name, size, sha256)
    for name, size, sha256 in (
        (
            "train.csv",
            839_073,
            "b06e26ac675513959a63135f11b94ea7786ed02da65db93a5650d8838cbc664b",
        ),
        (
            "test.csv",
            239_961,
            "d12d6e3bc4c3103966ae786dc435913c0c563dfa328f5a3646d0e62cfeeb474d",
        ),
        (
            "categories.json",
            2_036,
            "53261da888122daf2d120d925458631d9619e15d82e56052e7a42e535ce32b63",
        ),
    )
)


@dataclasses.dataclass(kw_only=True)
class Banking77Config(tfds.core.BuilderConfig):
    """``split_seed``: of the validation questions, a tenth of every intent's training ones."""

    name: str = ""
    split_seed: int = 0

    def __post_init__(self):
        check_range(NAME, "split_seed", self.split_seed, 0, MAX_SEED)
        self.name = f"split{self.split_seed}"


class Banking77(builder.RawBuilder):
    """TFDS builder of ``banking77``: customers' questions to a bank, text only.

    Features: ``text``; ``label``, the place of the intent in ``categories.json``; ``id`` is
    ``train-N`` or ``test-N``, N the row of the upstream file from 0.
    """

    CONFIG = Banking77Config

    @classmethod
    def sources(cls, config: Banking77Config) -> tuple[builder.Source, ...]:
        """Two tables and the list of intents."""
        return (TRAIN, TEST, CATEGORIES)

    def features(self) -> dict[str, Any]:
        """One text."""
        return {"text": builder.text(), "label": builder.array(dtype=np.int64)}

    def card(self) -> dict[str, Any]:
        """What it is, whose, and what to beware of."""
        return {
            "name": NAME,
            "task": "classification",
            "classes": CLASSES,
            "modalities": ["text"],
            "source": f"github.com/PolyAI-LDN/task-specific-datasets@{COMMIT[:7]}, banking_data/",
            "licence": "CC BY 4.0",
            "citation": "Casanueva et al. 2020, Efficient Intent Detection with Dual Sentence "
            "Encoders (arXiv:2003.04807)",
            "split_rule": "upstream test; valid is drawn here, 10 % of every intent's training "
            f"questions, seeded by split_seed {self.builder_config.split_seed}",
            "traps": [
                "One modality: every fusion row but the unimodal ones is a way to pool a text.",
                "Training questions per intent run from 35 to 187, test has 40 of each.",
                "Six test questions are training questions too, but for case and outer blanks.",
            ],
        }

    def splits(self, paths: dict[str, Path]) -> dict[str, list[dict]]:
        """Reads the tables and cuts the validation questions."""
        names = safe.read_json(paths[CATEGORIES.path])
        self.note(class_names=names)
        train = read(paths[TRAIN.path], names)
        labels = np.array([row["label"] for row in train])
        chosen = splits.stratified(labels, SHARES, self.builder_config.split_seed)
        parts = {
            split: [row for row, s in zip(train, chosen, strict=True) if s == split]
            for split in SHARES
        }
        return parts | {"test": read(paths[TEST.path], names)}


def read(path: Path, names: list[str]) -> list[dict]:
    """Reads the examples of one table, ``text,category`` with a header.

    Raises:
      InputError: a column is missing, a row has more or fewer cells, or an intent is unknown.
    """
    numbers = {name: number for number, name in enumerate(names)}
    rows = []
    for line, row in safe.read_csv(path):
        where = f"{path}, line {line}"
        text, category = (safe.pick(row, column, where) for column in ("text", "category"))
        if category not in numbers:
            raise InputError(f"{where}: no intent '{category}'{nearest(category, names)}")
        rows.append({"id": f"{path.stem}-{len(rows)}", "text": text, "label": numbers[category]})
    return rows
