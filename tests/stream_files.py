"""Tiny upstream files of dialogues, calls, music and reviews, and builders that trust them."""

from pathlib import Path

import numpy as np
import scipy.io

from mmfuse.data import maec, onecommon, polymusic, waimai_10k
from tests.avmnist_files import trusted_file

DIALOGUES = {"train": 60, "valid": 4, "test": 5}
CALLS = {"train": (4, 6, 5), "valid": (3,), "test": (7, 2)}
PIECES = {"train": (9, 5), "valid": (4,), "test": (6, 3)}
ORDER = ("Mean", "Minimum intensity", "Maximum intensity")
WORDS = [f"word{i}" for i in range(16)]


def place(root: Path, source) -> Path:
    path = root / source.path
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def write_dialogues(root: Path) -> None:
    rng = np.random.default_rng(0)
    for split, count in DIALOGUES.items():
        lines = []
        for number in range(count):
            view = (rng.integers(-50, 50, (7, 4)) / 75).round(4)
            turns = [" ".join(rng.choice(WORDS, 4)) for _ in range(2 + number % 4)]
            for side in range(1 if split == "train" else 2):
                # The same dot, moved: dot 2 of one side is dot 4 of the other, if they agree.
                seen = np.roll(view, 2 * side, axis=0) + np.array([0.01 * side] * 2 + [0, 0])
                who = ("YOU", "THEM") if number % 2 == side else ("THEM", "YOU")
                target = 2 + 2 * side if number % 3 else 2
                lines.append(line(seen, turns, who, target))
        place(root, onecommon.FILES[split]).write_text("\n".join(lines) + "\n")


def line(view, turns, who=("YOU", "THEM"), target=0) -> str:
    numbers = " ".join(str(value) for value in np.ravel(view))
    said = " ".join(f"{who[i % 2]}: {words} <eos>" for i, words in enumerate(turns))
    return (
        f"<input> {numbers} </input> <dialogue> {said} <selection> </dialogue> "
        f"<output> {target} </output>"
    )


def calls(split_sizes: dict[str, tuple] = CALLS) -> dict[str, np.ndarray]:
    """The arrays of the packed file; the last call has lowest and highest in their order."""
    rng, sizes = np.random.default_rng(1), [n for of in split_sizes.values() for n in of]
    rows = sum(sizes)
    voice = rng.normal(50, 10, (rows, 29)).astype(np.float32)
    voice[:, 1], voice[:, 2] = voice[:, 0] + 20, voice[:, 0] - 20
    voice[-sizes[-1] :, 1:3] = voice[-sizes[-1] :, [2, 1]]
    voice[3, 2] = voice[-1, 1] = -300
    voice[0, 5] = 1e6
    defined = rng.random((rows, 29)) < 0.9
    defined[:, :3] = True
    said = [f"Call {i} is naïve, {WORDS[i % 16]} and {WORDS[i % 5]}.".encode() for i in range(rows)]
    return {
        "call": np.array([f"2015_{i}" for i in range(len(sizes))]),
        "split": np.array([split for split, of in split_sizes.items() for _ in of]),
        "n_sentences": np.array(sizes, np.int32),
        "audio_feat": np.where(defined, voice, 0),
        "audio_defined": np.packbits(defined, axis=1),
        "audio_name": np.array([*ORDER, *(f"feature {i}" for i in range(26))]),
        "sentence_utf8": np.frombuffer(b"".join(said), np.uint8),
        "sentence_offset": np.cumsum([0, *map(len, said)]).astype(np.int32),
    }


def write_calls(root: Path, **changed: np.ndarray) -> None:
    np.savez(place(root, maec.PACKED), **calls() | changed)


def pieces(seed: int, steps: dict[str, tuple] = PIECES) -> dict[str, list[np.ndarray]]:
    """Rolls with 0 to 6 notes a step."""
    rng, found = np.random.default_rng(seed), {}
    for split, lengths in steps.items():
        rolls = [np.zeros((n, 88), np.uint8) for n in lengths]
        for roll in rolls:
            for keys in roll:
                keys[rng.choice(88, rng.integers(0, 7), replace=False)] = 1
        found[split] = rolls
    return found


def write_pieces(root: Path, **changed: list) -> None:
    for seed, source in enumerate(polymusic.FILES.values()):
        cells = {}
        for split, rolls in (pieces(seed) | changed).items():
            cells[polymusic.CELLS[split]] = cell = np.empty((1, len(rolls)), object)
            for number, roll in enumerate(rolls):
                cell[0, number] = roll
        scipy.io.savemat(place(root, source), cells)


def reviews(tenths: int = 4) -> dict[str, np.ndarray]:
    texts = np.array(
        [f"味道{i}，很好" if i % 3 else f'太慢了 {i}，"差"' for i in range(10 * tenths)]
    )
    texts[7] = texts[21]
    split = np.repeat(["train", "valid", "test"], [8 * tenths, tenths, tenths])
    return {
        "text": texts,
        "label": (np.arange(10 * tenths) % 3 > 0).astype(np.int8),
        "split": split,
    }


def write_reviews(root: Path, tenths: int = 4, **changed: np.ndarray) -> None:
    columns = reviews(tenths)
    np.savez(place(root, waimai_10k.PACKED), **columns | changed)
    rows = [
        f'{label},"{text.replace(chr(34), chr(34) * 2)}"'
        for text, label in zip(columns["text"], columns["label"], strict=True)
    ]
    table = "\n".join(["label,review", *rows]) + "\n"
    place(root, waimai_10k.TABLE).write_text(table, encoding="utf-8-sig")


def fabricate(root: Path) -> Path:
    """Writes all of them below ``root``, large enough to train a batch on, and returns it."""
    write_dialogues(root)
    spoken = calls({"train": (30, 30), "valid": (9,), "test": (9,)})
    said = [" ".join(f"said{10 * i + j}" for j in range(10)).encode() for i in range(78)]
    spoken["sentence_utf8"] = np.frombuffer(b"".join(said), np.uint8)
    spoken["sentence_offset"] = np.cumsum([0, *map(len, said)]).astype(np.int32)
    write_calls(root, **spoken)
    write_pieces(root, **pieces(0, {"train": (99, 99), "valid": (40,), "test": (20,)}))
    write_reviews(root, 8)
    return root


def trust(root: Path, monkeypatch) -> None:
    """Makes the builders expect the sizes and hashes of those files that are in ``root``."""
    for module, name in (
        (onecommon, "FILES"), (maec, "PACKED"), (polymusic, "FILES"), (waimai_10k, "PACKED"),
        (waimai_10k, "TABLE"),
    ):  # fmt: skip
        old = getattr(module, name)
        sources = old if isinstance(old, dict) else {"": old}
        new = {k: trusted_file(root, s) for k, s in sources.items() if (root / s.path).is_file()}
        if new:
            monkeypatch.setattr(module, name, new if isinstance(old, dict) else new[""])
