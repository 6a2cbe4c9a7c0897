"""Upstream files: where they are found, that they are complete and unaltered, how they are fetched.

One rule for every dataset. With a raw folder (``--raw_data`` or the environment variable
``MMFUSE_RAW_DATA``) the files must be in it, or beside it, under the paths of the dataset's table;
nothing is downloaded. Without one they are downloaded once into a cache. Either way the bytes are
checked before anything is built from them, and whatever is wrong is one `InputError` line.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import os
import shutil
import sys
import tempfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from mmfuse.data import safe
from mmfuse.errors import InputError

ENVIRONMENT = "MMFUSE_RAW_DATA"
CHUNK = 1 << 20


@dataclasses.dataclass(frozen=True)
class RawFile:
    """One upstream file.

    For a ``.gz`` file, ``size`` and ``sha256`` are those of what it unpacks to: mirrors pack the
    same content with another time stamp or level, and the content is what counts.
    """

    path: str  # below the raw folder
    url: str | None
    size: int  # bytes
    sha256: str


@dataclasses.dataclass(frozen=True)
class RawFolder:
    """Many small upstream files that come in one zip archive.

    ``sha256`` is the hash of the listing that ``sha256sum`` prints for the files, sorted by path
    below the folder: an archive may be packed anew by its host, its files may not change. Where
    the folder holds that listing as ``SHA256SUMS``, a fault is told by file name.
    """

    path: str  # below the raw folder
    pattern: str  # of the files below the folder, as in a glob
    url: str | None
    count: int
    sha256: str


def locate(
    sources: Sequence[RawFile | RawFolder], raw_data: str | None, cache_dir: str | Path
) -> dict[str, Path]:
    """Finds, fetches if need be, and checks upstream files.

    Args:
      sources: what a dataset is built from.
      raw_data: the folder that holds them; None reads ``MMFUSE_RAW_DATA``.
      cache_dir: where downloads go when neither names a folder. Written to only then.

    Returns:
      {source.path: the file or folder}, all of it checked.

    Raises:
      InputError: one line for a missing folder or file, a truncated or altered file, or a
        download that failed: what, where, expected and found, what to do.
    """
    folder = raw_folder(raw_data)
    if folder is None:
        return {source.path: _cached(source, Path(cache_dir)) for source in sources}
    found = {source.path: place(source, folder) for source in sources}
    for source in sources:
        check(source, found[source.path])
    return found


def place(source: RawFile | RawFolder, folder: Path) -> Path:
    """Where a source is: in the raw folder, or else beside it, where packed arrays may lie."""
    beside = folder.resolve().parent / source.path
    inside = folder / source.path
    return beside if beside.exists() and not inside.exists() else inside


def raw_folder(raw_data: str | None) -> Path | None:
    """Returns the folder the user named, by argument or environment; None when none is named."""
    named = raw_data or os.environ.get(ENVIRONMENT)
    if not named:
        return None
    fault = _folder_fault(named)
    if fault:
        origin = "--raw_data" if raw_data else ENVIRONMENT
        raise InputError(
            f"raw data folder '{named}' ({origin}) {fault}; name the folder that holds the "
            "upstream files, or none at all to download them"
        )
    return Path(named)


def _folder_fault(folder: str) -> str | None:
    try:
        return None if os.listdir(folder) else "is empty"
    except FileNotFoundError:
        return "does not exist"
    except OSError as error:  # not a folder, no permission
        return f"can not be read ({error.strerror})"


def check(source: RawFile | RawFolder, path: Path) -> None:
    """Checks that ``path`` holds ``source``, complete and unaltered.

    Raises:
      InputError: as `locate` says.
    """
    if isinstance(source, RawFile):
        _check_file(source, path)
    else:
        _check_folder(source, path)


def _check_file(source: RawFile, path: Path) -> None:
    if not path.is_file():
        raise InputError(f"{path}: missing; {_advice(source)}")
    digest, size = hashlib.sha256(), 0
    try:
        for chunk in _chunks(path):
            digest.update(chunk)
            size += len(chunk)
            if size > source.size:
                break  # a gzip file can unpack to a thousand times its size
    except EOFError as error:
        raise InputError(
            f"{path}: truncated: the gzip stream ends early; {_advice(source)}"
        ) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path}: altered: not a sound gzip file; {_advice(source)}") from error
    except OSError as error:
        raise InputError(f"{path}: can not be read ({error.strerror}); check its mode") from error
    if size != source.size:
        fault = "truncated" if size < source.size else "altered"
        more = " or more" if size > source.size else ""
        raise InputError(
            f"{path}: {fault}: expected {source.size} bytes{_unpacked(path)}, found {size}{more}; "
            f"{_advice(source)}"
        )
    if digest.hexdigest() != source.sha256:
        raise InputError(
            f"{path}: altered: expected sha256 {source.sha256[:12]}...{_unpacked(path)}, found "
            f"{digest.hexdigest()[:12]}...; {_advice(source)}"
        )


def _unpacked(path: Path) -> str:
    return " unpacked" if path.suffix == ".gz" else ""


def _chunks(path: Path) -> Iterator[bytes]:
    with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


def _check_folder(source: RawFolder, path: Path) -> None:
    if not path.is_dir():
        raise InputError(f"{path}: missing; {_advice(source)}")
    found = {file.relative_to(path).as_posix(): _sha256(file) for file in path.glob(source.pattern)}
    listing = "".join(f"{found[name]}  {name}\n" for name in sorted(found))
    if hashlib.sha256(listing.encode()).hexdigest() == source.sha256:
        return
    fault = _faulty_file(path / "SHA256SUMS", found)
    if fault is None and len(found) != source.count:
        fault = f"{path}: expected {source.count} files {source.pattern}, found {len(found)}"
    raise InputError(
        f"{fault or f'{path}: altered: at least one file {source.pattern} is not the original'}; "
        f"{_advice(source)}"
    )


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{path}: can not be read ({error.strerror}); check its mode") from error


def _faulty_file(sums: Path, found: dict[str, str]) -> str | None:
    """Names the first missing or altered file by a ``SHA256SUMS`` listing, if there is one."""
    if not sums.is_file():
        return None
    for line in sums.read_text(encoding="utf-8").splitlines():
        expected, _, name = line.partition("  ")
        if name not in found:
            return f"{sums.parent / name}: missing"
        if found[name] != expected:
            return (
                f"{sums.parent / name}: truncated or altered: expected sha256 {expected[:12]}..., "
                f"found {found[name][:12]}..."
            )
    return None


def _advice(source: RawFile | RawFolder) -> str:
    return f"get it from {source.url}" if source.url else "restore it from its source"


def _cached(source: RawFile | RawFolder, cache_dir: Path) -> Path:
    """Returns the checked copy in the cache, downloaded when there is none or it is faulty."""
    path = cache_dir / source.path
    try:
        check(source, path)
    except InputError:
        if source.url is None:
            raise
        _fetch(source, path)
    return path


def _fetch(source: RawFile | RawFolder, path: Path) -> None:
    """Downloads beside ``path``, checks, then renames, so a broken download is never used."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".download-") as temporary:
        part = Path(temporary) / path.name
        if isinstance(source, RawFile):
            _download(source.url, part)
        else:
            _download(source.url, archive := Path(temporary) / "archive.zip")
            _unpack(source, archive, part)
        check(source, part)
        if path.is_dir():
            shutil.rmtree(path)
        part.replace(path)


def _download(url: str, path: Path) -> None:
    try:
        with urllib.request.urlopen(url, timeout=60) as response, path.open("wb") as file:
            total, done = int(response.headers.get("Content-Length") or 0), 0
            while chunk := response.read(CHUNK):
                file.write(chunk)
                done += len(chunk)
                _show_progress(url, done, total)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise InputError(
            f"cannot download {url} ({reason}); put the files in a folder and name it by "
            f"--raw_data or {ENVIRONMENT}"
        ) from error
    print(f"downloaded {url} ({done / 1e6:.1f} MB)", file=sys.stderr)


def _show_progress(url: str, done: int, total: int) -> None:
    """One line that rewrites itself on a terminal; silent elsewhere, where it would pile up."""
    if sys.stderr.isatty():
        share = f" of {total / 1e6:.1f}" if total else ""
        print(f"\r{url}: {done / 1e6:.1f}{share} MB", end="\r", file=sys.stderr, flush=True)


def _unpack(source: RawFolder, archive: Path, folder: Path) -> None:
    """Unpacks the files of ``source`` from a zip whose top folder carries the commit's name."""
    with safe.open_zip(archive, name=source.url) as packed:
        for member in packed.names:
            inner = PurePosixPath(*PurePosixPath(member).parts[1:])
            if inner.match(source.pattern):
                (folder / inner).parent.mkdir(parents=True, exist_ok=True)
                (folder / inner).write_bytes(packed.read(member))
