"""Back to sound: tones come back at their pitch, and what is consistent already stays."""

import numpy as np
import pytest
from scipy import signal

from mmfuse.data.audio import log_mel, mel_filters, stft_power
from mmfuse.data.griffin_lim import griffin_lim, mel_to_power

RATE, N_FFT, HOP, MELS = 8000, 256, 64, 40


def tone(*frequencies, seconds=0.5):
    t = np.arange(int(RATE * seconds)) / RATE
    sound = sum(np.sin(2 * np.pi * f * t + f) for f in frequencies)
    return (sound * np.hanning(len(t)) / len(frequencies)).astype(np.float32)


def peaks(sound, number):
    """The strongest frequencies of a sound, in Hz."""
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound)), 2**14))
    found = signal.find_peaks(spectrum, distance=100)[0]
    best = found[np.argsort(-spectrum[found])[:number]]
    return sorted(best * RATE / 2**14)


def far(sound, power):
    """Spectral convergence: the error of the magnitudes, relative to them."""
    wanted, found = np.sqrt(power), np.sqrt(stft_power(sound[None], N_FFT, HOP)[0])
    return np.linalg.norm(found - wanted) / np.linalg.norm(wanted)


def test_a_spectrogram_gives_its_sound():
    sound = tone(440, 1200)
    power = stft_power(sound[None], N_FFT, HOP)[0]
    made = griffin_lim(power, N_FFT, HOP)
    assert made.dtype == np.float32 and len(made) == (len(power) - 1) * HOP + N_FFT
    assert far(made, power) < 0.1 < far(griffin_lim(power, N_FFT, HOP, iterations=1), power)
    assert peaks(made, 2) == pytest.approx([440, 1200], abs=10)
    np.testing.assert_array_equal(made, griffin_lim(power, N_FFT, HOP))  # the same seed


def test_a_tone_comes_back_from_its_log_mel():
    for frequency in (300, 700):
        sound = tone(frequency)
        log_mels = log_mel(sound[None], RATE, N_FFT, HOP, MELS)[0]
        made = griffin_lim(mel_to_power(log_mels, RATE, N_FFT), N_FFT, HOP)
        width = RATE / N_FFT  # a bin of the spectrum
        assert peaks(made, 1) == pytest.approx([frequency], abs=1.5 * width)
        again = log_mel(made[None], RATE, N_FFT, HOP, MELS)[0]
        loud = log_mels > log_mels.max() - 6
        assert np.abs(again - log_mels)[loud].mean() < 1


def test_the_power_has_the_bands_asked_for():
    sound = tone(500, 900, 2000)
    log_mels = log_mel(sound[None], RATE, N_FFT, HOP, MELS)[0]
    power = mel_to_power(log_mels, RATE, N_FFT)
    assert power.shape == (len(log_mels), N_FFT // 2 + 1) and (power >= 0).all()
    error = np.linalg.norm(power @ mel_filters(RATE, N_FFT, MELS) - np.exp(log_mels))
    assert error < 0.02 * np.linalg.norm(np.exp(log_mels))
    assert (mel_to_power(np.full((2, MELS), np.log(1e-5)), RATE, N_FFT) < 1e-6).all()  # silence
