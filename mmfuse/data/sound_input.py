"""Sound, as arrays or encoded files, to standardised log-mel or MFCC frames."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from mmfuse.data import audio, safe
from mmfuse.data.stepwise import LEARNED, Stage, Stepwise, check_number, each, standardised
from mmfuse.errors import InputError, RowError


class Clip(NamedTuple):
    """One waveform: float32 [S] in [-1, 1], and its samples per second."""

    samples: np.ndarray
    rate: int


@dataclasses.dataclass(frozen=True)
class LogMel(Stepwise):
    """Waveforms to standardised log-mel frames float32 [N, T, n_mels].

    A waveform is int16 (divided by 32768) or float [S], or the bytes of a WAV, FLAC or OGG file
    (its channels averaged); an empty one is absent. The steps, in this order, each off at 0:

    Attributes:
      source_rate: samples per second of arrays; 0 = sample_rate. Files say theirs.
      sample_rate: everything is resampled to it (polyphase) where it differs.
      band: (low, high) in Hz, zero-phase Butterworth band-pass; () = off.
      noise: the share of the clip's frames, the quietest, that are taken for noise by a spectral
        gate, e.g. 0.1.
      trim: cuts both ends that stay this many decibels below the loudest 20 ms.
      seconds: cuts the tail or pads with silence; at 0 all clips must have one length, and none
        may be absent.
      n_fft, hop: window and step of the frames, in samples.
      n_mels: mel bands.

    The mask marks the frames that begin before the clip ends; statistics are per band, over those
    of the training clips, and the other frames are zeros.
    """

    sample_rate: int = 8000
    n_fft: int = 400
    hop: int = 400
    n_mels: int = 32
    source_rate: int = 0
    band: Sequence[float] = ()
    noise: float = 0.0
    trim: float = 0.0
    seconds: float = 0.0
    mean: tuple[float, ...] = dataclasses.field(default=(), metadata=LEARNED)
    std: tuple[float, ...] = dataclasses.field(default=(), metadata=LEARNED)

    def __post_init__(self):
        for name, low in (("sample_rate", 1), ("n_fft", 2), ("hop", 1), ("n_mels", 1)):
            check_number(f"sound: {name}", getattr(self, name), low)
        check_number("sound: source_rate", self.source_rate, 0)
        for name in ("noise", "trim", "seconds"):
            check_number(f"sound: {name}", getattr(self, name), 0, float)
        if not isinstance(self.band, (list, tuple)) or len(self.band) not in (0, 2):
            raise InputError(f"sound: band must be (low, high) in Hz, or (), got {self.band!r}")
        if self.band:
            for edge in self.band:
                check_number("sound: band", edge, 0, float)
            audio.check_band(self.sample_rate, *self.band)
        if self.noise >= 1:
            raise InputError(f"sound: noise is a share of the frames below 1, got {self.noise:g}")

    def stages(self) -> Iterable[tuple[str, Stage]]:
        """Decode, clean, bring to one length, frames, standardise."""
        yield "decode", each(lambda raw: _decode(raw, self.source_rate or self.sample_rate))
        yield "resample", each(self._resample)
        if self.band:
            yield (
                "band-pass",
                _on_samples(lambda x: audio.band_pass(x[None], self.sample_rate, *self.band)[0]),
            )
        if self.noise:
            yield "reduce noise", _on_samples(lambda x: audio.reduce_own_noise(x, self.noise))
        if self.trim:
            yield "trim", _on_samples(lambda x: audio.trim(x, self.sample_rate, self.trim))
        yield "length", self._to_length
        yield "log-mel", self._log_mel
        yield "standardise", self._standardise

    def _resample(self, clip: Clip) -> Clip:
        if clip.rate == self.sample_rate:
            return clip
        samples = audio.resample(clip.samples[None], clip.rate, self.sample_rate)[0]
        return Clip(samples, self.sample_rate)

    def _to_length(self, values: Sequence, mask: np.ndarray) -> tuple[list[Clip], np.ndarray]:
        """Clips of S samples each, and which samples are sound: bool [N, S]."""
        here = mask[:, 0]
        sizes = np.array(
            [len(clip.samples) if h else 0 for clip, h in zip(values, here, strict=True)]
        )
        size = round(self.seconds * self.sample_rate) or int(sizes.max())
        if not self.seconds and (sizes != max(size, 1)).any():
            row = int(np.argmin(sizes))
            raise RowError(
                row, f"sound of {sizes[row]} samples, in others {size}: set seconds for one length"
            )
        out, real = [], np.arange(size)[None] < np.minimum(sizes, size)[:, None]
        for clip, length in zip(values, sizes, strict=True):
            if length == size:
                out.append(clip)
            else:
                samples = clip.samples[:size] if length else np.zeros(0, np.float32)
                samples = np.pad(samples, (0, size - len(samples)))
                out.append(Clip(samples, self.sample_rate))
        return out, real

    def _log_mel(self, clips: Sequence[Clip], mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        waves = np.stack([clip.samples for clip in clips])
        frames = audio.log_mel(waves, self.sample_rate, self.n_fft, self.hop, self.n_mels)
        return frames, mask[:, :: self.hop][:, : frames.shape[1]]

    def _standardise(self, x: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return standardised(x, mask, self.mean, self.std), mask

    def fit(self, raw: Sequence) -> LogMel:
        """Takes the mean and standard deviation of each band from the training clips' frames."""
        frames, mask = self.before("standardise", raw)
        real = frames[mask]
        mean, std = real.mean(axis=0), real.std(axis=0)
        return dataclasses.replace(self, mean=tuple(map(float, mean)), std=tuple(map(float, std)))

    def state(self) -> dict:
        """Band statistics of the training clips."""
        return {"mean": self.mean, "std": self.std}


@dataclasses.dataclass(frozen=True)
class Mfcc(LogMel):
    """Waveforms to standardised cepstral coefficients float32 [N, T, n_mfcc].

    The steps of ``log_mel``, then the first ``n_mfcc`` terms of the orthonormal DCT-II over the
    bands of each frame (Davis and Mermelstein 1980).
    """

    n_mfcc: int = 13

    def __post_init__(self):
        super().__post_init__()
        check_number("sound: n_mfcc", self.n_mfcc, 1)
        if self.n_mfcc > self.n_mels:
            raise InputError(f"sound: n_mfcc {self.n_mfcc} must be at most n_mels {self.n_mels}")

    def stages(self) -> Iterable[tuple[str, Stage]]:
        """Those of ``log_mel``, with the cepstrum before the standardising."""
        *first, last = super().stages()
        yield from first
        yield "MFCC", lambda frames, mask: (audio.cepstrum(frames, self.n_mfcc), mask)
        yield last


def _on_samples(function: Callable[[np.ndarray], np.ndarray]) -> Stage:
    return each(lambda clip: Clip(function(clip.samples), clip.rate))


def _decode(raw: np.ndarray | bytes, rate: int) -> Clip:
    if isinstance(raw, bytes):
        rate, samples = safe.read_sound(raw, name="sound")
        return Clip(samples, rate)
    if raw.ndim != 1 or not (raw.dtype == np.int16 or np.issubdtype(raw.dtype, np.floating)):
        raise InputError(f"sound: expected int16 or float [S], got {raw.dtype} {list(raw.shape)}")
    if not np.isfinite(raw).all():
        raise InputError("sound: NaN or Inf among the samples")
    scale = 2**15 if raw.dtype == np.int16 else 1
    return Clip(raw.astype(np.float32) / scale, rate)
