"""What every reader shares: one error type, regular files of a limited size, and one-line messages.

A source is a path, or bytes that were read already (a member of an archive, say), with a name for
messages. Nothing here trusts what a file says about itself.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from mmfuse.errors import InputError

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
Source = str | Path | bytes


class DataError(InputError):
    """A file that can not be read, or not safely: what, where, and what is allowed, in one line."""


def size_text(count: float) -> str:
    """A number of bytes in the unit that suits it: ``"1.5 MiB"``."""
    units = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
    power = 0
    while count >= KIB and power < len(units) - 1:
        count, power = count / KIB, power + 1
    return f"{count:.1f} {units[power]}" if power else f"{count:.0f} bytes"


def name_of(source: Source, name: str = "") -> str:
    """How messages call a source: its given name, else its path, always on one line."""
    return one_line(name or ("<bytes>" if isinstance(source, bytes) else str(source)), 300)


def one_line(text: object, most: int = 160) -> str:
    """``text`` without line breaks or control characters, cut to ``most`` characters."""
    line = " ".join(str(text)[: 4 * most].split())
    line = "".join(letter if letter.isprintable() else "?" for letter in line)
    return line if len(line) <= most else line[: most - 3] + "..."


def open_source(source: Source, max_bytes: int, name: str = "") -> tuple[BinaryIO, int]:
    """Opens a source that holds at most ``max_bytes``; returns the stream and its size in bytes.

    Raises:
      DataError: when it is missing, not a regular file (a pipe would block, a device never ends),
        not readable, or too large.
    """
    label = name_of(source, name)
    if isinstance(source, bytes):
        _check_size(label, len(source), max_bytes)
        return io.BytesIO(source), len(source)
    try:
        status = os.stat(source)
        if not stat.S_ISREG(status.st_mode):
            raise DataError(f"{label}: not a regular file")
        _check_size(label, status.st_size, max_bytes)
        return open(source, "rb"), status.st_size
    except OSError as error:
        raise DataError(f"{label}: can not be read ({error.strerror or error})") from error
    except ValueError as error:  # a NUL in the path
        if isinstance(error, InputError):
            raise
        raise DataError(f"{label}: not a path ({one_line(error)})") from error


def read_bytes(source: Source, max_bytes: int, name: str = "") -> bytes:
    """The bytes of a source; see `open_source` for what is refused."""
    if isinstance(source, bytes):
        _check_size(name_of(source, name), len(source), max_bytes)
        return source
    stream, size = open_source(source, max_bytes, name)
    with stream:
        return stream.read(size)


def _check_size(label: str, size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise DataError(f"{label}: {size_text(size)}; at most {size_text(max_bytes)} are read")


@contextlib.contextmanager
def decoding(label: str, what: str) -> Iterator[None]:
    """Turns whatever a decoder raises on hostile bytes into one `DataError` line.

    Decoders promise no closed list of errors for bytes that someone else made, so every exception
    counts; the cause stays attached.
    """
    try:
        yield
    except InputError:
        raise
    except MemoryError as error:
        raise DataError(f"{label}: {what} that asks for more memory than there is") from error
    except Exception as error:
        reason = one_line(error) or type(error).__name__
        raise DataError(f"{label}: not a readable {what} ({reason})") from error
