"""What ``ict_mmmo`` and ``youtube`` share: the sequences the Memory Fusion Network came with.

Words of a review, at most 20, each with the mean of the voice (COVAREP, 74) and face (Facet, 36)
features over it, and a word vector (GloVe, 300). A step of zeros is no frame. The word vectors of
the training reviews are too large for the repository and are missing: text is absent in training.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from mmfuse.data.builder import same_rows
from mmfuse.data.safe import read_h5
from mmfuse.errors import InputError, nearest

SPLITS = ("train", "valid", "test")
STEPS = 20
WIDTHS = {"audio": 74, "text": 300, "video": 36}
SOURCE = "pliang279/MFN@b0453fb6e21b581c796246a0c32a6551f2028c1b"
LICENCE = "MIT (the repository)"
MFN = "Zadeh et al. 2018, Memory fusion network for multi-view sequential learning (AAAI)"
TRAPS = [
    "A step of zeros is no frame: preprocess with zero_is_missing, or it is taken for a real one.",
    "Text is absent in training: no word vector is ever seen, so a text row learns nothing.",
]
SPLIT_RULE = "the official split of the release"


def checked_modalities(dataset: str, modalities: Sequence[str]) -> tuple[str, ...]:
    """The modalities, sorted.

    Raises:
      InputError: unknown, given twice, none, or text alone, which training does not have.
    """
    for name in modalities:
        if name not in WIDTHS:
            raise InputError(
                f"{dataset}: unknown modality '{name}'; allowed: {', '.join(WIDTHS)}"
                f"{nearest(name, WIDTHS)}"
            )
    if isinstance(modalities, str) or not modalities or len(set(modalities)) != len(modalities):
        raise InputError(f"{dataset}: modalities {modalities!r} must be a list of different names")
    if list(modalities) == ["text"]:
        raise InputError(
            f"{dataset}: text alone is refused: the word vectors of the training reviews are "
            "missing upstream, so nothing could be learned; add audio or video"
        )
    return tuple(sorted(modalities))


def read_d1(path: Path, *shape: int) -> np.ndarray:
    """The array [N, *shape] under key ``d1`` of an h5 file, as float32.

    Raises:
      InputError: no such key, another shape, or a file that `safe` refuses.
    """
    found = read_h5(path, "d1")
    if found.shape[1:] != shape:
        raise InputError(
            f"{path}: expected an array [N, {_told(shape)}] as 'd1', found {found.shape}"
        )
    return found.astype(np.float32)


def _told(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))


def examples(
    dataset: str, split: str, sequences: Mapping[str, np.ndarray], labels: Sequence
) -> Iterator[dict]:
    """Examples with ids made of split and row, as upstream has none.

    ``sequences`` {modality: [N, T, F], or [N, 0, F] where it is absent}.
    """
    same_rows(dataset, split, {**sequences, "label": labels})
    for i, label in enumerate(labels):
        columns = {name: rows[i] for name, rows in sequences.items()}
        yield {"id": f"{split}-{i:03d}", "label": label, **columns}


def without_frames(n: int, modality: str) -> np.ndarray:
    """[N, 0, F]: what stands for a modality that upstream does not have."""
    return np.zeros((n, 0, WIDTHS[modality]), np.float32)


def absent(sequences: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Examples without a single frame, by modality."""
    return {name: int((~rows.any((1, 2))).sum()) for name, rows in sequences.items()}
