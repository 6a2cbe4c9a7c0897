"""The next digit of ``digit_stream`` as a class, a picture, a sound or a word, and what is known.

For each target there is the task of the card, the label of an example, and what preparation states:
the judge that reads generated pictures and sounds, and reference values on the test part.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mmfuse.data import audio, avmnist, avmnist_recipe, avmnist_sources, digit_chain
from mmfuse.data.helpdesk_factors import MODALITIES, bayes_accuracy
from mmfuse.data.judge import Judge, fit_judge
from mmfuse.data.onecommon_turns import END, STOP, Words
from mmfuse.data.text import Vocabulary

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SAMPLES, N_FFT, HOP, BANDS = 6400, 512, 256, 32  # 0.8 s at 8 kHz; 2 % of the clips are longer
FRAMES = audio.frame_count(SAMPLES, N_FFT, HOP)
LETTERS = Words(Vocabulary((STOP, *sorted(set("".join(NAMES))))), max(map(len, NAMES)) + 1)
TINY = 1e-6  # the least probability of a pixel
JUDGED = 20_000  # training pictures that the judge is fitted on, at most
JUDGES = {
    "image": {"features": 1500, "ridge": 1e-3, "blends": 10_000, "seed": 0},
    "sound": {"features": 1000, "ridge": 1e-1, "blends": 2_400, "seed": 0},
}
TASKS = {
    "class": {"task": "classification", "classes": digit_chain.DIGITS},
    "image": {"task": "picture", "shape": [28, 28, 1], "optima_of": "recognised"},
    "sound": {"task": "sound", "shape": [FRAMES, BANDS], "optima_of": "recognised"},
    "word": {
        "task": "words",
        "vocabulary": len(LETTERS),
        "end": END,
        "word": list(LETTERS.vocabulary.words),
        "optima_of": "exact",
    },
}
Facts = dict[str, Any]


class Drawn(Protocol):
    """What is read here of the draws of a split."""

    digits: np.ndarray
    shown: Mapping[str, np.ndarray]
    target: np.ndarray


@dataclasses.dataclass(frozen=True)
class Material:
    """The clean pictures and clips of one split."""

    pictures: np.ndarray  # uint8 [P, 28, 28]
    written: np.ndarray  # their digits
    frames: np.ndarray  # float32 [C, FRAMES, BANDS], log-mel
    spoken: np.ndarray  # their digits


def load(paths: Mapping[str, Path]) -> dict[str, Material]:
    """``{split: material}``: pictures and clips are split as in ``avmnist``, protocol "index"."""
    digits, clips = avmnist_sources.load_digits(paths), avmnist_sources.load_clips(paths["fsdd"])
    last = avmnist.TRAIN_IMAGES
    written = {
        "train": [x[:last] for x in digits["train"]],
        "valid": [x[last:] for x in digits["train"]],
        "test": digits["test"],
    }
    found = {}
    for split, (pictures, labels) in written.items():
        pool = avmnist_recipe.clip_pool(clips, "index", split)
        spoken = np.array([clip.digit for clip in pool])
        found[split] = Material(pictures, labels.astype(int), _frames(pool), spoken)
    return found


def _frames(clips: list[avmnist_sources.Clip]) -> np.ndarray:
    """Log-mel frames of the clips, cut or filled with silence to 0.8 s."""
    waves = np.zeros((len(clips), SAMPLES), np.float32)
    for wave, clip in zip(waves, clips, strict=True):
        samples = clip.samples[:SAMPLES]
        wave[: len(samples)] = samples
    return audio.log_mel(waves, avmnist_sources.SAMPLE_RATE, N_FFT, HOP, BANDS)


def scaled(frames: np.ndarray, scale: Mapping[str, float]) -> np.ndarray:
    """Frames in the unit of the labels."""
    return ((frames - scale["mean"]) / scale["std"]).astype(np.float32)


LABELS = {  # target: (digit, material, place, scale) -> the columns of the label
    "class": lambda digit, material, place, scale: {"label": digit},
    "image": lambda digit, material, place, scale: {"label": material.pictures[place, ..., None]},
    "sound": lambda digit, material, place, scale: {
        "label": scaled(material.frames[place], scale),
        "label_mask": np.ones(FRAMES, np.uint8),
    },
    "word": lambda digit, material, place, scale: {"label": LETTERS(" ".join(NAMES[digit]))},
}


def _pairs(table: np.ndarray, metric: str) -> list[Facts]:
    return [
        line(f"Bayes optimum ({'+'.join(pair)})", **{metric: bayes_accuracy(table, pair)})[0]
        for pair in combinations(MODALITIES, 2)
    ]


def line(name: str, **values: float) -> list[Facts]:
    """A line of references, an entry for each metric."""
    return [{"name": name, "metric": metric, "value": value} for metric, value in values.items()]


def _class(material: Mapping[str, Material], test: Drawn, table: np.ndarray, folder: Path) -> Facts:
    return {"references": _pairs(table, "accuracy")}


def _image(material: Mapping[str, Material], test: Drawn, table: np.ndarray, folder: Path) -> Facts:
    train, seen = material["train"], material["test"]
    judge = fit_judge(
        train.pictures[:JUDGED] / np.float32(255), train.written[:JUDGED], **JUDGES["image"]
    )
    made = _expected(train.pictures / np.float32(255), train.written, test, table)
    true = seen.pictures[test.target] / np.float32(255)
    p = made.clip(TINY, 1 - TINY)
    nll = -(true * np.log(p) + (1 - true) * np.log(1 - p)).sum(axis=(1, 2)).mean()
    rmse = float(np.sqrt(np.square(made - true).mean()))
    known = {"nll": float(nll), "rmse": rmse, "recognised": judge.accuracy(made, test.digits[1:])}
    return _judged(judge, seen.pictures / np.float32(255), seen.written, folder, known, table)


def _sound(material: Mapping[str, Material], test: Drawn, table: np.ndarray, folder: Path) -> Facts:
    train, seen = material["train"], material["test"]
    scale = {"mean": float(train.frames.mean()), "std": float(train.frames.std())}
    sound = scale | {"sample_rate": avmnist_sources.SAMPLE_RATE, "n_fft": N_FFT, "hop": HOP}
    judge = fit_judge(scaled(train.frames, scale), train.spoken, **JUDGES["sound"])
    made = _expected(scaled(train.frames, scale), train.spoken, test, table)
    mse = float(np.square(made - scaled(seen.frames[test.target], scale)).mean())
    known = {
        "rmse": mse**0.5,
        "nll": float(np.log(2 * np.pi * np.e * mse) / 2),
        "recognised": judge.accuracy(made, test.digits[1:]),
    }
    clean = scaled(seen.frames, scale)
    return {"sound": sound} | _judged(judge, clean, seen.spoken, folder, known, table)


def _word(material: Mapping[str, Material], test: Drawn, table: np.ndarray, folder: Path) -> Facts:
    following = test.digits[1:]
    chance = digit_chain.posterior(table, test.shown)[np.arange(len(following)), following]
    letters = sum(len(NAMES[digit]) + 1 for digit in following)
    each = -float(np.log(chance).sum()) / letters
    known = line("Bayes posterior of the next word", perplexity=float(np.exp(each)))
    return {"references": known + _pairs(table, "exact")}


STATED = {"class": _class, "image": _image, "sound": _sound, "word": _word}


def _expected(clean: np.ndarray, digits: np.ndarray, test: Drawn, table: np.ndarray) -> np.ndarray:
    """The mean of what comes next given what is shown: no output has a smaller expected loss.

    That is ``sum_d P(next = d | shown) mean_d``, with the means of the training examples.
    """
    means = np.stack([clean[digits == digit].mean(axis=0) for digit in range(digit_chain.DIGITS)])
    weights = digit_chain.posterior(table, test.shown).astype(np.float32)
    return np.tensordot(weights, means, axes=1)


def _judged(
    judge: Judge,
    clean: np.ndarray,
    digits: np.ndarray,
    folder: Path,
    known: Mapping[str, float],
    table: np.ndarray,
) -> Facts:
    """The judge, beside the dataset's files, and the references of a generated target."""
    accuracy = judge.accuracy(clean, digits)
    return {
        "judge": judge.save(folder) | {"accuracy": accuracy},
        "references": line("Judge on clean test examples", recognised=accuracy)
        + line("Mean of the next example given the shown digits", **known)
        + _pairs(table, "recognised"),
    }
