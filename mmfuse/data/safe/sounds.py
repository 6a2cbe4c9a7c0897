"""Sound: WAV by the lengths its header states, FLAC and Ogg through libsndfile; always mono.

WAV is parsed here: a file shorter or otherwise than its header says would be read by the usual
libraries without a word. Rules: channels are averaged; integers are divided by their full scale
(16 bits by 32768), floats are kept as they are, beyond [-1, 1] too.
"""

from __future__ import annotations

import io
import struct
from typing import NamedTuple

import numpy as np

from mmfuse.data.safe.limits import MIB, DataError, Source, decoding, name_of, read_bytes

MAX_SAMPLES = 1 << 25  # over all channels: 12 minutes at 44.1 kHz mono
MAX_BYTES = 272 * MIB  # that many float64, and a header
MAX_RATE = 1 << 20
MAX_CHANNELS = 64
PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
WIDTHS = {PCM: (8, 16, 24, 32), FLOAT: (32, 64)}
COMPRESSED = {b"fLaC": "FLAC", b"OggS": "Ogg"}


class _Format(NamedTuple):
    encoding: int
    channels: int
    rate: int
    bits: int


def read_sound(
    source: Source,
    max_samples: int = MAX_SAMPLES,
    max_bytes: int = MAX_BYTES,
    name: str = "",
) -> tuple[int, np.ndarray]:
    """Reads a WAV (PCM of 8, 16, 24, 32 bits; float of 32, 64), FLAC or Ogg file.

    Args:
      source: a path, or the bytes of the file.
      max_samples: over all channels, checked before decoding.
      max_bytes: of the file.
      name: of the source in messages.

    Returns:
      The sample rate in Hz, and the mean of the channels as float32 [S], S > 0.

    Raises:
      DataError: for another format, a truncated or altered file, no samples or too many, NaN or
        infinite samples.
    """
    label = name_of(source, name)
    data = read_bytes(source, max_bytes, name)
    if data[:4] in COMPRESSED:
        rate, samples = _read_compressed(data, max_samples, label)
    elif data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        rate, samples = _read_wav(data, max_samples, label)
    else:
        raise DataError(f"{label}: not a readable sound file; allowed are WAV, FLAC and Ogg")
    if not len(samples):
        raise DataError(f"{label}: no samples; a sound of 0 s is an absent one: leave it out")
    if not np.isfinite(samples).all():
        count = int(np.sum(~np.isfinite(samples)))
        raise DataError(f"{label}: {count} of {samples.size} samples are NaN or infinite")
    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float64)
    return rate, np.ascontiguousarray(mono, np.float32)


def _read_wav(data: bytes, max_samples: int, label: str) -> tuple[int, np.ndarray]:
    chunks = _chunks(data, label)
    if b"fmt " not in chunks or b"data" not in chunks:
        raise DataError(f"{label}: not a readable WAV file: no format or no data in it")
    form = _format(data[slice(*chunks[b"fmt "])], label)
    start, stop = chunks[b"data"]
    frame = form.channels * form.bits // 8
    if (stop - start) % frame:
        raise DataError(f"{label}: truncated: {stop - start} bytes are no whole frames of {frame}")
    if (stop - start) // (form.bits // 8) > max_samples:
        raise DataError(f"{label}: {stop - start} bytes; at most {max_samples} samples are read")
    return form.rate, _samples(data[start:stop], form).reshape(-1, form.channels)


def _chunks(data: bytes, label: str) -> dict[bytes, tuple[int, int]]:
    """{name: (start, stop)} of the first chunk of each name, all of them inside the file."""
    chunks, place, end = {}, 12, 8 + struct.unpack_from("<I", data, 4)[0]
    if end > len(data):
        raise DataError(f"{label}: truncated: the header says {end} bytes, found {len(data)}")
    while place + 8 <= end:
        name, size = struct.unpack_from("<4sI", data, place)
        if place + 8 + size > end:
            raise DataError(
                f"{label}: truncated: a part of {size} bytes, {end - place - 8} are left for it"
            )
        chunks.setdefault(name, (place + 8, place + 8 + size))
        place += 8 + size + size % 2
    return chunks


def _format(block: bytes, label: str) -> _Format:
    if len(block) < 16:
        raise DataError(f"{label}: not a readable WAV file: a format of {len(block)} bytes")
    encoding, channels, rate, _, align, bits = struct.unpack_from("<HHIIHH", block)
    if encoding == EXTENSIBLE and len(block) >= 26:
        (encoding,) = struct.unpack_from("<H", block, 24)
    if bits not in WIDTHS.get(encoding, ()):
        raise DataError(
            f"{label}: encoding {encoding} of {bits} bits; allowed are PCM of 8, 16, 24, 32 bits "
            "and float of 32, 64"
        )
    if not (1 <= channels <= MAX_CHANNELS and 1 <= rate <= MAX_RATE):
        raise DataError(
            f"{label}: {channels} channels at {rate} Hz; allowed are 1 to {MAX_CHANNELS} channels "
            f"at 1 to {MAX_RATE} Hz"
        )
    frame = channels * bits // 8
    if align != frame:
        raise DataError(f"{label}: frames of {align} bytes; its format needs {frame}")
    return _Format(encoding, channels, rate, bits)


def _samples(data: bytes, form: _Format) -> np.ndarray:
    """The numbers of a data chunk as float32, integers divided by their full scale."""
    if form.encoding == FLOAT:
        with np.errstate(over="ignore"):  # beyond float32: infinite, and refused as such
            return np.frombuffer(data, f"<f{form.bits // 8}").astype(np.float32)
    if form.bits == 8:
        return (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / np.float32(128)
    if form.bits == 24:
        whole = np.zeros((len(data) // 3, 4), np.uint8)
        whole[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        return whole.reshape(-1).view("<i4").astype(np.float32) / np.float32(2**31)
    full_scale = np.float32(2 ** (form.bits - 1))
    return np.frombuffer(data, f"<i{form.bits // 8}").astype(np.float32) / full_scale


def _read_compressed(data: bytes, max_samples: int, label: str) -> tuple[int, np.ndarray]:
    import soundfile  # here: loading libsndfile takes a while, and WAV does not need it

    with (
        decoding(label, f"{COMPRESSED[data[:4]]} file"),
        soundfile.SoundFile(io.BytesIO(data)) as file,
    ):
        if not (1 <= file.channels <= MAX_CHANNELS and 1 <= file.samplerate <= MAX_RATE):
            raise DataError(f"{label}: {file.channels} channels at {file.samplerate} Hz")
        if file.frames * file.channels > max_samples:
            raise DataError(
                f"{label}: {file.frames} frames of {file.channels} channels; at most "
                f"{max_samples} samples are read"
            )
        samples = file.read(dtype="float32", always_2d=True)
        if len(samples) != file.frames:
            raise DataError(
                f"{label}: truncated: the header says {file.frames} frames, found {len(samples)}"
            )
        return file.samplerate, samples
