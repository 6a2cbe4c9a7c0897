"""Tiny upstream files of dialogues, calls, music and reviews, and builders that trust them."""

from pathlib import Path

import numpy as np

from mmfuse.data import waimai_10k
from tests.avmnist_files import trusted_file


def place(root: Path, source) -> Path:
    path = root / source.path
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def reviews() -> dict[str, np.ndarray]:
    texts = np.array([f"味道{i}，很好" if i % 3 else f'太慢了 {i}，"差"' for i in range(40)])
    texts[7] = texts[21]
    split = np.array(["train"] * 32 + ["valid"] * 4 + ["test"] * 4)
    return {"text": texts, "label": (np.arange(40) % 3 > 0).astype(np.int8), "split": split}


def write_reviews(root: Path, **changed: np.ndarray) -> None:
    columns = reviews()
    np.savez(place(root, waimai_10k.PACKED), **columns | changed)
    rows = [
        f'{label},"{text.replace(chr(34), chr(34) * 2)}"'
        for text, label in zip(columns["text"], columns["label"], strict=True)
    ]
    table = "\n".join(["label,review", *rows]) + "\n"
    place(root, waimai_10k.TABLE).write_text(table, encoding="utf-8-sig")


def trust(root: Path, monkeypatch) -> None:
    """Makes the builders expect the sizes and hashes of those files that are in ``root``."""
    for module, name in (
        (waimai_10k, "PACKED"),
        (waimai_10k, "TABLE"),
    ):  # fmt: skip
        old = getattr(module, name)
        sources = old if isinstance(old, dict) else {"": old}
        new = {k: trusted_file(root, s) for k, s in sources.items() if (root / s.path).is_file()}
        if new:
            monkeypatch.setattr(module, name, new if isinstance(old, dict) else new[""])
