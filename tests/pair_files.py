"""Tiny upstream files of the datasets of pictures and texts, and builders that trust them."""

import csv
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image

from mmfuse.data import banking77, cub_image_text, easy_vqa, mvsa_single
from tests.avmnist_files import trusted_file

BIRDS = 10  # of a species
PAIRS = 80
IMAGES = {"train": 20, "test": 10}
ANSWERS = ["circle", "green", "red", "gray", "yes", "teal", "black", "rectangle"]
ANSWERS += ["yellow", "triangle", "brown", "blue", "no"]
QUESTIONS = ("what is the shape?", "is there a red shape?", "is there a circle?", "what color?")
TRUSTED = (
    (cub_image_text, "MAT"),
    (banking77, "TRAIN"),
    (banking77, "TEST"),
    (banking77, "CATEGORIES"),
    (easy_vqa, "ARCHIVE"),
    (mvsa_single, "PACKED"),
    (mvsa_single, "LABELS"),
)


def fabricate(root: Path) -> Path:
    """Writes the files of all four datasets below ``root`` and returns it."""
    for part, write in enumerate((write_birds, write_bank, write_shapes, write_tweets)):
        write(root, np.random.default_rng(part))
    return root


def trust(root: Path, monkeypatch) -> None:
    """Makes the builders expect the sizes and hashes of the files in ``root``."""
    for module, name in TRUSTED:
        monkeypatch.setattr(module, name, trusted_file(root, getattr(module, name)))


def place(root: Path, source) -> Path:
    path = root / source.path
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def write_birds(root: Path, rng: np.random.Generator) -> None:
    views, rows = np.empty((1, 2), object), cub_image_text.CLASSES * BIRDS
    for place_of, width in enumerate(cub_image_text.WIDTHS.values()):
        views[0, place_of] = rng.normal(size=(rows, width))
    labels = np.repeat(np.arange(1, cub_image_text.CLASSES + 1, dtype=np.uint8), BIRDS)
    scipy.io.savemat(place(root, cub_image_text.MAT), {"X": views, "Y": labels[:, None]})


def write_bank(root: Path, rng: np.random.Generator) -> None:
    names = [f"intent_{number}" for number in range(banking77.CLASSES)]
    place(root, banking77.CATEGORIES).write_text(json.dumps(names))
    for source, each in ((banking77.TRAIN, 5), (banking77.TEST, 1)):
        rows = [(f'my "card" {n},\nnumber {i}', names[n]) for n in range(77) for i in range(each)]
        order = rng.permutation(len(rows))
        with place(root, source).open("w", newline="") as file:
            csv.writer(file).writerows([("text", "category"), *(rows[i] for i in order)])


def write_shapes(root: Path, rng: np.random.Generator) -> None:
    path = place(root, easy_vqa.ARCHIVE)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{easy_vqa.FOLDER}/answers.txt", "\n".join(ANSWERS) + "\n")
        for part, count in IMAGES.items():
            rows = []
            for image in range(count):
                pixels = rng.integers(0, 256, (easy_vqa.SIDE, easy_vqa.SIDE, 3), np.uint8)
                archive.writestr(f"{easy_vqa.FOLDER}/{part}/images/{image}.png", png(pixels))
                rows += [[q, ANSWERS[(image + i) % 13], image] for i, q in enumerate(QUESTIONS)]
            archive.writestr(f"{easy_vqa.FOLDER}/{part}/questions.json", json.dumps(rows))


def write_tweets(root: Path, rng: np.random.Generator) -> None:
    """Both forms of 80 pairs; pair 3 has the picture of pair 2, pair 5 the text of pair 4."""
    pixels = rng.integers(0, 256, (PAIRS, mvsa_single.SIDE, mvsa_single.SIDE, 3), np.uint8)
    texts = [f"tweet №{number} “é”" for number in range(PAIRS)]
    pixels[3], texts[5] = pixels[2], texts[4]
    tags = [mvsa_single.CLASS_NAMES[number % 3] for number in range(PAIRS)]
    guids = 2 * np.arange(PAIRS, dtype=np.int32) + 1
    with place(root, mvsa_single.LABELS).open("w", newline="") as file:
        rows = list(zip(guids.tolist(), tags, strict=True))
        csv.writer(file).writerows([("guid", "tag"), *reversed(rows)])
    data = root / "mvsa_single/data"
    data.mkdir()
    for number, guid in enumerate(guids):
        large = pixels[number].repeat(2, 0).repeat(3, 1)
        (data / f"{guid}.jpg").write_bytes(encoded(large, "JPEG"))
        encoding = "gb18030" if number % 2 else "utf-8"
        (data / f"{guid}.txt").write_bytes((texts[number] + " \n").encode(encoding))
    np.savez(
        place(root, mvsa_single.PACKED),
        guid=guids,
        image=np.stack([mvsa_single.shrink(data / f"{g}.jpg") for g in guids]),
        text=np.array(texts),
        label=np.arange(PAIRS, dtype=np.int8) % 3,
        split=np.repeat(["train", "valid", "test"], [60, 10, 10]),
        class_name=np.array(mvsa_single.CLASS_NAMES),
    )


def png(pixels: np.ndarray) -> bytes:
    return encoded(pixels, "PNG")


def encoded(pixels: np.ndarray, form: str) -> bytes:
    Image.fromarray(pixels).save(stream := io.BytesIO(), form)
    return stream.getvalue()


def columns(builder, split: str) -> dict[str, list]:
    """The prepared examples of a split, column by column."""
    source = builder.as_data_source(split)
    rows = source.__getitems__(list(range(len(source))))
    return {name: [row[name] for row in rows] for name in rows[0]}
