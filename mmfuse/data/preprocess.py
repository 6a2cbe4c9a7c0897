"""From raw columns to model input: one small class per kind, fitted on training data only.

A preprocessor has plain fields, ``fit(raw) -> itself fitted`` and ``__call__(raw) -> (x, mask)``:
``x`` is the array the encoder reads and ``mask`` bool [N, T] says which steps are real (T = 1 for
pictures; a row of False means that the modality is absent). ``state()`` is what was learned from
the training split, as JSON, for the run's record.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from mmfuse.data import audio, image, text
from mmfuse.data.features import Features
from mmfuse.errors import InputError, nearest


def _strings(raw) -> list[str]:
    """TFDS gives bytes; invalid UTF-8 becomes U+FFFD, as everywhere in mmfuse."""
    return [r.decode("utf-8", errors="replace") if isinstance(r, bytes) else str(r) for r in raw]


@dataclasses.dataclass(frozen=True)
class Text:
    """Messages to token ids int32 [N, length] and their mask; 0 = padding, 1 = unknown word."""

    length: int = 16
    stop_words: bool = True
    min_count: int = 2
    max_size: int = 20000
    vocabulary: text.Vocabulary | None = None

    def _tokens(self, raw) -> list[list[str]]:
        words = text.STOP_WORDS if self.stop_words else ()
        return [text.tokenise(text.normalise(t), stop_words=words) for t in _strings(raw)]

    def fit(self, raw) -> Text:
        """Takes the vocabulary from the training messages."""
        vocabulary = text.Vocabulary.fit(
            self._tokens(raw), min_count=self.min_count, max_size=self.max_size
        )
        return dataclasses.replace(self, vocabulary=vocabulary)

    def __call__(self, raw) -> tuple[np.ndarray, np.ndarray]:
        return self.vocabulary.encode_batch(self._tokens(raw), self.length)

    def state(self) -> dict:
        """The vocabulary, in the order of its ids."""
        return {"vocabulary": list(self.vocabulary.words)}

    @property
    def vocab_size(self) -> int:
        """Number of ids, padding and unknown included."""
        return len(self.vocabulary)


@dataclasses.dataclass(frozen=True)
class Picture:
    """uint8 pictures to float32 [N, H, W, C], standardised per channel with training statistics.

    ``size`` > 0 resizes to ``size`` x ``size`` first.
    """

    size: int = 0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def _floats(self, raw) -> np.ndarray:
        pixels = image.to_float(np.stack(raw))
        return image.resize(pixels, (self.size, self.size)) if self.size else pixels

    def fit(self, raw) -> Picture:
        """Takes the mean and standard deviation of each channel from the training pictures."""
        mean, std = image.channel_statistics(self._floats(raw))
        return dataclasses.replace(self, mean=tuple(map(float, mean)), std=tuple(map(float, std)))

    def __call__(self, raw) -> tuple[np.ndarray, np.ndarray]:
        x = image.standardise(self._floats(raw), np.array(self.mean), np.array(self.std))
        return x.astype(np.float32), np.ones((len(raw), 1), bool)

    def state(self) -> dict:
        """Channel statistics of the training pictures."""
        return {"mean": self.mean, "std": self.std}


@dataclasses.dataclass(frozen=True)
class LogMel:
    """int16 waveforms to standardised log-mel frames float32 [N, T, n_mels].

    ``n_fft`` and ``hop`` are in samples; statistics are per mel band, over training frames.
    """

    sample_rate: int = 8000
    n_fft: int = 400
    hop: int = 400
    n_mels: int = 32
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def _frames(self, raw) -> np.ndarray:
        waves = np.stack(raw).astype(np.float32) / 2**15
        return audio.log_mel(waves, self.sample_rate, self.n_fft, self.hop, self.n_mels)

    def fit(self, raw) -> LogMel:
        """Takes the mean and standard deviation of each mel band from the training waveforms."""
        frames = self._frames(raw)
        mean, std = frames.mean((0, 1)), frames.std((0, 1))
        return dataclasses.replace(self, mean=tuple(map(float, mean)), std=tuple(map(float, std)))

    def __call__(self, raw) -> tuple[np.ndarray, np.ndarray]:
        x = _standardise(self._frames(raw), self.mean, self.std)
        return x, np.ones(x.shape[:2], bool)

    def state(self) -> dict:
        """Band statistics of the training waveforms."""
        return {"mean": self.mean, "std": self.std}


@dataclasses.dataclass(frozen=True)
class Array:
    """Ready arrays (spectrograms, features) [N, ...] to float32, standardised as a whole.

    Arrays with a time axis ([N, T, F] or [N, T, F, 1]) keep it; [N, F] becomes one step.
    """

    mean: float = 0.0
    std: float = 1.0

    def fit(self, raw) -> Array:
        """Takes one mean and one standard deviation from the training arrays."""
        values = np.stack(raw)
        mean, std = values.mean(dtype=np.float64), values.std(dtype=np.float64)
        return dataclasses.replace(self, mean=float(mean), std=float(std))

    def __call__(self, raw) -> tuple[np.ndarray, np.ndarray]:
        x = _standardise(np.stack(raw), self.mean, self.std)
        return x, np.ones((len(x), x.shape[1] if x.ndim > 2 else 1), bool)

    def state(self) -> dict:
        """Statistics of the training arrays."""
        return {"mean": self.mean, "std": self.std}


def _standardise(x: np.ndarray, mean, std) -> np.ndarray:
    """(x - mean) / std in float32; a constant column has std 0 and is only centred."""
    std = np.asarray(std, np.float32)
    return ((x - np.asarray(mean, np.float32)) / np.where(std > 0, std, 1)).astype(np.float32)


PREPROCESSORS = {
    "text": Text,
    "picture": Picture,
    "log_mel": LogMel,
    "array": Array,
    "features": Features,
}


def build_preprocessor(name: str, **fields):
    """The preprocessor of that name; an unknown name or field is an InputError."""
    if name not in PREPROCESSORS:
        allowed = ", ".join(PREPROCESSORS)
        raise InputError(
            f"unknown preprocessor '{name}'; allowed: {allowed}{nearest(name, PREPROCESSORS)}"
        )
    kind = PREPROCESSORS[name]
    learned = ("vocabulary", "mean", "std", "learned")
    allowed = [f.name for f in dataclasses.fields(kind) if f.name not in learned]
    for field in fields:
        if field not in allowed:
            raise InputError(
                f"preprocessor '{name}' has no field '{field}'; allowed: {', '.join(allowed)}"
                f"{nearest(field, allowed)}"
            )
    return kind(**fields)
