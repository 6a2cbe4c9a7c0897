"""``waimai_10k``: Chinese reviews of delivered food, positive or negative; text only.

11,987 reviews of a delivery platform. There is nothing to fuse: the table of this dataset shows
whether the text pipeline reads Chinese. Two forms are read: ``packed``, one npz with a split; and
``upstream``, the table ``label,review``, which holds the same reviews in the same order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from mmfuse.data import builder, raw, safe, splits
from mmfuse.data.references import logistic, reference, tf_idf
from mmfuse.errors import InputError

NAME = "waimai_10k"
CLASS_NAMES = ("negative", "positive")
SHARES = {"train": 0.8, "valid": 0.1, "test": 0.1}
COMMIT = "a0b781d72158bde242c0626c9e354d2b328865ff"
_URL = f"https://raw.githubusercontent.com/SophonPlus/ChineseNlpCorpus/{COMMIT}/datasets/"
PACKED = raw.RawFile(
    "waimai_10k/waimai_10k.npz",
    None,
    644_279,
    "137f67f553dcc6ebc380c50be0f8ac74ca51990242aa85cb4f824244c8c2e32a",
)
TABLE = raw.RawFile(
    "waimai_10k/waimai_10k.csv",
    f"{_URL}waimai_10k/waimai_10k.csv",
    919_380,
    "b8b5c11c00b51578d35937fca56e03a126b45381f1ea4b22893237cb377a26fe",
)


@dataclasses.dataclass(kw_only=True)
class Waimai10kConfig(builder.FormConfig):
    """Which form is read."""

    dataset = NAME


class Waimai10k(builder.RawBuilder):
    """TFDS builder of ``waimai_10k``: Chinese reviews of delivered food, text only.

    Features: ``text``; ``label`` 0 negative, 1 positive; ``id`` the row of the upstream table,
    from 0.
    """

    CONFIG = Waimai10kConfig
    VERSION = tfds.core.Version("1.1.0")  # 1.1: with references in the card

    @classmethod
    def sources(cls, config: Waimai10kConfig) -> tuple[builder.Source, ...]:
        """One file, whichever the form."""
        return (PACKED,) if config.form == "packed" else (TABLE,)

    def features(self) -> dict[str, Any]:
        """One text."""
        return {"text": builder.text(), "label": builder.array(dtype=np.int64)}

    def card(self) -> dict[str, Any]:
        """What it is, whose, and what to beware of."""
        rule, stated = self.builder_config.division(
            "the split of the packed file, made for it, not upstream",
            {"train": 9590, "valid": 1198, "test": 1199},
        )
        return stated | {
            "name": NAME,
            "task": "classification",
            "classes": len(CLASS_NAMES),
            "class_names": list(CLASS_NAMES),
            "modalities": ["text"],
            "source": f"github.com/SophonPlus/ChineseNlpCorpus@{COMMIT[:7]}, datasets/waimai_10k/",
            "licence": "none stated; collected for research; do not redistribute",
            "citation": "SophonPlus, ChineseNlpCorpus (github.com/SophonPlus/ChineseNlpCorpus)",
            "split_rule": f"{rule}: 80/10/10, stratified by label, equal reviews kept together",
            "traps": [
                "One modality: every fusion row but the unimodal ones is a way to pool a text.",
                "Two in three are negative: beside accuracy look at F1.",
                "Seven reviews occur twice, once with each label: no model gets both.",
                "No spaces between words: what a word is depends on the segmentation, and a "
                "character level is a strong alternative.",
            ],
        }

    def splits(self, paths: dict[str, Path]) -> dict[str, Iterator[dict]]:
        """Reads the reviews and divides them."""
        if self.builder_config.form == "packed":
            columns = read_packed(paths[PACKED.path])
        else:
            columns = read_table(paths[TABLE.path])
            columns["split"] = splits.stratified(
                columns["label"],
                SHARES,
                self.builder_config.split_seed,
                splits.duplicate_groups(columns["text"].tolist()),
            )
        self.note(references=of_characters(columns))
        return {split: _examples(columns, split) for split in SHARES}


def of_characters(columns: dict[str, np.ndarray]) -> list[dict]:
    """The accuracy of a logistic regression on TF-IDF of characters and of pairs of them."""
    rows = {split: np.flatnonzero(columns["split"] == split) for split in SHARES}
    x = tf_idf({split: columns["text"][own].tolist() for split, own in rows.items()}, 2)
    accuracy = logistic(x, {split: columns["label"][own] for split, own in rows.items()})
    return [reference("logistic regression, characters 1-2 (TF-IDF)", "accuracy", accuracy)]


def read_packed(path: Path) -> dict[str, np.ndarray]:
    """Returns text, label and split, [N] each, in upstream order.

    Raises:
      InputError: a column is missing or of another length, or a label or split is unknown.
    """
    arrays = safe.read_npz(path)
    columns = {name: safe.pick(arrays, name, str(path)) for name in ("text", "label", "split")}
    safe.check_rows(str(path), {"all": columns})
    for name, allowed in (("label", range(len(CLASS_NAMES))), ("split", SHARES)):
        unknown = set(columns[name].tolist()) - set(allowed)
        if unknown:
            raise InputError(
                f"{path}: {name} {min(unknown)!r}; allowed: {', '.join(map(str, allowed))}"
            )
    return columns


def read_table(path: Path) -> dict[str, np.ndarray]:
    """Returns text and label, [N] each, of the table ``label,review``.

    Raises:
      InputError: a column is missing, or a label is neither 0 nor 1, with its line.
    """
    texts, labels = [], []
    for line, row in safe.read_csv(path):
        where = f"{path}, line {line}"
        label, review = (safe.pick(row, column, where) for column in ("label", "review"))
        if label not in ("0", "1"):
            raise InputError(f"{where}: label '{label}'; expected 0 (negative) or 1 (positive)")
        texts.append(review)
        labels.append(int(label))
    return {"text": np.array(texts), "label": np.array(labels, int)}


def _examples(columns: dict[str, np.ndarray], split: str) -> Iterator[dict]:
    for row in np.flatnonzero(columns["split"] == split):
        yield {
            "id": str(row),
            "text": str(columns["text"][row]),
            "label": int(columns["label"][row]),
        }
