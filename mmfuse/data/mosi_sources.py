"""Upstream files of CMU-MOSI: where they are, and how they are read.

The csv files have no header. ``transcripts.csv`` has a row an utterance: id, words, number of the
video, 1 for a score >= 0. ``text_{train,test}.csv`` has the row's place in that file, then the text
features; audio and video have their features, then the label; all three in the same order. The
place's file is what tells which rows a split has.
"""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import numpy as np

from mmfuse.data.builder import same_rows
from mmfuse.data.raw import RawFile
from mmfuse.errors import InputError

FEATURES = (
    "soujanyaporia/contextual-utterance-level-multimodal-sentiment-analysis"
    "@f1199e608b429f13878f724d82b6b2adaed8f42fe"
)
SCORES = "jiangbing22/MMCPanda@3e568e4da552a9d0c61bf61761c73a06acd0eda4"
WIDTHS = {"audio": 73, "text": 100, "video": 100}
OFFICIAL = {"train": "train", "dev": "valid", "test": "test"}
# Scores and official splits that label.csv lacks. What was left over of the multisets of scores in
# pliang279/MFN@b0453fb6e21b data/y_{train,valid,test}.h5 once all others were matched.
RECOVERED = {
    "2WGyTLYerpo_44": (0.2, "train"),
    "5W7Z1C_fDaE_24": (2.4, "train"),
    "BioHAh1qJAQ_30": (-2.0, "train"),
    "lXPQBPVc5Cw_30": (-2.0, "test"),
}


def _file(path: str, size: int, sha256: str, repository: str = FEATURES) -> RawFile:
    """A file below ``mosi/``; the scores lie one folder up from where they are upstream."""
    upstream = f"data/mosi/{path}" if repository == SCORES else path
    url = f"https://raw.githubusercontent.com/{repository.replace('@', '/')}/{upstream}"
    return RawFile(f"mosi/{path}", url, size, sha256)


LABELS = _file(
    "label.csv", 193299,
    "74c52aba8884cca3f77962310c41f31d3d6250c4e4b50fd77fd4efe4eb75a521", SCORES,
)  # fmt: skip
TRANSCRIPTS = _file(
    "data/transcripts.csv", 201361,
    "e7689e6d70720addd2a6b316419d245a68839c32b014ff426c406063ee777466",
)  # fmt: skip
TEXT = {
    "train": _file(
        "data/text_train.csv", 1689050,
        "73770b6302ad0f7a51f4eddcae6788efde4d0b6802e09f78249d5b538d1c1d67",
    ),
    "test": _file(
        "data/text_test.csv", 889325,
        "f3b735070bf07ceff7a6ef6c8f4c32757e988de484e35bd6d38b2aecef851a59",
    ),
}  # fmt: skip
AUDIO = {
    "train": _file(
        "data/audio/audio_train0.csv", 1343911,
        "5435398a54664e7b00304587dc59ae84a438852be033c2a2fba779588624a2a1",
    ),
    "test": _file(
        "data/audio/audio_test0.csv", 699228,
        "ddd17eeefd3d951d51d4e2ef8a0d132652d8161e1886f71eb7262b7a14bffff6",
    ),
}  # fmt: skip
VIDEO = {
    "train": _file(
        "data/video/video_train0.csv", 1055454,
        "b6efc0413132d627efd06f67f1706830e775e90af9a75696f535c48dbc73f12f",
    ),
    "test": _file(
        "data/video/video_test0.csv", 557378,
        "cab836253d81100f59d533fa2ff65cd53c486be3ec9fd82203c5e25a7a77265f",
    ),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Utterance:
    """One utterance as upstream has it.

    Attributes:
      video, index: the two halves of ``id``; index counts in the order of speaking, from 1.
      score: mean of the annotators, -3..3.
      split, official: of the bc-LSTM split ("train", "test") and of the official one.
      vectors: float32 [F] by modality.
    """

    video: str
    index: int
    transcript: str
    positive: bool
    score: float
    split: str
    official: str
    vectors: dict[str, np.ndarray]

    @property
    def id(self) -> str:
        """As upstream writes it."""
        return f"{self.video}_{self.index}"


def files(vectors: tuple[str, ...]) -> tuple[RawFile, ...]:
    """What ``read`` reads for these modalities; the text files tell the order for all."""
    tables = [
        TEXT,
        *(table for name, table in (("audio", AUDIO), ("video", VIDEO)) if name in vectors),
    ]
    return (LABELS, TRANSCRIPTS, *(table[s] for table in tables for s in ("train", "test")))


def read(paths: dict[str, Path], vectors: tuple[str, ...]) -> list[Utterance]:
    """All utterances, by video and within it in the order of speaking.

    Raises:
      InputError: the files do not fit each other: rows, columns, ids, labels, or signs of scores.
    """
    spoken = _rows(paths[TRANSCRIPTS.path], 4)
    scores = _scores(paths)
    found = []
    for split in ("train", "test"):
        for place, values in _vectors(paths, split, vectors, spoken):
            identity, words, _, label = spoken[place]
            score, official = scores[identity]
            if (score >= 0) != (label == "1"):
                raise InputError(f"mosi: {identity} has score {score:g}, but label {label}")
            video, _, index = identity.rpartition("_")
            found.append(
                Utterance(video, int(index), words, label == "1", score, split, official, values)
            )
    if sorted(u.id for u in found) != sorted(row[0] for row in spoken):
        raise InputError("mosi: the two splits together are not the utterances of transcripts.csv")
    return sorted(found, key=lambda u: (u.video, u.index))


def _scores(paths: dict[str, Path]) -> dict[str, tuple[float, str]]:
    """(score, official split) by id."""
    rows = _rows(paths[LABELS.path], 4)[1:]
    return RECOVERED | {i: (float(score), OFFICIAL[split]) for i, _, score, split in rows}


def _vectors(paths, split: str, wanted: tuple[str, ...], spoken: list) -> list[tuple[int, dict]]:
    """(place in transcripts.csv, {modality: float32 [F]}) of every row of a split."""
    text = _rows(paths[TEXT[split].path], 1 + WIDTHS["text"])
    places = [int(row[0]) for row in text]
    parts = {"text": [row[1:] for row in text]}
    for name, table in (("audio", AUDIO), ("video", VIDEO)):
        if name in wanted:
            rows = _rows(paths[table[split].path], WIDTHS[name] + 1)
            same_rows("mosi", split, {"text": text, name: rows})
            _check_labels(name, split, [row[-1] for row in rows], places, spoken)
            parts[name] = [row[:-1] for row in rows]
    columns = {name: np.array(parts[name], np.float64).astype(np.float32) for name in wanted}
    return [
        (p, {name: column[i] for name, column in columns.items()}) for i, p in enumerate(places)
    ]


def _check_labels(name: str, split: str, labels: list[str], places: list[int], spoken) -> None:
    for label, place in zip(labels, places, strict=True):
        if label != spoken[place][3]:
            raise InputError(
                f"mosi: {name} of split '{split}' has label {label} for {spoken[place][0]}, "
                f"transcripts.csv has {spoken[place][3]}: their rows are not in the same order"
            )


def _rows(path: Path, columns: int) -> list[list[str]]:
    """The rows of a csv file, each with so many columns."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    for number, row in enumerate(rows, start=1):
        if len(row) != columns:
            raise InputError(f"{path}: row {number} has {len(row)} columns, expected {columns}")
    return rows
