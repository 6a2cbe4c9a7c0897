"""Waveforms: resampling, filtering, noise, spectrograms. Numpy and scipy, batched.

A batch of waveforms is float [N, S] in [-1, 1]; leading axes other than N are welcome, the samples
come last. Spectrograms are time first, [N, T, F]. Frames are not padded: frame t covers the
samples ``t * hop : t * hop + n_fft``, so T = 1 + (S - n_fft) // hop. The Hann window is the
periodic one (``scipy.signal.get_window``). Results are float32.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import fft, signal

from mmfuse.errors import InputError

CLIPS_AT_ONCE = 64  # so many clips' frames fit in the cache; the result does not depend on it
LOG_FLOOR = 1e-5


def resample(waveforms: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """Returns ``waveforms`` [N, S] at ``new_rate``, ceil(S * new_rate / rate) samples long.

    Polyphase filtering with scipy's anti-aliasing Kaiser window (``signal.resample_poly``).
    """
    common = math.gcd(rate, new_rate)
    up, down = new_rate // common, rate // common
    return signal.resample_poly(waveforms, up, down, axis=-1).astype(np.float32)


def band_pass(
    waveforms: np.ndarray, sample_rate: int, low: float, high: float, order: int = 4
) -> np.ndarray:
    """Returns ``waveforms`` [N, S] between ``low`` and ``high`` Hz.

    A Butterworth filter of ``order``, run forwards and backwards (no delay; -6 dB at both edges).
    """
    check_band(sample_rate, low, high)
    sections = signal.butter(order, (low, high), "bandpass", fs=sample_rate, output="sos")
    edge = min(3 * (2 * len(sections) + 1), waveforms.shape[-1] - 1)  # scipy's, or what there is
    return signal.sosfiltfilt(sections, waveforms, axis=-1, padlen=edge).astype(np.float32)


def check_band(sample_rate: int, low: float, high: float) -> None:
    """Raises an InputError unless 0 < low < high < sample_rate / 2."""
    if not 0 < low < high < sample_rate / 2:
        raise InputError(
            f"band_pass: need 0 < low < high < {sample_rate / 2:g} Hz, got {low:g} and {high:g}"
        )


def reduce_noise(
    waveforms: np.ndarray, noise: np.ndarray, n_fft: int = 256, deviations: float = 2.0
) -> np.ndarray:
    """Spectral gate: silences every time-frequency cell that noise alone would explain.

    With L = 20 log10 |X|, a cell passes when L > mean + deviations * sd of the noise's L in the
    same frequency bin. X is kept whole where it passes, and elsewhere scaled by the share of
    passing cells among its 3 x 3 neighbours, so that no lone cell rings. After the stationary gate
    of Sainburg's noisereduce (2019), which smooths over longer spans.

    Args:
      waveforms: [N, S].
      noise: a recording of the noise alone, [S'], at the same sample rate.
      n_fft: window, hop is a quarter of it.
      deviations: larger is stricter.

    Returns:
      [N, S], the same length.
    """
    return _gated(waveforms, _decibels(_stft(noise, n_fft)), n_fft, deviations)


def reduce_own_noise(
    waveform: np.ndarray, share: float, n_fft: int = 256, deviations: float = 2.0
) -> np.ndarray:
    """`reduce_noise` where no recording of the noise alone exists: the clip's own pauses are it.

    The noise is the ``share`` of the frames with the least energy (at least 2), as in the
    energy-based noise estimates of speech enhancement (Boll 1979 takes pauses). Frames that reach
    over an end of the clip, and frames of digital silence, are no examples of noise. What the
    pauses hold is removed, so a sound that never pauses is taken for noise where it is weakest.

    Args:
      waveform: [S]; one with fewer than 2 frames of noise is returned as it is.
      share: of the frames, in (0, 1).
      n_fft, deviations: as in `reduce_noise`.
    """
    whole = 1 + 4 * (len(waveform) - n_fft) // n_fft  # frames inside the clip, a quarter apart
    if whole < 2:
        return waveform
    spectrum = _stft(waveform, n_fft)[:, 2 : 2 + whole]
    energy = np.square(np.abs(spectrum)).sum(axis=0)
    quietest = np.argsort(energy, kind="stable")
    quietest = quietest[energy[quietest] > 0][: max(2, round(share * whole))]
    if len(quietest) < 2:
        return waveform
    return _gated(waveform, _decibels(spectrum[:, quietest]), n_fft, deviations)


def _gated(
    waveforms: np.ndarray, noise_level: np.ndarray, n_fft: int, deviations: float
) -> np.ndarray:
    """The gate of `reduce_noise`, for noise of the decibels [F, frames]."""
    threshold = noise_level.mean(axis=-1) + deviations * noise_level.std(axis=-1)
    spectrum = _stft(waveforms, n_fft)
    gate = (_decibels(spectrum) > threshold[:, None]).astype(np.float32)
    padded = np.pad(gate, [(0, 0)] * (gate.ndim - 2) + [(1, 1), (1, 1)], mode="edge")
    cells = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(-2, -1))
    gate = np.maximum(gate, cells.mean(axis=(-2, -1)))
    _, cleaned = signal.istft(spectrum * gate, noverlap=n_fft * 3 // 4)
    return cleaned[..., : waveforms.shape[-1]].astype(np.float32)


def trim(waveform: np.ndarray, sample_rate: int, decibels: float) -> np.ndarray:
    """Cuts the quiet ends off a clip [S].

    Kept is all from the first to the last block of 20 ms whose mean square is at most ``decibels``
    below that of the loudest block; a shorter last block counts as one. All-zero clips stay whole.
    """
    block = max(1, round(0.02 * sample_rate))
    starts = np.arange(0, len(waveform), block)
    sizes = np.diff(np.append(starts, len(waveform)))
    power = np.add.reduceat(np.square(waveform, dtype=np.float64), starts) / sizes
    loud = np.flatnonzero(power >= power.max() * 10 ** (-decibels / 10))
    return waveform[loud[0] * block : (loud[-1] + 1) * block]


def _stft(waveforms: np.ndarray, n_fft: int) -> np.ndarray:
    return signal.stft(waveforms, nperseg=n_fft, noverlap=n_fft * 3 // 4)[2]


def _decibels(spectrum: np.ndarray) -> np.ndarray:
    return 20 * np.log10(np.abs(spectrum) + 1e-10)


def mix_at_snr(
    speech: np.ndarray, noise: np.ndarray, snr_db: float, lengths: np.ndarray
) -> np.ndarray:
    """Adds noise to speech at a stated ratio over the clip.

    y = s + g n with g such that 10 log10(P_s / P_gn) = ``snr_db``. P is the mean square over the
    clip's own samples, ``0:length``, for speech and noise alike; the same gain holds beyond it.

    Args:
      speech: [N, S], the clip at the start and silence after it.
      noise: [N, S], over the whole span.
      snr_db: signal-to-noise ratio in decibels.
      lengths: int [N], samples of each clip.

    Raises:
      InputError: when a noise is silent over its clip, where no gain can give the ratio.
    """
    inside = np.arange(speech.shape[-1])[None] < np.asarray(lengths)[:, None]
    speech_power = np.mean(np.square(speech, dtype=np.float64), axis=-1, where=inside)
    noise_power = np.mean(np.square(noise, dtype=np.float64), axis=-1, where=inside)
    if not noise_power.all():
        row = int(np.argmin(noise_power))
        raise InputError(f"mix_at_snr: noise {row} is silent over its clip; draw another piece")
    gain = np.sqrt(speech_power / noise_power) * 10 ** (-snr_db / 20)
    return (speech + gain[:, None] * noise).astype(np.float32)


def frame_count(samples: int, n_fft: int, hop: int) -> int:
    """Returns T = 1 + (samples - n_fft) // hop, the number of whole frames."""
    if hop < 1 or n_fft < 2 or samples < n_fft:
        raise InputError(
            f"frames: need hop >= 1 and 2 <= n_fft <= samples, got hop {hop}, n_fft {n_fft}, "
            f"samples {samples}"
        )
    return 1 + (samples - n_fft) // hop


def stft_power(waveforms: np.ndarray, n_fft: int, hop: int) -> np.ndarray:
    """Returns |X|^2 [N, T, F] of Hann-windowed frames, F = n_fft // 2 + 1.

    X[t, f] = sum_s w[s] x[t hop + s] exp(-2 pi i f s / n_fft); nothing is divided by the window.
    """
    samples = waveforms.shape[-1]
    shape = (*waveforms.shape[:-1], frame_count(samples, n_fft, hop), n_fft // 2 + 1)
    waveforms = waveforms.reshape(-1, samples)
    window = signal.get_window("hann", n_fft).astype(np.float32)
    power = np.empty((len(waveforms), *shape[-2:]), np.float32)
    for start in range(0, len(waveforms), CLIPS_AT_ONCE):
        part = waveforms[start : start + CLIPS_AT_ONCE].astype(np.float32)
        frames = np.lib.stride_tricks.sliding_window_view(part, n_fft, axis=-1)[:, ::hop]
        spectrum = fft.rfft(frames * window, axis=-1)
        power[start : start + CLIPS_AT_ONCE] = spectrum.real**2 + spectrum.imag**2
    return power.reshape(shape)


def mel_filters(sample_rate: int, n_fft: int, n_mels: int) -> np.ndarray:
    """Returns triangular mel filters, float32 [F, n_mels], for the power spectrum of `stft_power`.

    HTK scale: m = 2595 log10(1 + f / 700) (O'Shaughnessy 1987; the HTK book, 5.4). The n_mels + 2
    edges are equally spaced in mel from 0 Hz to half the sample rate; every triangle has peak 1.

    Raises:
      InputError: when a filter holds no bin of the spectrum: fewer mels or a longer window.
    """
    top = 2595 * np.log10(1 + sample_rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, n_mels + 2) / 2595) - 1)
    bins = np.arange(n_fft // 2 + 1)[:, None] * (sample_rate / n_fft)
    rising = (bins - edges[None, :-2]) / (edges[1:-1] - edges[:-2])[None]
    falling = (edges[None, 2:] - bins) / (edges[2:] - edges[1:-1])[None]
    filters = np.maximum(0, np.minimum(rising, falling))
    empty = np.flatnonzero(filters.sum(axis=0) == 0)
    if empty.size:
        raise InputError(
            f"mel_filters: filter {empty[0]} of {n_mels} holds no frequency of a {n_fft}-sample "
            f"window at {sample_rate} Hz; use fewer mels or a longer window"
        )
    return filters.astype(np.float32)


def log_mel(
    waveforms: np.ndarray, sample_rate: int, n_fft: int, hop: int, n_mels: int
) -> np.ndarray:
    """Returns log(1e-5 + mel-filtered |X|^2), float32 [N, T, n_mels], of ``waveforms`` [N, S]."""
    filters = mel_filters(sample_rate, n_fft, n_mels)
    return np.log(np.float32(LOG_FLOOR) + stft_power(waveforms, n_fft, hop) @ filters)


def cepstrum(log_mels: np.ndarray, terms: int) -> np.ndarray:
    """Returns MFCCs: the first ``terms`` of the orthonormal DCT-II over the bands of [..., M].

    c_k = s_k sum_m x_m cos(pi k (m + 1/2) / M), s_0 = sqrt(1 / M), s_k = sqrt(2 / M) (Davis and
    Mermelstein 1980).
    """
    return fft.dct(log_mels, type=2, norm="ortho", axis=-1)[..., :terms].astype(np.float32)


def log_spectrogram(waveforms: np.ndarray, n_fft: int = 223, hop: int = 70) -> np.ndarray:
    """Returns log(1e-5 + |X|^2), float32 [N, T, F].

    The defaults are AV-MNIST's: 7,993 samples at 8 kHz give 112 frames of 112 bins.
    """
    return np.log(np.float32(LOG_FLOOR) + stft_power(waveforms, n_fft, hop))


def average_pool(spectrograms: np.ndarray, size: int) -> np.ndarray:
    """Returns [N, T, F] averaged over equal blocks to [N, size, size]."""
    frames, bins = spectrograms.shape[-2:]
    if size < 1 or frames % size or bins % size:
        raise InputError(f"average_pool: {size} must divide {frames} frames and {bins} bins")
    blocks = (*spectrograms.shape[:-2], size, frames // size, size, bins // size)
    return spectrograms.reshape(blocks).mean(axis=(-3, -1))
