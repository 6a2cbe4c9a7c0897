"""The packed file of ``maec``: calls, their sentences and the voice in each; the voice scaled."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmfuse.data import safe
from mmfuse.errors import InputError

FEATURES = 29
SPLITS = ("train", "valid", "test")
LOWEST, HIGHEST = "Minimum intensity", "Maximum intensity"
SILENCE = -300.0  # dB; what Praat says of digital silence
CLIP = 5.0  # standard deviations


@dataclasses.dataclass(frozen=True)
class Call:
    """One conference call: ``voice`` float64 [n, 29], and ``defined``, bool, which of it is."""

    name: str
    split: str
    sentences: Sequence[str]
    voice: np.ndarray
    defined: np.ndarray


def read(path: Path) -> tuple[list[Call], list[str]]:
    """Reads the calls and the names of the features.

    Lowest and highest intensity are put in their order, which most calls have the other way round;
    an intensity of silence is no measurement, and counts as undefined.

    Raises:
      InputError: an array is missing, the parts do not fit together, or a value is no number.
    """
    arrays = safe.read_npz(path)
    wanted = ("call", "split", "n_sentences", "audio_feat", "audio_defined", "audio_name")
    part = {name: safe.pick(arrays, name, str(path)) for name in wanted}
    part |= {n: safe.pick(arrays, n, str(path)) for n in ("sentence_utf8", "sentence_offset")}
    _check(part, path)
    names, sentences = part["audio_name"].tolist(), _sentences(part, path)
    voice = part["audio_feat"].astype(np.float64)
    defined = np.unpackbits(part["audio_defined"], axis=1)[:, :FEATURES].astype(bool)
    ends = [names.index(LOWEST), names.index(HIGHEST)]
    voice[:, ends] = np.sort(voice[:, ends], axis=1)
    defined[:, ends] &= voice[:, ends] != SILENCE
    calls, start = [], 0
    for name, split, n in zip(part["call"], part["split"], part["n_sentences"], strict=True):
        own = slice(start, start := start + int(n))
        calls.append(Call(str(name), str(split), sentences[own], voice[own], defined[own]))
    return calls, names


def _check(part: dict[str, np.ndarray], path: Path) -> None:
    """Refuses parts of other shapes, splits without a name, and numbers that are none."""
    safe.check_rows(str(path), {"calls": {n: part[n] for n in ("call", "split", "n_sentences")}})
    rows, name = int(part["n_sentences"].sum()), part["audio_name"].tolist()
    expected = {
        "audio_feat": (rows, FEATURES),
        "audio_defined": (rows, -(-FEATURES // 8)),
        "audio_name": (FEATURES,),
        "sentence_offset": (rows + 1,),
    }
    for key, shape in expected.items():
        if part[key].shape != shape:
            raise InputError(f"{path}: '{key}' has shape {part[key].shape}, expected {shape}")
    for key in (LOWEST, HIGHEST):
        safe.pick(dict.fromkeys(name), key, f"{path}: audio_name")
    unknown = sorted(set(part["split"].tolist()) - set(SPLITS))
    if unknown:
        raise InputError(f"{path}: split {unknown[0]!r}; allowed: {', '.join(SPLITS)}")
    if (part["n_sentences"] < 1).any():
        raise InputError(f"{path}: a call of {int(part['n_sentences'].min())} sentences")
    if not np.isfinite(part["audio_feat"]).all():
        row = int(np.argmin(np.isfinite(part["audio_feat"]).all(axis=1)))
        raise InputError(f"{path}: NaN or Inf in row {row} of 'audio_feat'")


def _sentences(part: dict[str, np.ndarray], path: Path) -> list[str]:
    """Sentence k is bytes offset[k] to offset[k + 1] of the text."""
    data, ends = part["sentence_utf8"].tobytes(), part["sentence_offset"].tolist()
    if ends[0] != 0 or ends[-1] != len(data) or sorted(ends) != ends:
        raise InputError(f"{path}: 'sentence_offset' must rise from 0 to {len(data)}, the bytes")
    found = []
    for number, (start, end) in enumerate(itertools.pairwise(ends)):
        try:
            found.append(data[start:end].decode("utf-8"))
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: sentence {number} is not UTF-8 ({error.reason})") from error
    return found


@dataclasses.dataclass(frozen=True)
class Scale:
    """Mean and standard deviation [29] of the defined training values."""

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def fit(cls, calls: Sequence[Call]) -> Scale:
        """Takes them from the calls of the training split, all sentences alike."""
        train = [call for call in calls if call.split == "train"]
        if not train:
            raise InputError("maec: no training call, so nothing to standardise with")
        voice, defined = (
            np.concatenate([getattr(call, part) for call in train]) for part in ("voice", "defined")
        )
        n = np.maximum(defined.sum(0), 1)
        mean = np.where(defined, voice, 0).sum(0) / n
        std = np.sqrt(np.where(defined, np.square(voice - mean[None]), 0).sum(0) / n)
        return cls(mean, np.where(std > 0, std, 1))

    def __call__(self, call: Call) -> np.ndarray:
        """``clip((voice - mean) / std, -5, 5)`` float32 [n, 29]; 0 where it is undefined."""
        scaled = np.clip((call.voice - self.mean[None]) / self.std[None], -CLIP, CLIP)
        return np.where(call.defined, scaled, 0).astype(np.float32)
