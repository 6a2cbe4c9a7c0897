"""Tiny upstream files of the graphs and of the films, and builders that trust them."""

from pathlib import Path

import numpy as np

from mmfuse.data.datasets import make_builder, prepare
from tests.avmnist_files import trusted_file

SPLITS = ("train", "valid", "test")


def trust(root: Path, module, monkeypatch, *names: str) -> None:
    """Makes a builder expect the sizes and hashes of the files in ``root``."""
    for name in names:
        monkeypatch.setattr(module, name, trusted_file(root, getattr(module, name)))


def prepared(name: str, folder, data_dir, **fields):
    builder = make_builder(name, fields, data_dir=str(data_dir), raw_data=str(folder))
    prepare(builder)
    return builder


def rows(builder, split: str) -> list[dict]:
    """The prepared examples of a split."""
    source = builder.as_data_source(split)
    return source.__getitems__(list(range(len(source))))


def place(root: Path, source) -> Path:
    path = root / source.path
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def write_lines(root: Path, source, lines: list[str]) -> None:
    place(root, source).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def left_out(row: dict, entities: int) -> set[int]:
    """The entities that the filter of an example names."""
    return set(np.flatnonzero(np.unpackbits(row["label_filter"])[:entities]).tolist())
