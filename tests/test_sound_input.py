import numpy as np
import pytest
from scipy import fft

from mmfuse.data import audio
from mmfuse.data.preprocess import build_preprocessor
from mmfuse.errors import InputError, RowError
from tests.inputs import encoded_sound

RATE = 8000
RNG = np.random.default_rng(0)
SMALL = {"n_fft": 256, "hop": 128, "n_mels": 10}


def tone(hertz, seconds=1.0, rate=RATE):
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def fit(raw, kind="log_mel", **fields):
    return build_preprocessor(kind, **SMALL | fields).fit(raw)


def step(fitted, name, wave):
    return {n: value for n, value, _ in fitted.steps(wave)}[name]


def loudest(clip):
    """The strongest frequency of a clip, in Hz, to 1 Hz."""
    power = np.abs(np.fft.rfft(clip.samples * np.hanning(len(clip.samples)), clip.rate))
    return int(power.argmax())


@pytest.mark.parametrize("hertz", [300, 1000, 2500])
def test_resampling_keeps_a_tone_where_it_is(hertz):
    wave = tone(hertz, rate=44100)
    fitted = fit([wave], source_rate=44100)
    before, after = step(fitted, "decode", wave), step(fitted, "resample", wave)
    assert (before.rate, after.rate, len(after.samples)) == (44100, 8000, 8000)
    assert loudest(before) == loudest(after) == hertz
    file = encoded_sound(wave, 44100)
    assert loudest(step(fit([wave]), "resample", file)) == hertz  # a file knows its own rate


def test_files_and_arrays_of_the_same_sound_are_the_same_input():
    wave = (tone(700) * 2**15).astype(np.int16)
    fitted = fit([wave])
    files = [encoded_sound(wave, RATE), encoded_sound(wave, RATE, "FLAC")]
    stereo = encoded_sound(np.stack([wave, wave], axis=1), RATE)
    x, _ = fitted([wave, wave.astype(np.float32) / 2**15, *files, stereo])
    for other in x[1:]:
        np.testing.assert_array_equal(other, x[0])
    lossy = fitted([encoded_sound(wave, RATE, "OGG")])[0]
    assert lossy.shape == x[:1].shape


@pytest.mark.parametrize(("hertz", "passes"), [(100, False), (800, True), (3000, False)])
def test_the_band_pass_lets_only_its_band_through(hertz, passes):
    wave = tone(hertz)
    passed = step(fit([wave], band=(400, 1600)), "band-pass", wave).samples[1000:-1000]
    np.testing.assert_allclose(np.sqrt(2 * np.mean(passed**2)), 0.5 * passes, atol=0.01)


def test_every_step_is_on_and_in_the_stated_order():
    wave = np.concatenate([0.01 * RNG.normal(size=4000), tone(700), 0.01 * RNG.normal(size=4000)])
    fields = {"source_rate": 16000, "band": [100, 3000], "noise": 0.2, "trim": 20.0, "seconds": 0.7}
    fitted = fit([wave], "mfcc", n_mfcc=5, **fields)
    assert [name for name, _, _ in fitted.steps(wave)] == [
        "decode", "resample", "band-pass", "reduce noise", "trim", "length", "log-mel", "MFCC",
        "standardise",
    ]  # fmt: skip
    samples = audio.resample(wave.astype(np.float32)[None], 16000, RATE)
    samples = audio.reduce_own_noise(audio.band_pass(samples, RATE, 100, 3000)[0], 0.2)
    samples = audio.trim(samples, RATE, 20.0)
    assert 4000 <= len(samples) < 4600  # the tone's half second is left
    samples = np.pad(samples, (0, 5600 - len(samples)))
    frames = audio.log_mel(samples[None], RATE, 256, 128, 10)[0]
    np.testing.assert_array_equal(step(fitted, "log-mel", wave), frames)
    assert [name for name, _, _ in fit([wave]).steps(wave)] == [
        "decode", "resample", "length", "log-mel", "standardise",
    ]  # fmt: skip


def test_mfcc_is_the_dct_of_log_mel_by_hand():
    """Filters, logarithm and DCT from their formulas, on scipy's transform alone."""
    wave = RNG.normal(0, 0.1, 2000).astype(np.float32)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(256) / 256)
    frames = np.stack([wave[s : s + 256] * window for s in range(0, 2000 - 255, 128)])
    power = np.abs(np.fft.rfft(frames)) ** 2
    mels = np.linspace(0, 2595 * np.log10(1 + 4000 / 700), 12)
    edges, bins = 700 * (10 ** (mels / 2595) - 1), np.fft.rfftfreq(256, 1 / RATE)
    filters = [np.interp(bins, edges[i : i + 3], [0, 1, 0], 0, 0) for i in range(10)]
    expected = fft.dct(np.log(1e-5 + power @ np.array(filters).T), type=2, norm="ortho")[:, :6]
    fitted = fit([wave], "mfcc", n_mfcc=6)
    np.testing.assert_allclose(step(fitted, "MFCC", wave), expected, rtol=1e-4, atol=1e-4)
    x, mask = fitted([wave])
    assert x.shape == (1, *expected.shape)
    assert mask.shape == (1, len(expected))
    np.testing.assert_allclose(x[0], (expected - expected.mean(0)) / expected.std(0), atol=1e-3)


def test_masks_mark_the_frames_that_begin_inside_the_clip():
    """Frames begin at 0, 128, ... 1664: 14 of 2000 - 256 samples."""
    lengths = [1, 128, 129, 1000, 1664, 1665, 2000, 3000]
    waves = [RNG.normal(0, 0.1, n).astype(np.float32) for n in lengths]
    fitted = fit(waves, seconds=0.25)
    x, mask = fitted(waves)
    assert mask.shape == (8, 14)
    assert mask.sum(1).tolist() == [1, 1, 2, 8, 13, 14, 14, 14]
    assert (np.diff(mask.astype(int), axis=1) <= 0).all()
    assert not x[~mask].any()
    cut = fitted([waves[-1][:2000]])[0]
    np.testing.assert_array_equal(cut[0], x[-1])


def test_statistics_are_of_real_training_frames_only():
    waves = [RNG.normal(0, 0.1, n).astype(np.float32) for n in (300, 900, 2000)]
    fitted = fit(waves, seconds=0.25)
    x, mask = fitted(waves)
    np.testing.assert_allclose(x[mask].mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(x[mask].std(0), 1, atol=1e-4)
    longer = fit(waves, seconds=2.0)  # nothing but padding is added behind most clips
    frames = [step(longer, "log-mel", wave) for wave in waves]
    real = np.concatenate([f[: -(-len(w) // 128)] for f, w in zip(frames, waves, strict=True)])
    np.testing.assert_allclose(longer.mean, real.mean(0), rtol=1e-4)
    fitted([waves[0] * 50])
    assert fitted.state() == fit(waves, seconds=0.25).state()


@pytest.mark.parametrize("empty", [b"", np.zeros(0, np.int16), np.zeros(0, np.float32)])
def test_an_absent_clip_is_zeros_with_a_false_mask_and_teaches_nothing(empty):
    waves = list(RNG.normal(0, 0.1, (3, 2000)).astype(np.float32))
    fitted = fit([empty, *waves, empty], seconds=0.25)
    assert fitted.state() == fit(waves, seconds=0.25).state()
    x, mask = fitted([empty, waves[0]])
    assert mask.any(1).tolist() == [False, True]
    assert not x[0].any()
    assert not fitted([empty])[1].any()


def test_what_cannot_be_one_array_or_is_no_sound_is_named():
    waves = [np.ones(n, np.float32) for n in (2000, 2000, 1999)]
    with pytest.raises(RowError, match="1999 samples, in others 2000: set seconds") as caught:
        fit(waves)
    assert caught.value.row == 2
    fitted = fit(waves[:2])
    for bad, said in [
        (b"", "0 samples, in others 2000"),
        (b"RIFF but no sound", "sound"),
        (np.ones((2000, 2), np.float32), r"expected int16 or float \[S\]"),
        (np.ones(2000, np.uint8), r"expected int16 or float \[S\], got uint8"),
        (np.full(2000, np.nan, np.float32), "NaN or Inf"),
    ]:
        with pytest.raises(RowError, match=said) as caught:
            fitted([waves[0], bad])
        assert caught.value.row == 1
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "fields", "said"),
    [
        ("log_mel", {"band": (300,)}, "band must be"),
        ("log_mel", {"band": (300, 4000)}, "need 0 < low < high < 4000 Hz"),
        ("log_mel", {"noise": 1.0}, "noise is a share"),
        ("log_mel", {"noise": "yes"}, "noise must be a number >= 0, got 'yes'"),
        ("log_mel", {"seconds": -1}, "seconds must be a number >= 0, got -1"),
        ("log_mel", {"trim": float("nan")}, "trim must be a number >= 0, got nan"),
        ("log_mel", {"n_fft": 1}, "n_fft must be a whole number >= 2"),
        ("log_mel", {"n_mfcc": 3}, "no field 'n_mfcc'"),
        ("mfcc", {"n_mfcc": 11}, "n_mfcc 11 must be at most n_mels 10"),
    ],
)
def test_impossible_fields(kind, fields, said):
    with pytest.raises(InputError, match=said):
        build_preprocessor(kind, **SMALL | fields)
