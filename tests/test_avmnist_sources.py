import gzip
import hashlib
import os

import numpy as np
import pytest

from mmfuse.data import avmnist_sources, raw
from mmfuse.errors import InputError
from tests import avmnist_files

# As published for the original files, and printed in many loaders.
PAYLOAD_MD5 = {
    "mnist/train-images-idx3-ubyte.gz": "6bbc9ace898e44ae57da46a324031adb",
    "mnist/train-labels-idx1-ubyte.gz": "a25bea736e30d166cdddb491f175f624",
    "mnist/t10k-images-idx3-ubyte.gz": "2646ac647ad5339dbf082846283269ea",
    "mnist/t10k-labels-idx1-ubyte.gz": "27ae3e4e09519cfbb04c329615203637",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.delenv(raw.ENVIRONMENT, raising=False)
    root = avmnist_files.fabricate(tmp_path / "raw")
    avmnist_files.trust(root, monkeypatch)
    return root


def test_everything_is_found_and_read(folder):
    paths = avmnist_sources.locate(str(folder), "unused")
    digits = avmnist_sources.load_digits(paths)
    assert digits["train"][0].shape == (60, 28, 28)
    np.testing.assert_array_equal(digits["test"][1], np.arange(20) % 10)
    clips = avmnist_sources.load_clips(paths["fsdd"])
    assert len(clips) == 150
    assert [clip.name for clip in clips] == sorted(clip.name for clip in clips)
    clip = next(clip for clip in clips if clip.name == "7_theo_11")
    assert (clip.digit, clip.speaker, clip.recording) == (7, "theo", 11)
    assert clip.samples.dtype == np.float32
    noise, fold = avmnist_sources.load_noise(paths["esc10"])
    assert noise.shape == (10, 20_000)
    np.testing.assert_array_equal(np.bincount(fold), [0, 2, 2, 2, 2, 2])


def test_a_clip_at_another_rate_is_refused(folder):
    avmnist_files.write_wav(folder / "fsdd/recordings/0_theo_0.wav", np.zeros(9), rate=16000)
    with pytest.raises(InputError, match="16000 samples a second; need 8000"):
        avmnist_sources.load_clips(folder / "fsdd")


def test_prepared_noise_may_lie_in_or_beside_the_raw_folder(folder):
    name = avmnist_sources.PREPARED_NOISE.path
    assert avmnist_sources.locate_noise(str(folder), "unused") == folder / name
    (folder.parent / "esc10").mkdir()
    os.rename(folder / name, folder.parent / name)
    assert avmnist_sources.locate_noise(str(folder), "unused") == folder.parent / name
    (folder.parent / name).write_bytes(b"rot")
    with pytest.raises(InputError, match="truncated"):
        avmnist_sources.locate_noise(str(folder), "unused")


def test_a_few_upstream_clips_without_prepared_noise_are_not_enough(folder):
    (folder / avmnist_sources.PREPARED_NOISE.path).unlink()
    (folder / "esc10/001 - Dog bark").mkdir()
    (folder / "esc10/001 - Dog bark/1-1-A.ogg").write_bytes(b"")
    with pytest.raises(InputError, match=r"found 1 of 400 ESC-10 clips .*no esc10/esc10_noise_8k"):
        avmnist_sources.locate_noise(str(folder), "unused")


def test_all_upstream_clips_are_enough_and_decoded_by_fold(folder, monkeypatch):
    import soundfile

    (folder / avmnist_sources.PREPARED_NOISE.path).unlink()
    listing = ""
    for fold, burst in ((2, 30_000), (5, 160_000)):
        path = folder / f"esc10/001 - Dog bark/{fold}-77-A.ogg"
        path.parent.mkdir(exist_ok=True)
        samples = np.zeros(5 * 44_100)
        samples[burst : burst + 8000] = 0.5 * np.sin(np.arange(8000) / 9)
        soundfile.write(path, samples, 44_100)
        listing += f"{avmnist_files.sha256(path.read_bytes())}  001 - Dog bark/{path.name}\n"
    few = raw.RawFolder("esc10", "*/*.ogg", None, 2, avmnist_files.sha256(listing.encode()))
    monkeypatch.setattr(avmnist_sources, "ESC10", few)
    noise, fold = avmnist_sources.load_noise(avmnist_sources.locate_noise(str(folder), "unused"))
    assert noise.dtype == np.int16
    assert noise.shape == (2, 20_000)
    np.testing.assert_array_equal(fold, [2, 5])
    assert (np.abs(noise.astype(int)).max(1) > 10_000).all()  # the burst is inside the piece


def test_real_files_are_whole_and_their_payload_is_the_published_one(raw_data):
    paths = avmnist_sources.locate(raw_data, "unused")
    for name, md5 in PAYLOAD_MD5.items():
        payload = gzip.decompress(paths[name].read_bytes())
        assert hashlib.md5(payload).hexdigest() == md5
    noise, fold = avmnist_sources.load_noise(paths["esc10"])
    assert noise.shape == (400, 20_000)
    np.testing.assert_array_equal(np.bincount(fold), [0, 80, 80, 80, 80, 80])


def test_upstream_clips_decode_to_the_prepared_noise_bit_for_bit(raw_data):
    prepared = np.load(avmnist_sources.locate_noise(raw_data, "unused"), allow_pickle=False)
    names = list(prepared["filename"])
    folder = raw.raw_folder(raw_data) / "esc10"
    noise, fold = avmnist_sources.load_noise(folder)
    rows = [names.index(path.name) for path in sorted(folder.glob("*/*.ogg"))]
    assert len(rows) == 10
    np.testing.assert_array_equal(noise, prepared["waveform"][rows])
    np.testing.assert_array_equal(fold, prepared["fold"][rows])
