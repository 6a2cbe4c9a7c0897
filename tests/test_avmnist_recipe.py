import numpy as np
import pytest

from mmfuse.data import avmnist_recipe as recipe
from mmfuse.data.avmnist_sources import Clip
from mmfuse.errors import InputError

RNG = np.random.default_rng(0)
NAMES = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
CLIPS = [
    Clip(f"{digit}_{name}_{i}", digit, name, i, RNG.normal(0, 0.1, 800 + 400 * digit + i))
    for digit in range(10)
    for name in NAMES
    for i in (0, 4, 5, 9, 10, 49)
]
LABELS = RNG.integers(0, 10, 300)
PIECES = RNG.normal(0, 1000, (10, 20_000)).astype(np.int16)
FOLDS = np.repeat(np.arange(1, 6), 2)


def plan(split="train", size=40, seed=0, protocol="index", noise=PIECES):
    pool = recipe.clip_pool(CLIPS, protocol, split)
    arguments = {"pool": pool, "noise": (noise, FOLDS), "size": size, "seed": seed}
    return recipe.plan_split(split, range(100, 300), LABELS, **arguments)


@pytest.mark.parametrize("protocol", ["index", "speaker"])
def test_pools_are_disjoint_and_cover_every_clip(protocol):
    pools = [{c.name for c in recipe.clip_pool(CLIPS, protocol, s)} for s in recipe.SPLITS]
    assert set().union(*pools) == {clip.name for clip in CLIPS}
    assert sum(map(len, pools)) == len(CLIPS)
    place = {"speaker": 1, "index": 2}[protocol]
    parts = [{name.split("_")[place] for name in pool} for pool in pools]
    expected = {
        "index": [{"10", "49"}, {"5", "9"}, {"0", "4"}],
        "speaker": [set(NAMES[:4]), {"theo"}, {"yweweler"}],
    }
    assert parts == expected[protocol]


def test_noise_of_a_split_comes_from_its_own_folds():
    for split, rows in (("train", PIECES[:6]), ("valid", PIECES[6:8]), ("test", PIECES[8:])):
        np.testing.assert_array_equal(plan(split).pieces, rows)


def test_image_and_sound_share_a_class_and_images_come_from_their_range():
    drawn = plan(size=200)
    np.testing.assert_array_equal(np.sort(drawn.order), np.arange(100, 300))
    np.testing.assert_array_equal(drawn.labels, LABELS[drawn.order])
    assert [clip.digit for clip in drawn.clips] == list(drawn.labels)


def test_every_clip_of_a_digit_is_drawn_about_equally_often():
    pool = recipe.clip_pool(CLIPS, "speaker", "test")
    chosen = recipe.pair(np.full(6000, 3), pool, np.random.default_rng(1))
    counts = np.bincount(chosen, minlength=len(pool))
    assert (counts[[clip.digit != 3 for clip in pool]] == 0).all()
    assert (np.abs(counts[counts > 0] - 1000) < 150).all()
    assert (counts > 0).sum() == 6


def test_a_pool_without_the_digit_is_told():
    with pytest.raises(InputError, match="none of digit 3"):
        recipe.pair(np.array([3]), [clip for clip in CLIPS if clip.digit == 1], RNG)


def test_a_smaller_split_is_the_start_of_the_larger_and_a_seed_changes_all():
    noise = PIECES.copy()
    noise[:, 3000:18_000] = 0  # many draws must be repeated
    small, large, other = plan(size=20, noise=noise), plan(size=90, noise=noise), plan(seed=1)
    for field in ("order", "piece", "offset"):
        np.testing.assert_array_equal(getattr(small, field), getattr(large, field)[:20])
        assert (getattr(other, field)[:20] != getattr(plan(), field)[:20]).any()
    assert small.clips == large.clips[:20]


def test_noise_is_never_silent_under_a_clip():
    pieces = np.zeros((4, 20_000), np.int16)
    pieces[:, ::400] = 30
    pieces[:, 7000:] = 0
    lengths = RNG.integers(800, 4000, 500)
    piece, offset = recipe.place_noise(pieces, lengths, (0,))
    power = [
        np.mean(pieces[p, o : o + n].astype(float) ** 2)
        for p, o, n in zip(piece, offset, lengths, strict=True)
    ]
    assert min(power) >= 1
    assert offset.max() <= 20_000 - recipe.SAMPLES
    with pytest.raises(InputError, match="silent"):
        recipe.place_noise(np.zeros((2, 20_000), np.int16), lengths, (0,))


@pytest.mark.parametrize("snr_db", [-5.0, 10.0])
def test_waveforms_have_the_stated_ratio_over_the_clip_and_noise_to_the_end(snr_db):
    drawn = plan(size=50)
    clean = recipe.waveforms(drawn, slice(10, 50), None)
    noise = recipe.waveforms(drawn, slice(10, 50), snr_db).astype(float) - clean
    for row, clip in enumerate(drawn.clips[10:]):
        length = len(clip.samples)
        np.testing.assert_allclose(clean[row, :length], clip.samples, rtol=1e-6)
        assert not clean[row, length:].any()
        power = np.mean(clip.samples**2) / np.mean(noise[row, :length] ** 2)
        np.testing.assert_allclose(10 * np.log10(power), snr_db, atol=1e-2)
        assert noise[row, -1000:].std() > 0
    assert clean.shape == (40, recipe.SAMPLES)


def test_a_long_clip_is_cut():
    long = Clip("0_theo_0", 0, "theo", 0, np.ones(20_000, np.float32))
    drawn = recipe.Plan(np.zeros(1, int), np.zeros(1, int), [long], PIECES, *np.zeros((2, 1), int))
    assert recipe.waveforms(drawn, slice(0, 1), None).sum() == recipe.SAMPLES


def test_spectrogram_is_time_first():
    wave = np.sin(np.arange(recipe.SAMPLES) * 2 * np.pi * 1000 / 8000)[None].astype(np.float32)
    wave[:, 4000:] = 0
    for size in (112, 28):
        picture = recipe.spectrogram(wave, size)
        assert picture.shape == (1, size, size, 1)
        assert picture.dtype == np.float16
        assert (picture[0, : size // 3, :, 0].argmax(1) == size // 4).all()
        np.testing.assert_allclose(picture[0, size * 2 // 3 :], np.log(1e-5), rtol=1e-3)


def test_blur_clips_and_rounds_to_the_nearest():
    directions = np.eye(4)
    images = np.array([[[10, 20], [30, 40]]], np.uint8)
    mean = np.array([1.0, 300.0, -7.0, 2.7])
    out = recipe.blur(images, mean, directions, 1)
    np.testing.assert_array_equal(out[0, :, :, 0], [[10, 255], [0, 3]])
    assert out.dtype == np.uint8


def test_moments_equal_numpy_over_all_values():
    moments = recipe.Moments(1 / 255)
    parts = [RNG.integers(0, 256, (n, 3), np.uint8) for n in (5, 8)]
    for part in parts:
        moments.add(part)
    values = np.concatenate(parts) / 255
    assert moments.result() == pytest.approx({"mean": values.mean(), "std": values.std()})
