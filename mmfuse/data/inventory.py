"""Which upstream files of a dataset are there: by existence and size, without reading them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from mmfuse.data import raw

Source = raw.RawFile | raw.RawFolder


@dataclasses.dataclass(frozen=True)
class Found:
    """One source of a dataset as it lies on the disk.

    Attributes:
      source: what is looked for.
      path: the file or folder.
      size: its bytes on the disk; 0 when it is missing.
      fault: why it cannot be used; empty when it is there and of the right size. Whether the bytes
        are the right ones is only known when the dataset is prepared.
    """

    source: Source
    path: Path
    size: int
    fault: str


def inventory(dataset: type, config: Any, folder: Path | None, cache_dir: Path) -> list[Found]:
    """Looks for what a configuration of a dataset is built from.

    Args:
      dataset: a builder class.
      config: one of its ``CONFIG``.
      folder: the raw folder; None = only what was downloaded.
      cache_dir: where downloads of the dataset go; not looked at when there is a raw folder.

    Returns:
      One entry per source; of alternatives the first that is there, or else the last. Empty for a
      generated dataset.
    """
    found = []
    for source in dataset.sources(config):
        forms = source if isinstance(source, tuple) else (source,)
        looks = [_look(form, folder, cache_dir) for form in forms]
        found.append(next((look for look in looks if not look.fault), looks[-1]))
    return found


def _look(source: Source, folder: Path | None, cache_dir: Path) -> Found:
    path = raw.place(source, folder) if folder else cache_dir / source.path
    return (_look_file if isinstance(source, raw.RawFile) else _look_folder)(source, path)


def _look_file(source: raw.RawFile, path: Path) -> Found:
    if not path.is_file():
        return Found(source, path, 0, "missing")
    size = path.stat().st_size
    packed = path.suffix == ".gz"  # its size is only known unpacked
    wrong = size == 0 if packed else size != source.size
    expected = "" if packed else f", expected {source.size}"
    return Found(source, path, size, f"{size} bytes{expected}" if wrong else "")


def _look_folder(source: raw.RawFolder, path: Path) -> Found:
    if not path.is_dir():
        return Found(source, path, 0, "missing")
    sizes = [file.stat().st_size for file in path.glob(source.pattern)]
    wrong = len(sizes) != source.count
    fault = f"{len(sizes)} of {source.count} {source.pattern}" if wrong else ""
    return Found(source, path, sum(sizes), fault)
