"""Random examples in place of a dataset's files, so that speed can be measured without them.

Sizes and types are the dataset's own: its TFDS features say what a raw example looks like, and the
config's preprocessing is fitted on the random ones and applied to them. Only what depends on their
content differs: the vocabulary has about ``WORDS`` entries.
"""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import tensorflow_datasets as tfds

from mmfuse.data.loader import Dataset
from mmfuse.errors import InputError

WORDS = 500
LONGEST = 24  # words in a message; steps of a sequence of any length
SPLITS = ("train", "valid", "test")
INSTEAD = "measure with the data itself"
LABELLED = {  # the tasks with random labels: (rng, card) -> a label
    "classification": lambda rng, card: rng.integers(card["classes"]),
    "regression": lambda rng, card: rng.normal(),
    "sentiment": lambda rng, card: rng.normal(),
}


@dataclasses.dataclass(frozen=True)
class RandomBuilder:
    """What ``Dataset`` reads of a builder: every split holds ``n`` random examples."""

    builder: tfds.core.DatasetBuilder
    n: int
    data_path: str = ""  # there are no files

    def __post_init__(self):
        card = self.builder.info.metadata
        if card["task"] not in LABELLED:
            raise InputError(
                f"dataset '{card['name']}': its task '{card['task']}' has no random examples; "
                f"allowed: {', '.join(LABELLED)}; for any other, {INSTEAD}"
            )

    @property
    def info(self) -> SimpleNamespace:
        """The dataset's card, and the splits."""
        card = dict(self.builder.info.metadata)
        split = SimpleNamespace(num_examples=self.n)
        return SimpleNamespace(metadata=card, splits=dict.fromkeys(SPLITS, split))

    def as_data_source(self, split: str) -> RandomBuilder:
        """Any split: they are all alike."""
        del split
        return self

    def __getitems__(self, indices: list[int]) -> list[dict]:
        return [self._example(np.random.default_rng(index)) for index in indices]

    def _example(self, rng: np.random.Generator) -> dict:
        row = {name: _value(rng, kind) for name, kind in self.builder.info.features.items()}
        card = self.builder.info.metadata
        return row | {"label": LABELLED[card["task"]](rng, card)}


def _value(rng: np.random.Generator, kind: tfds.features.FeatureConnector):
    """A random raw value: words for a text, the whole range of integers, or normal numbers."""
    if isinstance(kind, tfds.features.Text):
        words = rng.integers(WORDS, size=rng.integers(1, LONGEST + 1))
        return " ".join(f"word{word}" for word in words)
    shape = [LONGEST if size is None else size for size in kind.shape]
    if np.issubdtype(kind.np_dtype, np.integer):
        limits = np.iinfo(kind.np_dtype)
        return rng.integers(limits.min, limits.max, shape, kind.np_dtype, endpoint=True)
    return rng.normal(size=shape).astype(kind.np_dtype)


def synthetic_dataset(builder, preprocess: dict[str, dict], n: int) -> Dataset:
    """A dataset of ``n`` random examples, held in memory.

    Raises:
      InputError: the dataset's task is none of ``LABELLED``, or a modality is one of ids.
    """
    made = RandomBuilder(builder, n)
    for name, entry in preprocess.items():
        if entry["name"] == "identity":
            raise InputError(
                f"config.data.preprocess.{name}: 'identity' has no random ids; "
                f"allowed: any other preprocessor; for ids, {INSTEAD}"
            )
    return Dataset(made, preprocess, resident_bytes=2**63)
