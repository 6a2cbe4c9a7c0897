"""The next digit of ``digit_stream`` as a class, a picture, a sound or a word, and what is known.

For each target there is the task of the card, the label of an example, and what preparation states:
the judge that reads generated pictures and sounds, and reference values on the test part.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mmfuse.data import audio, avmnist, avmnist_recipe, avmnist_sources, digit_chain
from mmfuse.data.helpdesk_factors import MODALITIES, bayes_accuracy
from mmfuse.data.judge import fit_judge
from mmfuse.data.references import reference
from mmfuse.data.words import END, Words

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SAMPLES, N_FFT, HOP, BANDS = 6400, 512, 256, 32  # 0.8 s at 8 kHz; 2 % of the clips are longer
FRAMES = audio.frame_count(SAMPLES, N_FFT, HOP)
LETTERS = Words.of(sorted(set("".join(NAMES))), max(map(len, NAMES)) + 1)
VOICE = "george"  # who says the next digit: the mean of one voice is clearer than that of six
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
    voiced: np.ndarray  # the same of the clips of ``VOICE``, and -1 of the others


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
        voiced = np.where([clip.speaker == VOICE for clip in pool], spoken, -1)
        found[split] = Material(pictures, labels.astype(int), _frames(pool), spoken, voiced)
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
    return [reference(name, metric, value) for metric, value in values.items()]


def _class(
    materials: Mapping[str, Material], test: Drawn, table: np.ndarray, folder: Path
) -> Facts:
    return {"references": _pairs(table, "accuracy")}


def _image(
    materials: Mapping[str, Material], test: Drawn, table: np.ndarray, folder: Path
) -> Facts:
    clean = {s: (m.pictures / np.float32(255), m.written) for s, m in materials.items()}
    means = _means(*clean["train"])

    def nll(mean: np.ndarray, true: np.ndarray) -> float:
        p = mean.clip(TINY, 1 - TINY)
        each = -(true * np.log(p) + (1 - true) * np.log(1 - p))
        return float(each.sum(axis=(1, 2)).mean())

    return _generated("image", clean, means, nll, test, table, folder)


def _sound(
    materials: Mapping[str, Material], test: Drawn, table: np.ndarray, folder: Path
) -> Facts:
    frames = materials["train"].frames
    scale = {"mean": float(frames.mean()), "std": float(frames.std())}
    clean = {s: (scaled(m.frames, scale), m.spoken) for s, m in materials.items()}
    means = _means(clean["train"][0], materials["train"].voiced)

    def nll(mean: np.ndarray, true: np.ndarray) -> float:
        return float(np.log(2 * np.pi * np.e * np.square(mean - true).mean()) / 2)

    how = {"sample_rate": avmnist_sources.SAMPLE_RATE, "n_fft": N_FFT, "hop": HOP}
    return {"sound": scale | how} | _generated("sound", clean, means, nll, test, table, folder)


def _word(materials: Mapping[str, Material], test: Drawn, table: np.ndarray, folder: Path) -> Facts:
    following = test.digits[1:]
    chance = digit_chain.posterior(table, test.shown)[np.arange(len(following)), following]
    letters = sum(len(NAMES[digit]) + 1 for digit in following)
    each = -float(np.log(chance).sum()) / letters
    known = line("Bayes posterior of the next word", perplexity=float(np.exp(each)))
    return {"references": known + _pairs(table, "exact")}


STATED = {"class": _class, "image": _image, "sound": _sound, "word": _word}


def _generated(
    target: str,
    clean: Mapping[str, tuple[np.ndarray, np.ndarray]],
    means: np.ndarray,
    nll: Callable[[np.ndarray, np.ndarray], float],
    test: Drawn,
    table: np.ndarray,
    folder: Path,
) -> Facts:
    """The judge, put beside the dataset's files, and the references of a generated target.

    ``clean`` has the clean examples of each split and their digits, ``means`` the mean of each
    digit over what may be asked for in training; ``nll`` is that of the loss.

    No output has a smaller expected loss than the mean of what comes next given what is shown,
    ``sum_d P(next = d | shown) mean_d``.
    """
    x, digits = clean["train"]
    judge = fit_judge(x[:JUDGED], digits[:JUDGED], **JUDGES[target])
    accuracy = judge.accuracy(*clean["test"])
    weights = digit_chain.posterior(table, test.shown).astype(np.float32)
    made, true = np.einsum("nd,d...->n...", weights, means), clean["test"][0][test.target]
    known = {
        "nll": nll(made, true),
        "rmse": float(np.sqrt(np.square(made - true).mean())),
        "recognised": judge.accuracy(made, test.digits[1:]),
    }
    return {
        "judge": judge.save(folder) | {"accuracy": accuracy},
        "references": line("Judge on clean test examples", recognised=accuracy)
        + line("Mean of the next example given the shown digits", **known)
        + _pairs(table, "recognised"),
    }


def _means(clean: np.ndarray, digits: np.ndarray) -> np.ndarray:
    """The mean example of each digit, [10, ...]."""
    return np.stack([clean[digits == digit].mean(axis=0) for digit in range(digit_chain.DIGITS)])
