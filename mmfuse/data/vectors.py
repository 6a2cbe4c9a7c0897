"""Pretrained word vectors in the text format of word2vec and GloVe, for the words of a vocabulary.

One line a word, ``word v1 v2 ... vE``; word2vec's first line, ``count E``, may be there or not.
"""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np

from mmfuse.data.text import FIRST_WORD, Vocabulary
from mmfuse.errors import InputError


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class WordVectors:
    """The first values of an embedding table.

    Attributes:
      values: float32 [V, E], zeros where there is no vector.
      found: bool [V], which ids have one: never padding (0) and unknown (1).
      file_sha256: of the file that they were read from.

    Two are equal, and print alike, if and only if they hold the same numbers: a model's identity
    depends on how it prints.
    """

    values: np.ndarray
    found: np.ndarray
    file_sha256: str

    @property
    def digest(self) -> str:
        """sha256 of all numbers."""
        shape = str(self.values.shape).encode()
        return hashlib.sha256(shape + self.values.tobytes() + self.found.tobytes()).hexdigest()

    def __repr__(self) -> str:
        rows, width = self.values.shape
        return f"WordVectors({rows} x {width}, sha256 {self.digest})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WordVectors) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)


def read_vectors(path: str | Path, vocabulary: Vocabulary) -> WordVectors:
    """Reads the vectors of the words in ``vocabulary``; of a word that occurs twice, the first.

    Raises:
      InputError: a file that cannot be read or holds none of the words, a line of another width,
        a value that is no finite number.
    """
    ids = {word.encode(): i for i, word in enumerate(vocabulary.words, start=FIRST_WORD)}
    digest, found = hashlib.sha256(), {}
    width = 0
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                digest.update(line)
                if number == 1 and _is_header(line):
                    continue
                width = width or len(line.split()) - 1
                word, values = _parse(line, width, f"{path}:{number}")
                if word in ids:
                    found.setdefault(ids[word], values)
    except OSError as error:
        raise InputError(f"vectors '{path}': {error.strerror}") from error
    if not found:
        raise InputError(f"vectors '{path}' has none of the {len(ids)} words of the vocabulary")
    table = np.zeros((len(vocabulary), width), np.float32)
    for i, values in found.items():
        table[i] = _numbers(values, f"vectors '{path}': word '{vocabulary.words[i - FIRST_WORD]}'")
    known = np.isin(np.arange(len(vocabulary)), list(found))
    return WordVectors(table, known, digest.hexdigest())


def _is_header(line: bytes) -> bool:
    parts = line.split()
    return len(parts) == 2 and all(part.isdigit() for part in parts)


def _parse(line: bytes, width: int, where: str) -> tuple[bytes, list[bytes]]:
    """The word, which may hold blanks itself, and its values as written."""
    parts = line.rstrip().rsplit(b" ", width)
    if width < 1 or len(parts) != width + 1:
        raise InputError(f"vectors {where}: expected a word and {width} values")
    return parts[0], parts[1:]


def _numbers(values: list[bytes], where: str) -> np.ndarray:
    try:
        numbers = np.array(values).astype(np.float32)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error
    if not np.isfinite(numbers).all():
        raise InputError(f"{where}: NaN or Inf")
    return numbers
