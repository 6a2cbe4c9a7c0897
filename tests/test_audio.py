import numpy as np
import pytest
from scipy import signal

from mmfuse.data import audio
from mmfuse.errors import InputError

RATE = 8000
RNG = np.random.default_rng(0)


def tone(hertz, seconds=1.0, rate=RATE):
    return np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate).astype(np.float32)


def test_resampling_keeps_a_tone_and_removes_what_would_alias():
    kept = audio.resample(tone(440, rate=44100)[None], 44100, RATE)
    assert kept.shape == (1, RATE)
    np.testing.assert_allclose(kept[0, 100:-100], tone(440)[100:-100], atol=5e-3)
    lost = audio.resample(tone(6000, rate=44100)[None], 44100, RATE)
    assert np.abs(lost[0, 100:-100]).max() < 5e-3


@pytest.mark.parametrize(("hertz", "gain"), [(50, 0), (300, 0.5), (700, 1), (1500, 0.5), (3500, 0)])
def test_band_pass_gain(hertz, gain):
    passed = audio.band_pass(np.stack([tone(hertz)] * 2), RATE, 300, 1500)
    middle = passed[0, 2000:-2000]
    np.testing.assert_allclose(np.abs(middle).max(), gain, atol=0.02)
    if gain == 1:  # forwards and backwards: no delay
        np.testing.assert_allclose(middle, tone(hertz)[2000:-2000], atol=0.02)
    np.testing.assert_array_equal(passed[0], passed[1])


def test_band_pass_refuses_impossible_edges():
    for low, high in [(0, 100), (200, 100), (100, 4000)]:
        with pytest.raises(InputError, match="band_pass"):
            audio.band_pass(tone(1)[None], RATE, low, high)


def test_noise_reduction_raises_the_signal_to_noise_ratio_by_10_db():
    clean = np.stack([tone(500), tone(1200) * (np.arange(RATE) > 4000)])
    noise = RNG.normal(0, 0.1, (3, RATE)).astype(np.float32)
    cleaned = audio.reduce_noise(clean + noise[:2], noise[2])
    assert cleaned.shape == clean.shape
    before = np.mean(noise[:2] ** 2, axis=1)
    after = np.mean((cleaned - clean) ** 2, axis=1)
    assert (10 * np.log10(before / after) > 10).all()


def test_noise_reduction_keeps_what_is_far_above_the_noise():
    loud = RNG.normal(0, 1, (1, RATE)).astype(np.float32)
    kept = audio.reduce_noise(loud, 1e-8 * loud[0])
    np.testing.assert_allclose(kept, loud, atol=1e-4)


@pytest.mark.parametrize("size", [1, 2, 20, 27, 28])
def test_band_pass_of_a_very_short_clip(size):
    assert audio.band_pass(tone(700)[None, :size], RATE, 300, 1500).shape == (1, size)


def test_the_quietest_frames_serve_as_noise():
    """A tone in the middle of the clip, noise everywhere: what is removed is nearly all noise."""
    clean = tone(500) * (np.abs(np.arange(RATE) - 4000) < 2000)
    noisy = clean + RNG.normal(0, 0.1, RATE).astype(np.float32)
    cleaned = audio.reduce_own_noise(noisy, 0.2)
    assert cleaned.shape == noisy.shape
    before, after = (np.mean((x - clean) ** 2) for x in (noisy, cleaned))
    assert 10 * np.log10(before / after) > 8
    assert np.sqrt(np.mean(cleaned[:1500] ** 2)) < 0.03  # the noise had 0.1
    inside = cleaned[2500:5500] @ clean[2500:5500] / (clean[2500:5500] @ clean[2500:5500])
    np.testing.assert_allclose(inside, 1, atol=0.02)  # the tone keeps its size


def test_digital_silence_is_no_example_of_noise():
    noise = RNG.normal(0, 0.1, 2048).astype(np.float32)
    clip = np.concatenate([np.zeros(2048, np.float32), noise, 20 * noise])
    cleaned = audio.reduce_own_noise(clip, 0.25)
    assert np.sqrt(np.mean(cleaned[2400:3700] ** 2)) < 0.03
    np.testing.assert_allclose(cleaned[4600:5700], clip[4600:5700], atol=0.5)


def test_own_noise_leaves_alone_what_has_no_pause():
    for clip in (tone(500)[:250], np.zeros(4000, np.float32), tone(500)[:300]):
        np.testing.assert_array_equal(audio.reduce_own_noise(clip, 0.2), clip)


def test_trim_cuts_quiet_ends_at_whole_blocks_and_nothing_between():
    wave = np.concatenate([0.001 * tone(400)[:800], tone(400)[:1600], np.zeros(800), tone(400)])
    wave = np.append(wave[:4000], 0.001 * tone(400)[:1000])
    np.testing.assert_array_equal(audio.trim(wave, RATE, 40), wave[800:4000])
    np.testing.assert_array_equal(audio.trim(wave, RATE, 80), wave)
    for same in (np.zeros(500), np.ones(3), np.ones(161)):
        np.testing.assert_array_equal(audio.trim(same, RATE, 40), same)


def test_cepstrum_equals_the_sum_in_its_docstring():
    x, M = RNG.normal(size=(4, 7, 12)), 12
    k, m = np.arange(5)[:, None], np.arange(M)[None]
    cosines = np.cos(np.pi * k * (m + 0.5) / M) * np.where(k > 0, np.sqrt(2 / M), np.sqrt(1 / M))
    found = audio.cepstrum(x, 5)
    np.testing.assert_allclose(found, x @ cosines.T, atol=1e-5)
    assert found.dtype == np.float32


def test_stft_power_equals_the_sum_in_its_docstring():
    x, n, hop = RNG.normal(size=40).astype(np.float32), 9, 4
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)
    frequencies = np.exp(-2j * np.pi * np.outer(np.arange(n), np.arange(n // 2 + 1)) / n)
    expected = [
        np.abs((window * x[s : s + n]) @ frequencies) ** 2 for s in range(0, 40 - n + 1, hop)
    ]
    np.testing.assert_allclose(audio.stft_power(x[None], n, hop)[0], expected, rtol=1e-4, atol=1e-6)


def test_stft_power_equals_scipy_and_does_not_depend_on_the_batch(monkeypatch):
    waves = RNG.normal(size=(2, 5, 1000)).astype(np.float32)
    monkeypatch.setattr(audio, "CLIPS_AT_ONCE", 3)
    power = audio.stft_power(waves, 64, 20)
    spectrum = signal.stft(
        waves, nperseg=64, noverlap=44, boundary=None, padded=False, scaling="spectrum"
    )[2]
    expected = np.abs(spectrum.swapaxes(-1, -2) * signal.get_window("hann", 64).sum()) ** 2
    np.testing.assert_allclose(power, expected, rtol=2e-3, atol=1e-4)
    np.testing.assert_array_equal(audio.stft_power(waves[1, 4], 64, 20), power[1, 4])


def test_frame_count():
    assert audio.frame_count(7993, 223, 70) == 112
    assert audio.frame_count(223, 223, 70) == 1
    for arguments in [(222, 223, 70), (223, 223, 0), (5, 1, 1)]:
        with pytest.raises(InputError, match="frames"):
            audio.frame_count(*arguments)


def test_mel_filters_equal_the_htk_book_filter_by_filter():
    def mel(hertz):
        return 2595 * np.log10(1 + hertz / 700)

    n_fft, n_mels = 400, 20
    step = mel(RATE / 2) / (n_mels + 1)
    edges = [700 * (10 ** (i * step / 2595) - 1) for i in range(n_mels + 2)]
    expected = np.zeros((n_fft // 2 + 1, n_mels))
    for m in range(n_mels):
        low, peak, high = edges[m : m + 3]
        for f in range(n_fft // 2 + 1):
            hertz = f * RATE / n_fft
            if low < hertz <= peak:
                expected[f, m] = (hertz - low) / (peak - low)
            elif peak < hertz < high:
                expected[f, m] = (high - hertz) / (high - peak)
    np.testing.assert_allclose(audio.mel_filters(RATE, n_fft, n_mels), expected, atol=1e-6)
    np.testing.assert_allclose(mel(1000), 1000, rtol=1e-4)  # the scale's anchor
    with pytest.raises(InputError, match="fewer mels"):
        audio.mel_filters(RATE, 64, 40)


def test_log_mel_puts_a_tone_where_it_belongs_and_silence_at_the_floor():
    frames = audio.log_mel(np.stack([tone(1000), 0 * tone(1000)]), RATE, 400, 400, 32)
    assert frames.shape == (2, 20, 32)
    assert frames.dtype == np.float32
    edges = np.linspace(0, 2595 * np.log10(1 + 4000 / 700), 34)
    assert (frames[0].argmax(1) == np.abs(edges[1:-1] - 1000).argmin()).all()
    np.testing.assert_allclose(frames[1], np.log(1e-5), rtol=1e-6)


def test_log_spectrogram_is_112_by_112_and_pools_to_28():
    waves = RNG.normal(size=(3, 7993)).astype(np.float32)
    spectrogram = audio.log_spectrogram(waves)
    assert spectrogram.shape == (3, 112, 112)
    np.testing.assert_array_equal(spectrogram, np.log(1e-5 + audio.stft_power(waves, 223, 70)))
    pooled = audio.average_pool(spectrogram, 28)
    assert pooled.shape == (3, 28, 28)
    np.testing.assert_allclose(pooled[1, 2, 5], spectrogram[1, 8:12, 20:24].mean(), rtol=1e-5)
    np.testing.assert_array_equal(audio.average_pool(spectrogram, 112), spectrogram)
    with pytest.raises(InputError, match="30 must divide"):
        audio.average_pool(spectrogram, 30)


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 20.0])
def test_mix_has_the_stated_ratio_over_the_clip_and_one_gain_beyond_it(snr_db):
    lengths = np.array([300, 1000])
    speech = RNG.normal(size=(2, 1000)) * (np.arange(1000) < lengths[:, None])
    noise = RNG.normal(size=(2, 1000)) * np.linspace(0.1, 3, 1000)
    added = audio.mix_at_snr(speech, noise, snr_db, lengths) - speech
    for s, n, length in zip(speech, added, lengths, strict=True):
        ratio = 10 * np.log10(np.mean(s[:length] ** 2) / np.mean(n[:length] ** 2))
        np.testing.assert_allclose(ratio, snr_db, atol=1e-3)
    gain = added / noise
    np.testing.assert_allclose(gain, np.broadcast_to(gain[:, :1], gain.shape), rtol=1e-2)


def test_mix_refuses_noise_that_is_silent_under_the_clip():
    noise = np.ones((2, 10))
    noise[1, :4] = 0
    with pytest.raises(InputError, match="noise 1 is silent"):
        audio.mix_at_snr(np.ones((2, 10)), noise, 0.0, np.array([4, 4]))
