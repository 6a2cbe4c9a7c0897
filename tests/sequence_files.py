"""Tiny raw folders in the upstream formats of MOSI, ICT-MMMO, YouTube and MUStARD."""

import csv
import json
from pathlib import Path

import h5py
import numpy as np

from mmfuse.data import ict_mmmo, mosi_sources, mustard, youtube
from tests.avmnist_files import trusted_file

MFN_SIZES = {"train": 48, "valid": 10, "test": 8}
LINES = 75


def _write_csv(path: Path, rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def mosi_utterances() -> list[dict]:
    """Utterances by id, as upstream sorts them: 12 training videos of 5, 6 test videos of 4.

    The first training video has 11, so that ``_10`` comes before ``_2``.
    """
    rng, made = np.random.default_rng(0), []
    for number in range(18):
        split = "train" if number % 3 else "test"
        count = 11 if number == 1 else 5 if split == "train" else 4
        for index in range(1, count + 1):
            score = float(rng.choice([-2.4, -0.6, 0.0, 1.2, 3.0]))
            made.append(
                {
                    "id": f"v{number:02d}_{index}",
                    "video": number,
                    "split": split,
                    "score": score,
                    "words": f"UM, UTTERANCE {index} OF VIDEO {number} WAS {score}",
                    "official": ("train", "train", "dev", "test")[number % 4],
                    "text": rng.normal(size=100),
                    "audio": rng.normal(40, 9, 73),
                    "video_features": np.append(rng.normal(size=99), 0),
                }
            )
    return sorted(made, key=lambda u: u["id"])


def fabricate_mosi(root: Path) -> None:
    spoken = mosi_utterances()
    positive = [int(u["score"] >= 0) for u in spoken]
    transcripts = [
        [u["id"], u["words"], u["video"], y] for u, y in zip(spoken, positive, strict=True)
    ]
    _write_csv(root / "mosi/data/transcripts.csv", transcripts)
    labels = [[u["id"], u["words"].lower(), u["score"], u["official"]] for u in spoken]
    _write_csv(root / "mosi/label.csv", [["id", "text", "label", "mode"], *labels])
    for split in ("train", "test"):
        places = [i for i, u in enumerate(spoken) if u["split"] == split]
        tables = {
            f"data/text_{split}": [[i, *spoken[i]["text"]] for i in places],
            f"data/audio/audio_{split}0": [[*spoken[i]["audio"], positive[i]] for i in places],
            f"data/video/video_{split}0": [
                [*spoken[i]["video_features"], positive[i]] for i in places
            ],
        }
        for name, rows in tables.items():
            _write_csv(root / f"mosi/{name}.csv", rows)


def _sequences(rng, n: int, width: int) -> np.ndarray:
    frames = rng.normal(5, 2, (n, 20, width))
    frames[rng.random((n, 20)) < 0.3] = 0
    frames[0] = 0
    return frames


def fabricate_mfn(root: Path) -> None:
    rng, packed = np.random.default_rng(1), {}
    (root / "ict_mmmo_mfn").mkdir(parents=True)
    (root / "youtube_mfn").mkdir()
    for split, n in MFN_SIZES.items():
        columns = {"audio": _sequences(rng, n, 74), "video": _sequences(rng, n, 36)}
        columns["audio"][1, 3, 7] = -255
        columns["y"] = rng.choice([1, 2.5, 3, 3.5, 5], n)
        for name, values in columns.items():
            with h5py.File(root / f"ict_mmmo_mfn/{name}_{split}.h5", "w") as file:
                file["d1"] = values
        words = {} if split == "train" else {f"{split}_text": _sequences(rng, n, 300)}
        arrays = {f"{split}_{m}": columns[m] for m in ("audio", "video")} | words
        onehot = {f"{split}_y": np.eye(3)[rng.integers(3, size=n)]}
        packed |= {name: rows.astype(np.float32) for name, rows in (arrays | onehot).items()}
    np.savez(root / "ict_mmmo_mfn/ict_mmmo_mfn.npz", **packed)
    np.savez(root / "youtube_mfn/youtube_mfn.npz", **packed)


def fabricate_mustard(root: Path) -> None:
    lines = {
        f"1_{60 + i}": {
            "utterance": f"Oh, great, number {i % 7}.",
            "speaker": ("ANN", "BOB", "CAT")[i % 3],
            "context": ["How was it?", f"It was {i % 5}."][: 1 + i % 2],
            "context_speakers": ["BOB", "ANN"][: 1 + i % 2],
            "show": "NONE",
            "sarcasm": bool(i % 2),
        }
        for i in range(LINES)
    }
    folds = [[[i for i in range(LINES) if i % 5 != f], list(range(f, LINES, 5))] for f in range(5)]
    (root / "mustard").mkdir(parents=True)
    (root / "mustard/sarcasm_data.json").write_text(json.dumps(lines))
    (root / "mustard/split_indices.json").write_text(json.dumps(folds))


def fabricate(root: Path) -> Path:
    """Writes the folder and returns it."""
    for write in (fabricate_mosi, fabricate_mfn, fabricate_mustard):
        write(root)
    return root


def trust(root: Path, monkeypatch) -> None:
    """Makes the builders expect the sizes and hashes of the files in ``root``."""
    for module, names in (
        (mosi_sources, ("LABELS", "TRANSCRIPTS", "TEXT", "AUDIO", "VIDEO")),
        (ict_mmmo, ("H5", "TEXT")),
        (youtube, ("PACKED",)),
        (mustard, ("LINES", "FOLD_LISTS")),
    ):
        for name in names:
            old = getattr(module, name)
            if isinstance(old, dict):
                new = {key: trusted_file(root, file) for key, file in old.items()}
            else:
                new = trusted_file(root, old)
            monkeypatch.setattr(module, name, new)
