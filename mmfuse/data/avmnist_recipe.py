"""How one AV-MNIST example is made: which image, which spoken digit, which noise, how they look.

Every random choice comes from a stream of its own, keyed by (seed, split, purpose), and draw n of a
stream is the same however many follow: a smaller dataset is the start of the larger one.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from mmfuse.data import audio, image
from mmfuse.data.avmnist_sources import Clip
from mmfuse.errors import InputError

SPLITS = ("train", "valid", "test")
SAMPLES = 7993  # 0.9991 s at 8 kHz: exactly 112 frames
NOISE_FOLDS = {"train": (1, 2, 3), "valid": (4,), "test": (5,)}
RECORDINGS = {"train": range(10, 50), "valid": range(5, 10), "test": range(5)}
SPEAKERS = {
    "train": ("george", "jackson", "lucas", "nicolas"),
    "valid": ("theo",),
    "test": ("yweweler",),
}
ORDER, PAIRING, NOISE = range(3)  # what a random stream is for


@dataclasses.dataclass(frozen=True)
class Plan:
    """The draws of one split, N examples."""

    order: np.ndarray  # int [N], the image of each, counted inside its MNIST file
    labels: np.ndarray  # int64 [N]
    clips: list[Clip]  # the spoken digit of each
    pieces: np.ndarray  # int16 [P, S], the split's noise
    piece: np.ndarray  # int [N], the row of ``pieces``
    offset: np.ndarray  # int [N], and where it starts


def plan_split(
    split: str,
    images: range,
    labels: np.ndarray,
    *,
    pool: list[Clip],
    noise: tuple[np.ndarray, np.ndarray],
    size: int,
    seed: int,
) -> Plan:
    """Draws order, spoken digits and noise of ``split``.

    Args:
      split: "train", "valid" or "test".
      images: the places of its images in their MNIST file.
      labels: of all images of that file.
      pool: the clips it may use (`clip_pool`).
      noise: all pieces int16 [P, S] and their folds [P].
      size: examples wanted, the first of the seeded order.
      seed: of the dataset.
    """
    number = SPLITS.index(split)
    order = np.random.default_rng((seed, number, ORDER)).permutation(images)[:size]
    labels = labels[order].astype(np.int64)
    chosen = pair(labels, pool, np.random.default_rng((seed, number, PAIRING)))
    clips = [pool[i] for i in chosen]
    pieces = noise[0][np.isin(noise[1], NOISE_FOLDS[split])]
    lengths = np.array([min(len(clip.samples), SAMPLES) for clip in clips])
    places = place_noise(pieces, lengths, (seed, number, NOISE))
    return Plan(order, labels, clips, pieces, *places)


def clip_pool(clips: list[Clip], protocol: str, split: str) -> list[Clip]:
    """Returns the spoken digits that ``split`` may draw from; pools of two splits are disjoint."""
    if protocol == "index":
        return [clip for clip in clips if clip.recording in RECORDINGS[split]]
    return [clip for clip in clips if clip.speaker in SPEAKERS[split]]


def pair(labels: np.ndarray, pool: list[Clip], rng: np.random.Generator) -> np.ndarray:
    """Returns for every label the place in ``pool`` of a random clip of that digit, int [N]."""
    return places(labels, np.array([clip.digit for clip in pool]), rng)


def places(labels: np.ndarray, digits: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns for every label [N] a random place in ``digits`` [P] that holds it, int [N]."""
    uniform = rng.random(len(labels))
    chosen = np.empty(len(labels), int)
    for digit in np.unique(labels):
        of_digit = np.flatnonzero(digits == digit)
        if not of_digit.size:
            raise InputError(f"a pool of {len(digits)} has none of digit {digit}")
        rows = labels == digit
        chosen[rows] = of_digit[(uniform[rows] * of_digit.size).astype(int)]
    return chosen


def place_noise(
    pieces: np.ndarray, lengths: np.ndarray, seed: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Draws a noise piece and an offset in it for every clip.

    Some recordings pause. Where the noise under a clip has a mean square below one quantisation
    step, no gain can give the ratio, and both are drawn again.

    Args:
      pieces: int16 [P, S].
      lengths: samples of the clip that the noise must be heard under, [N].
      seed: of the draws; draw n is the same for every larger N.

    Returns:
      piece [N] and offset [N]: noise n is ``pieces[piece, offset : offset + SAMPLES]``.
    """
    energy = np.cumsum(np.square(pieces, dtype=np.int64), axis=1)
    energy = np.pad(energy, ((0, 0), (1, 0)))
    piece, offset = np.zeros((2, len(lengths)), int)
    silent = np.ones(len(lengths), bool)
    for attempt in range(100):
        uniform = np.random.default_rng((*seed, attempt)).random((len(lengths), 2))[silent]
        piece[silent] = uniform[:, 0] * len(pieces)
        offset[silent] = uniform[:, 1] * (pieces.shape[1] - SAMPLES + 1)
        silent = energy[piece, offset + lengths] - energy[piece, offset] < lengths
        if not silent.any():
            return piece, offset
    raise InputError("avmnist: the noise recordings are silent; no signal-to-noise ratio fits")


def waveforms(plan: Plan, rows: slice, snr_db: float | None) -> np.ndarray:
    """Returns spoken digits at the start of a second of noise, float32 [N, SAMPLES].

    ``snr_db`` is the ratio over the clip (`audio.mix_at_snr`); None leaves silence after the clip.
    """
    speech = [clip.samples[:SAMPLES] for clip in plan.clips[rows]]
    waves = np.zeros((len(speech), SAMPLES), np.float32)
    for wave, samples in zip(waves, speech, strict=True):
        wave[: len(samples)] = samples
    if snr_db is None:
        return waves
    windows = np.lib.stride_tricks.sliding_window_view(plan.pieces, SAMPLES, axis=1)
    noise = windows[plan.piece[rows], plan.offset[rows]].astype(np.float32) / np.float32(32768)
    return audio.mix_at_snr(waves, noise, snr_db, np.array([len(samples) for samples in speech]))


def spectrogram(waves: np.ndarray, size: int) -> np.ndarray:
    """Returns the log spectrograms of ``waves``, float16 [N, size, size, 1], time first."""
    return audio.average_pool(audio.log_spectrogram(waves), size).astype(np.float16)[..., None]


def blur(images: np.ndarray, mean: np.ndarray, directions: np.ndarray, k: int) -> np.ndarray:
    """Returns uint8 [N, 28, 28] rebuilt from ``k`` components, clipped and rounded: [..., 1]."""
    rebuilt = image.keep_components(images.reshape(len(images), -1), mean, directions, k)
    return np.rint(np.clip(rebuilt, 0, 255)).astype(np.uint8).reshape(*images.shape, 1)


class Moments:
    """Running mean and standard deviation of scaled values, summed in float64."""

    def __init__(self, scale: float = 1.0):
        self.scale, self.count, self.sum, self.squares = scale, 0, 0.0, 0.0

    def add(self, values: np.ndarray) -> None:
        """Counts every element of ``values``."""
        values = values.astype(np.float64) * self.scale
        self.count += values.size
        self.sum += values.sum()
        self.squares += np.square(values).sum()

    def result(self) -> dict[str, float]:
        """{"mean", "std"}, the standard deviation with divisor N."""
        mean = self.sum / self.count
        return {"mean": mean, "std": float(np.sqrt(self.squares / self.count - mean**2))}
