"""Texts as the ids of their words, with an end, as a decoder says them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from mmfuse.data.text import Vocabulary

STOP = "<eos>"
END = 2  # the id of STOP


@dataclasses.dataclass(frozen=True)
class Words:
    """Texts to ids: 0 padding, 1 unknown, 2 the end of a text, then words."""

    vocabulary: Vocabulary
    length: int

    @classmethod
    def fit(cls, texts: Iterable[Sequence[str]], min_count: int, length: int) -> Words:
        """Takes the words that training texts have at least ``min_count`` times, by frequency."""
        return cls.of(Vocabulary.fit(texts, min_count).words, length)

    @classmethod
    def of(cls, words: Iterable[str], length: int) -> Words:
        """Takes these words, in this order."""
        return cls(Vocabulary((STOP, *words)), length)

    def __len__(self) -> int:
        return len(self.vocabulary)

    def __call__(self, words: str) -> np.ndarray:
        """Ids int32 [length]; a text that is too long loses its tail and so its end."""
        ids, _ = self.vocabulary.encode_batch([[*words.split(), STOP]], self.length)
        return ids[0]
