"""A tiny upstream file of spoken sentences, and a builder that trusts it."""

from pathlib import Path

import numpy as np

from mmfuse.data import emodb
from tests import graph_files

LETTERS = list(emodb.EMOTIONS)
SAID = (("a01", 0), ("b10", 5))  # angry, and sad


def clips(rng, versions: int = 1) -> dict[str, np.ndarray]:
    """So many versions of two clips of every speaker: one angry, one sad."""
    of = [
        (speaker, sentence, label, "abcdefgh"[version])
        for speaker in emodb.SPEAKERS for version in range(versions) for sentence, label in SAID
    ]  # fmt: skip
    return {
        "clip": np.array([f"{s:02d}{text}{LETTERS[label]}{v}" for s, text, label, v in of]),
        "logmel": rng.integers(0, 256, (len(of), emodb.FRAMES, emodb.BANDS), np.uint8),
        "speaker": np.array([s for s, *_ in of], np.int8),
        "sentence": np.array([text for _, text, _, _ in of]),
        "label": np.array([label for _, _, label, _ in of], np.int8),
        "class_name": np.array(emodb.CLASS_NAMES),
    }


def fabricate(root: Path) -> Path:
    """Writes them below ``root``, enough to train a batch on, and returns it."""
    np.savez(graph_files.place(root, emodb.PACKED), **clips(np.random.default_rng(0), 4))
    return root


def trust(root: Path, monkeypatch) -> None:
    """Makes the builder expect the size and hash of the file in ``root``."""
    graph_files.trust(root, emodb, monkeypatch, "PACKED")
