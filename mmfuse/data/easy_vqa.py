"""``easy_vqa``: a picture of one coloured shape and a question about it; 13 answers.

Neither the picture nor the question alone can answer (easy-VQA, Victor Zhou 2020): what is asked
for is only in the question, what is there only in the picture.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from mmfuse.data import builder, raw, safe
from mmfuse.data.fields import MAX_SEED, check_choice, check_range
from mmfuse.errors import InputError

NAME = "easy_vqa"
SIDE = 64  # pixels of an upstream picture
SIDES = (64, 32, 16)
ANSWERS = 13
VALID_IMAGES = 0.1  # of the upstream training images
SPLITS = ("train", "valid", "test")
FOLDER = "easy_vqa/data"  # inside the archive
ARCHIVE = raw.RawFile(
    "easy_vqa/easy-VQA_data.zip",
    None,
    3_012_346,
    "7a35c4e2718a1c89d5883440cd060a2ca77058b391bcb2be3d4b7a4e3d165a9e",
)


@dataclasses.dataclass(kw_only=True)
class EasyVqaConfig(tfds.core.BuilderConfig):
    """Which questions, and how large the pictures are kept.

    Attributes:
      size: pixels of a side, 64, or 32 or 16: means over blocks.
      n_train, n_valid, n_test: the first so many questions of a split, in the order of the upstream
        file, which is that of the images; 0 = all.
      split_seed: of the choice of validation images.
    """

    name: str = ""
    size: int = 32
    n_train: int = 0
    n_valid: int = 0
    n_test: int = 0
    split_seed: int = 0

    def __post_init__(self):
        check_choice(NAME, "size", self.size, SIDES)
        for split, limit in self.limits.items():
            check_range(NAME, f"n_{split}", limit, 0, 10**9)
        check_range(NAME, "split_seed", self.split_seed, 0, MAX_SEED)
        counts = "-".join(str(limit or "all") for limit in self.limits.values())
        self.name = f"size{self.size}-{counts}-split{self.split_seed}"

    @property
    def limits(self) -> dict[str, int]:
        """Questions per split at most; 0 = all."""
        return {"train": self.n_train, "valid": self.n_valid, "test": self.n_test}


class EasyVqa(builder.RawBuilder):
    """TFDS builder of ``easy_vqa``: questions about pictures of one coloured shape.

    Features: ``image`` uint8 [size, size, 3]; ``text`` the question; ``label`` the place of the
    answer in ``answers.txt``; ``id`` is e.g. ``train-00017/image-3``: the row of the upstream file
    and the picture.
    """

    CONFIG = EasyVqaConfig

    @classmethod
    def sources(cls, config: EasyVqaConfig) -> tuple[builder.Source, ...]:
        """One archive with the folder ``easy_vqa/data`` of the repository."""
        return (ARCHIVE,)

    def features(self) -> dict[str, Any]:
        """A picture and a question."""
        size = self.builder_config.size
        return {
            "image": builder.array(size, size, 3, dtype=np.uint8),
            "text": builder.text(),
            "label": builder.array(dtype=np.int64),
        }

    def card(self) -> dict[str, Any]:
        """What it is, whose, and what to beware of."""
        return {
            "name": NAME,
            "task": "classification",
            "classes": ANSWERS,
            "modalities": ["image", "text"],
            "source": "github.com/vzhou842/easy-VQA@3b553bb, easy_vqa/data/, packed as one zip",
            "licence": "MIT",
            "citation": "Victor Zhou 2020, easy-VQA (victorzhou.com/blog/easy-vqa)",
            "split_rule": "upstream test; valid is drawn here, the questions of 10 % of the "
            f"training images, seeded by split_seed {self.builder_config.split_seed}",
            "traps": [
                "Questions of one image must stay in one split: ten of them share a picture.",
                "Three of four answers are yes or no, so a question alone goes a long way.",
                "The pictures are generated: what works here may not work on photographs.",
            ],
        }

    def splits(self, paths: dict[str, Path]) -> dict[str, Iterator[dict]]:
        """Reads the archive and cuts the validation questions by image."""
        config = self.builder_config
        with safe.open_zip(paths[ARCHIVE.path]) as archive:
            answers = archive.read(f"{FOLDER}/answers.txt").decode().split()
            self.note(class_names=answers)
            train, test = (_questions(archive, part) for part in ("train", "test"))
            pictures = {
                part: _pictures(archive, part, rows, config.size)
                for part, rows in (("train", train), ("test", test))
            }
        valid = validation_images(sorted(pictures["train"]), config.split_seed)
        parts = {
            "train": [row for row in train if row["image"] not in valid],
            "valid": [row for row in train if row["image"] in valid],
            "test": test,
        }
        return {
            split: _examples(
                _first(split, parts[split], config.limits[split]),
                pictures["test" if split == "test" else "train"],
                {answer: number for number, answer in enumerate(answers)},
            )
            for split in SPLITS
        }


def validation_images(images: list[int], seed: int) -> set[int]:
    """A tenth of the training images, drawn without regard to their questions."""
    order = np.random.default_rng(seed).permutation(images)
    return set(order[: round(VALID_IMAGES * len(images))].tolist())


def _questions(archive: safe.Archive, part: str) -> list[dict]:
    rows = safe.read_json(archive.read(name := f"{FOLDER}/{part}/questions.json"), name=name)
    return [
        {"id": f"{part}-{row:05d}/image-{image}", "text": text, "answer": answer, "image": image}
        for row, (text, answer, image) in enumerate(rows)
    ]


def _pictures(
    archive: safe.Archive, part: str, rows: list[dict], size: int
) -> dict[int, np.ndarray]:
    """``{number: uint8 [size, size, 3]}`` of the pictures that are asked about."""
    pictures = {}
    for number in sorted({row["image"] for row in rows}):
        name = f"{FOLDER}/{part}/images/{number}.png"
        pictures[number] = shrink(safe.read_picture(archive.read(name), name=name), size)
    return pictures


def shrink(picture: np.ndarray, size: int) -> np.ndarray:
    """uint8 [S, S, 3] -> [size, size, 3]: means over blocks, rounded to the nearest (ties even)."""
    block = len(picture) // size
    blocks = picture.reshape(size, block, size, block, 3)
    return np.rint(blocks.mean((1, 3))).astype(np.uint8)


def _first(split: str, rows: list[dict], limit: int) -> list[dict]:
    if limit > len(rows):
        raise InputError(f"{NAME}: n_{split} {limit}: there are {len(rows)} questions")
    return rows[: limit or None]


def _examples(rows: list[dict], pictures: dict, numbers: dict[str, int]) -> Iterator[dict]:
    for row in rows:
        yield {
            "id": row["id"],
            "image": pictures[row["image"]],
            "text": row["text"],
            "label": numbers[row["answer"]],
        }
