import io
import struct
import wave

import numpy as np
import pytest
import soundfile

from mmfuse.data import safe
from tests.safe.faults import fault

SAMPLES = np.array([0, 1, -1, 32767, -32768], np.int16)
TONE = (0.5 * np.sin(np.arange(4000) / 9)).astype(np.float32)


def wav(samples, rate=8000, channels=1, width=2) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((channels, width, rate, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    return buffer.getvalue()


def encoded(samples, rate=8000, **kwargs) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, **kwargs)
    return buffer.getvalue()


def test_16_bits_are_divided_by_32768(tmp_path):
    (tmp_path / "a.wav").write_bytes(wav(SAMPLES, rate=11025))
    rate, read = safe.read_sound(tmp_path / "a.wav")
    assert (rate, read.dtype, read.shape) == (11025, np.float32, (5,))
    np.testing.assert_array_equal(read * 32768, SAMPLES)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("kind", ["WAV", "WAVEX"])
def test_wav_is_read_as_libsndfile_reads_it(subtype, kind):
    data = encoded(TONE, format=kind, subtype=subtype)
    expected, rate = soundfile.read(io.BytesIO(data), dtype="float32")
    assert safe.read_sound(data)[0] == rate
    np.testing.assert_array_equal(safe.read_sound(data)[1], expected)


def test_channels_are_averaged():
    pairs = np.array([[100, 300], [-5, -6]], np.int16)
    _, read = safe.read_sound(wav(pairs, channels=2))
    np.testing.assert_array_equal(read * 32768, [200, -5.5])
    _, read = safe.read_sound(encoded(np.stack([TONE, 0 * TONE], 1), format="FLAC"))
    np.testing.assert_allclose(read, TONE / 2, atol=1e-4)


@pytest.mark.parametrize("kind", ["FLAC", "OGG"])
def test_compressed_sound(kind):
    rate, read = safe.read_sound(encoded(TONE, rate=16000, format=kind))
    assert (rate, read.shape, read.dtype) == (16000, TONE.shape, np.float32)
    np.testing.assert_allclose(read, TONE, atol=0.1 if kind == "OGG" else 1e-4)


def test_no_samples_and_samples_that_are_no_numbers():
    assert "no samples" in fault(safe.read_sound, wav(SAMPLES[:0]))
    assert "no samples" in fault(safe.read_sound, encoded(TONE[:0], format="OGG"))
    for bad, kind in ((np.nan, "FLOAT"), (np.inf, "FLOAT"), (1e300, "DOUBLE")):
        data = encoded(np.array([0, bad, 1]), format="WAV", subtype=kind)
        assert "1 of 3 samples are NaN or infinite" in fault(safe.read_sound, data)
    assert "not a readable sound" in fault(safe.read_sound, b"")


def test_every_cut_of_a_wav_is_told():
    whole = wav(SAMPLES)
    for cut in range(len(whole)):
        message = fault(safe.read_sound, whole[:cut])
        assert "truncated" in message or cut < 12, message


def test_lengths_that_do_not_fit_the_file():
    whole = wav(SAMPLES)
    data_at, riff_at = whole.index(b"data") + 4, 4
    for place, number in [(data_at, 2**32 - 1), (data_at, 12), (riff_at, 2**32 - 1), (riff_at, 40)]:
        changed = bytearray(whole)
        struct.pack_into("<I", changed, place, number)
        assert "truncated" in fault(safe.read_sound, bytes(changed))
    assert "no whole frames" in fault(safe.read_sound, odd(whole, data_at))


def odd(whole: bytes, data_at: int) -> bytes:
    changed = bytearray(whole)
    struct.pack_into("<I", changed, data_at, 9)
    return bytes(changed)


@pytest.mark.parametrize(
    ("offset", "pattern", "value", "words"),
    [
        (0, "<H", 6, "encoding 6 of 16 bits"),
        (14, "<H", 12, "encoding 1 of 12 bits"),
        (2, "<H", 0, "0 channels"),
        (2, "<H", 65535, "65535 channels"),
        (4, "<I", 0, "at 0 Hz"),
        (4, "<I", 2**32 - 1, "at 4294967295 Hz"),
        (12, "<H", 4, "frames of 4 bytes"),
    ],
)
def test_formats_that_are_not_read(offset, pattern, value, words):
    changed = bytearray(wav(SAMPLES))
    struct.pack_into(pattern, changed, changed.index(b"fmt ") + 8 + offset, value)
    assert words in fault(safe.read_sound, bytes(changed))


def test_other_parts_of_a_wav_are_skipped():
    whole = wav(SAMPLES)
    parts = b"LIST" + struct.pack("<I", 3) + b"abc\0" + whole[12:]
    data = b"RIFF" + struct.pack("<I", 4 + len(parts)) + b"WAVE" + parts
    np.testing.assert_array_equal(safe.read_sound(data)[1] * 32768, SAMPLES)
    assert "no format or no data" in fault(
        safe.read_sound, b"RIFF" + struct.pack("<I", 4) + b"WAVE"
    )


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG"])
def test_the_number_of_samples_is_limited_before_decoding(kind, monkeypatch):
    data = encoded(np.stack([TONE, TONE], 1), format=kind)
    monkeypatch.setattr(soundfile.SoundFile, "read", None)  # not even called
    assert "at most 7999 samples" in fault(safe.read_sound, data, max_samples=7999)


def test_a_flac_that_promises_more_than_it_holds():
    data = bytearray(encoded(TONE, format="FLAC"))
    data[21] |= 15  # the high four bits of 36 that count frames
    assert "samples are read" in fault(safe.read_sound, bytes(data))
    data = encoded(TONE, format="FLAC")
    fault(safe.read_sound, data[: len(data) // 2])


def test_other_files():
    assert "allowed are WAV, FLAC and Ogg" in fault(safe.read_sound, b"ID3" + bytes(50))
    assert "at most 10 bytes" in fault(safe.read_sound, wav(SAMPLES), max_bytes=10)
