"""Zip and tar archives: listed and checked whole before a byte is unpacked.

Refused are too many members, too many bytes, members that unpack suspiciously well, names that
lead out of the folder (``../``, absolute, drive letters), links, devices, encryption, and names
that come twice.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from mmfuse.data.safe.limits import (
    GIB,
    MIB,
    DataError,
    Source,
    decoding,
    name_of,
    one_line,
    open_source,
    size_text,
)
from mmfuse.errors import nearest

MAX_BYTES = GIB
MAX_MEMBERS = 20_000
MAX_RATIO = 500  # deflate reaches 1030 on zeros alone; feature arrays padded to 96 % stay below 60
SMALL = 16 * MIB  # below it a member may unpack as well as it likes
DIRECTORY_BYTES = 256  # of a zip's list, per member
METHODS = {zipfile.ZIP_STORED: "stored", zipfile.ZIP_DEFLATED: "deflated"}
PACKED = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}


class Archive:
    """An open zip whose list was checked; a context manager.

    Attributes:
      names: of its files (folders are left out), in the order of the archive.
    """

    def __init__(self, packed: zipfile.ZipFile, stream: BinaryIO, label: str):
        self._packed, self._stream, self._label = packed, stream, label
        self._members = {info.filename: info for info in packed.infolist() if not info.is_dir()}
        self.names = list(self._members)

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *error: object) -> None:
        self._packed.close()
        self._stream.close()

    def size(self, name: str) -> int:
        """The unpacked size of a file in bytes."""
        return self._info(name).file_size

    def open(self, name: str) -> BinaryIO:
        """A stream of the unpacked bytes of a file, which ends after `size` bytes."""
        with decoding(f"{self._label}:{one_line(name)}", "zip member"):
            return self._packed.open(self._info(name))

    def read(self, name: str) -> bytes:
        """The unpacked bytes of a file, their checksum checked."""
        where = f"{self._label}:{one_line(name)}"
        with decoding(where, "zip member"), self.open(name) as stream:
            data = stream.read(self.size(name))
            if len(data) != self.size(name):
                raise DataError(f"{where}: not as long as the archive says")
            return data

    def _info(self, name: str) -> zipfile.ZipInfo:
        if name not in self._members:
            close = nearest(name, self.names)
            raise DataError(
                f"{self._label}: has no '{one_line(name)}'{close} ({len(self.names)} files)"
            )
        return self._members[name]


def open_zip(
    source: Source,
    max_bytes: int = MAX_BYTES,
    max_members: int = MAX_MEMBERS,
    max_ratio: float = MAX_RATIO,
    name: str = "",
) -> Archive:
    """Opens a zip for reading, its list checked.

    Args:
      source: a path, or the bytes of the archive.
      max_bytes: of the archive itself, and of all members unpacked.
      max_members: files and folders.
      max_ratio: unpacked to packed size of a member above 16 MiB.
      name: of the source in messages.

    Raises:
      DataError: for anything that the head of this module lists.
    """
    label = name_of(source, name)
    raw, _ = open_source(source, max_bytes, name)
    stream = _ListReader(raw, label, DIRECTORY_BYTES * max_members)
    try:
        with decoding(label, "zip archive"):
            packed = zipfile.ZipFile(stream)
            stream.most = None
            _check_zip(packed.infolist(), label, max_bytes, max_members, max_ratio)
            return Archive(packed, stream, label)
    except BaseException:
        stream.close()
        raise


class _ListReader(io.BufferedReader):
    """A stream that refuses one huge read: how zipfile would load a list of endless members."""

    def __init__(self, raw: BinaryIO, label: str, most: int):
        super().__init__(raw)
        self.label, self.most = label, most

    def read(self, size: int | None = -1) -> bytes:
        if self.most is not None and size is not None and size > self.most:
            raise DataError(f"{self.label}: a list of members of {size_text(size)}; too many")
        return super().read(size)


def _check_zip(
    members: list[zipfile.ZipInfo], label: str, max_bytes: int, max_members: int, max_ratio: float
) -> None:
    _check_count(len(members), max_members, label)
    _check_total(sum(member.file_size for member in members), max_bytes, label)
    _check_names((member.orig_filename for member in members), label)
    for member in members:
        where = f"{label}:{one_line(member.orig_filename)}"
        if member.flag_bits & 1:
            raise DataError(f"{where}: encrypted")
        if member.compress_type not in METHODS:
            allowed = " and ".join(METHODS.values())
            raise DataError(f"{where}: packed by method {member.compress_type}; only {allowed}")
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise DataError(f"{where}: a link or device; only files and folders are read")
        if member.file_size > max(SMALL, max_ratio * member.compress_size):
            raise DataError(
                f"{where}: {size_text(member.compress_size)} that unpack to "
                f"{size_text(member.file_size)}; at most {max_ratio:g} times as many"
            )


def extract_tar(
    source: Source,
    folder: str | Path,
    max_bytes: int = MAX_BYTES,
    max_members: int = MAX_MEMBERS,
    name: str = "",
) -> list[Path]:
    """Unpacks a tar (plain, gz, bz2, xz) into ``folder``; returns its files.

    The whole list is checked first, so a bad archive leaves nothing behind.

    Raises:
      DataError: for anything that the head of this module lists.
    """
    label = name_of(source, name)
    raw, _ = open_source(source, max_bytes, name)
    with raw, decoding(label, "tar archive"):
        start = raw.read(6)
        raw.seek(0)
        opener = next((PACKED[magic] for magic in PACKED if start.startswith(magic)), None)
        with _TarReader(opener(raw) if opener else raw, label, max_bytes) as stream:
            members = _tar_members(stream, label, max_bytes, max_members)
            stream.seek(0)
            with tarfile.open(fileobj=stream, mode="r:") as packed:
                packed.extractall(folder, members, filter="data")
    return [Path(folder, member.name) for member in members if member.isreg()]


class _TarReader(io.BufferedIOBase):
    """Bounds what tarfile reads at once, and how far an archive unpacks."""

    def __init__(self, raw: BinaryIO, label: str, max_bytes: int):
        self._raw, self._label = raw, label
        self._most = 2 * max_bytes + MIB  # members, and blocks of 512 that round them up

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= MIB:  # tarfile copies in pieces of 16 KiB
            raise DataError(f"{self._label}: a header of more than {size_text(MIB)}")
        return self._raw.read(size)

    def seek(self, place: int, whence: int = io.SEEK_SET) -> int:
        if place > self._most:
            raise DataError(f"{self._label}: unpacks to more than {size_text(self._most)}")
        return self._raw.seek(place, whence)

    def tell(self) -> int:
        return self._raw.tell()


def _tar_members(
    stream: BinaryIO, label: str, max_bytes: int, max_members: int
) -> list[tarfile.TarInfo]:
    members, total = [], 0
    with tarfile.open(fileobj=stream, mode="r:") as packed:
        for member in packed:
            members.append(member)
            total += member.size
            _check_count(len(members), max_members, label)
            _check_total(total, max_bytes, label)
            if not (member.isreg() or member.isdir()):
                where = f"{label}:{one_line(member.name)}"
                raise DataError(f"{where}: a link or device; only files and folders are unpacked")
    _check_names((member.name for member in members), label)
    return members


def _check_count(count: int, most: int, label: str) -> None:
    if count > most:
        raise DataError(f"{label}: {count} members or more; at most {most}")


def _check_total(total: int, most: int, label: str) -> None:
    if total > most:
        raise DataError(f"{label}: unpacks to {size_text(total)}; at most {size_text(most)}")


def _check_names(names: Iterable[str], label: str) -> None:
    seen = set()
    for name in names:
        path = PurePosixPath(name.replace("\\", "/"))
        drive = path.parts and path.parts[0][1:2] == ":"
        if not name or drive or path.is_absolute() or ".." in path.parts or "\0" in name:
            raise DataError(f"{label}: member '{one_line(name)}' leads out of the folder")
        if path in seen:
            raise DataError(f"{label}: member '{one_line(name)}' comes twice")
        seen.add(path)
