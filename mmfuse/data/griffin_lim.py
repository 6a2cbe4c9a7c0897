"""From a log-mel spectrogram back to sound, to listen to what a model has made. Numpy and scipy."""

from __future__ import annotations

import numpy as np
from scipy import fft, signal

from mmfuse.data.audio import LOG_FLOOR, mel_filters

TINY = 1e-10


def mel_to_power(
    log_mels: np.ndarray, sample_rate: int, n_fft: int, iterations: int = 200
) -> np.ndarray:
    """A power spectrogram [..., F] whose mel bands are those of ``log_mels`` [..., M] of `log_mel`.

    ``min_x |x A - m|^2`` for x >= 0, A the mel filters, by multiplicative updates
    ``x <- x * (m A') / (x A A')`` from the filters' own spread (Lee and Seung 2001). M bands do not
    determine F > M bins: a smooth solution is found, and fine structure is lost.
    """
    filters = mel_filters(sample_rate, n_fft, log_mels.shape[-1]).astype(np.float64)
    mels = np.maximum(np.exp(log_mels.astype(np.float64)) - LOG_FLOOR, 0)
    share = filters / np.maximum(filters.sum(axis=0), TINY)[None]
    target, power = mels @ filters.T, mels @ share.T + TINY
    for _ in range(iterations):
        power *= target / (power @ filters @ filters.T + TINY)
    return power.astype(np.float32)


def griffin_lim(
    power: np.ndarray, n_fft: int, hop: int, iterations: int = 60, seed: int = 0
) -> np.ndarray:
    """A sound whose ``stft_power`` is near ``power`` [T, F]: float32 [(T - 1) hop + n_fft].

    From random phases, the magnitudes asked for and the phases of the last sound are turned into
    the sound that is nearest to them in the least squares, over and over (Griffin and Lim 1984,
    doi 10.1109/TASSP.1984.1164317).
    """
    magnitude, window = np.sqrt(power.astype(np.float64)), signal.get_window("hann", n_fft)
    angles = np.random.default_rng(seed).uniform(-np.pi, np.pi, magnitude.shape)
    spectrum = magnitude * np.exp(1j * angles)
    for _ in range(iterations):
        sound = _nearest(spectrum, window, hop)
        frames = np.lib.stride_tricks.sliding_window_view(sound, n_fft)[::hop]
        found = fft.rfft(frames * window, axis=-1)
        spectrum = magnitude * found / np.maximum(np.abs(found), TINY)
    return _nearest(spectrum, window, hop).astype(np.float32)


def _nearest(spectrum: np.ndarray, window: np.ndarray, hop: int) -> np.ndarray:
    """``sum_t w x_t / sum_t w^2``: the sound with the nearest STFT, x_t the frames of this one."""
    n_fft = len(window)
    frames = fft.irfft(spectrum, n_fft, axis=-1) * window
    sound = np.zeros((len(frames) - 1) * hop + n_fft)
    weight = np.zeros_like(sound)
    for t, frame in enumerate(frames):
        sound[t * hop : t * hop + n_fft] += frame
        weight[t * hop : t * hop + n_fft] += window**2
    return sound / np.maximum(weight, 1e-3)
