"""A small manifest with every kind of file, and a signal in it, for the tests of own files."""

import csv
import json
import wave

import numpy as np
import soundfile
from PIL import Image

CLASSES = ("cat", "dog", "鸟")
COLUMNS = ("id", "split", "label", "note", "story", "photo", "voice", "pose", "motion")
WORDS = ("purr 😺", "ｗｏｏｆ", "叽叽喳喳")


def rows(count=200, seed=0):
    """Rows of cells by column; one in eight cells of a modality is empty, never all of a row."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        label = number % len(CLASSES)
        split = ("train", "train", "train", "valid", "test")[number // len(CLASSES) % 5]
        row = {"id": f"row{number}", "split": split, "label": CLASSES[label]}
        row["note"] = f"{WORDS[label]} word{rng.integers(20)}, the {number}th"
        row["story"] = f"story/{number}.txt"
        row["photo"] = f"photo/{number}.{('png', 'jpg', 'JPEG')[number % 4 // 2 + number % 2]}"
        row["voice"] = f"voice/{number}.{('wav', 'flac', 'ogg')[number % 3]}"
        row["pose"] = f"pose {number}.npy"
        row["motion"] = f"motion/{number}.npz"
        for name in np.array(COLUMNS[4:])[rng.random(5) < 1 / 8]:
            row[name] = ""
        found.append(row)
    return found


def fabricate(folder, count=200, seed=0):
    """Writes the files of ``rows`` and ``my.csv``; returns its path."""
    rng = np.random.default_rng([seed, 1])
    for name in ("story", "photo", "voice", "motion"):
        (folder / name).mkdir(parents=True)
    found = rows(count, seed)
    for row in found:
        label = CLASSES.index(row["label"])
        for name, cell in row.items():
            if cell and name in WRITERS:
                WRITERS[name](folder / cell, label, rng)
    return write_csv(folder / "my.csv", found)


def write_csv(path, found, encoding="utf-8"):
    """``found`` as a CSV with the columns of the first row; a row without one is ragged."""
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(found[0])
        writer.writerows([row[name] for name in found[0] if name in row] for row in found)
    return path


def write_jsonl(path, found):
    """``found`` as JSONL, empty cells as null or left out."""
    lines = []
    for number, row in enumerate(found):
        cells = {k: v or None for k, v in row.items() if v or number % 2}
        lines.append(json.dumps(cells, ensure_ascii=bool(number % 2)))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def story(path, label, rng):
    """A text of Windows, with a byte order mark, of 3..9 words."""
    words = [WORDS[label], path.stem, *(f"w{n}" for n in rng.integers(50, size=rng.integers(2, 9)))]
    path.write_bytes(b"\xef\xbb\xbf" + " ".join(words).encode())


def photo(path, label, rng):
    """A picture of 20..40 pixels a side in a colour of the class."""
    height, width = rng.integers(20, 41, size=2)
    pixels = rng.integers(0, 100, (height, width, 3), dtype=np.uint8)
    pixels[..., label] += 120
    Image.fromarray(pixels).save(path, format="PNG" if path.suffix == ".png" else "JPEG")


def voice(path, label, rng):
    """A tone of the class, 0.2..0.4 s long, at 8 or 16 kHz."""
    rate = int(rng.choice([8000, 16000]))
    time = np.arange(int(rate * rng.uniform(0.2, 0.4))) / rate
    wave_form = 0.5 * np.sin(2 * np.pi * (400 + 600 * label) * time)
    wave_form += 0.02 * rng.normal(size=time.size)
    if path.suffix == ".wav":
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, rate, 0, "NONE", ""))
            file.writeframes((wave_form * 2**15).astype("<i2").tobytes())
    else:
        soundfile.write(path, wave_form, rate)


def pose(path, label, rng):
    """A vector [4] of float64."""
    np.save(path, rng.normal(size=4) + 2 * np.eye(4)[label])


def motion(path, label, rng):
    """A sequence [2..7, 3] of float32."""
    steps = rng.normal(size=(rng.integers(2, 8), 3)) + 2 * np.eye(3)[label]
    np.savez(path, steps=steps.astype(np.float32))


WRITERS = {"story": story, "photo": photo, "voice": voice, "pose": pose, "motion": motion}
