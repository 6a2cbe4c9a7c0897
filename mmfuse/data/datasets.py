"""The datasets by name, and how one is prepared: as array_record files, the same bytes every time.

A dataset is a TFDS builder; ``DATASETS`` is the only list of those that are shipped.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path

import tensorflow_datasets as tfds
from absl import logging
from tensorflow_datasets.core import ExampleSerializer

from mmfuse.data.avmnist import Avmnist
from mmfuse.data.banking77 import Banking77
from mmfuse.data.builder import RawBuilder
from mmfuse.data.codex_s import CodexS
from mmfuse.data.cub_image_text import CubImageText
from mmfuse.data.digit_stream import DigitStream
from mmfuse.data.easy_vqa import EasyVqa
from mmfuse.data.emodb import Emodb
from mmfuse.data.helpdesk import Helpdesk
from mmfuse.data.ict_mmmo import IctMmmo
from mmfuse.data.maec import Maec
from mmfuse.data.mosi import Mosi
from mmfuse.data.movie_kg import MovieKg
from mmfuse.data.movielens import Movielens
from mmfuse.data.mustard import Mustard
from mmfuse.data.mvsa_single import MvsaSingle
from mmfuse.data.onecommon import Onecommon
from mmfuse.data.own.files import OwnFiles
from mmfuse.data.polymusic import Polymusic
from mmfuse.data.waimai_10k import Waimai10k
from mmfuse.data.youtube import Youtube
from mmfuse.errors import InputError, nearest

DATASETS = {
    "helpdesk": Helpdesk,
    "avmnist": Avmnist,
    "banking77": Banking77,
    "cub_image_text": CubImageText,
    "easy_vqa": EasyVqa,
    "mvsa_single": MvsaSingle,
    "mosi": Mosi,
    "ict_mmmo": IctMmmo,
    "youtube": Youtube,
    "mustard": Mustard,
    "onecommon": Onecommon,
    "maec": Maec,
    "polymusic": Polymusic,
    "digit_stream": DigitStream,
    "waimai_10k": Waimai10k,
    "codex_s": CodexS,
    "movie_kg": MovieKg,
    "movielens": Movielens,
    "emodb": Emodb,
    "manifest": OwnFiles,
}


def make_builder(name: str, fields: dict, *, data_dir: str | None, raw_data: str | None):
    """The TFDS builder of a dataset; an unknown name or field is an InputError."""
    if name not in DATASETS:
        raise InputError(
            f"unknown dataset '{name}' in data.name; allowed: {', '.join(DATASETS)}"
            f"{nearest(name, DATASETS)}"
        )
    builder = DATASETS[name]
    allowed = builder_fields(builder)
    for field in fields:
        if field not in allowed:
            raise InputError(
                f"dataset '{name}' has no field '{field}' in data.builder; "
                f"allowed: {', '.join(allowed)}{nearest(field, allowed)}"
            )
    with _quiet():
        return builder(
            config=builder.CONFIG(**fields),
            data_dir=data_dir,
            raw_data=raw_data,
            file_format="array_record",
        )


def builder_fields(dataset: type) -> list[str]:
    """The fields that ``data.builder`` may give for a dataset."""
    inherited = {f.name for f in dataclasses.fields(tfds.core.BuilderConfig)}
    return [f.name for f in dataclasses.fields(dataset.CONFIG) if f.name not in inherited]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps TFDS's own progress bars and log lines off the terminal."""
    tfds.disable_progress_bar()
    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(before)


@contextlib.contextmanager
def _same_bytes() -> Iterator[None]:
    """Lets TFDS write equal examples as equal bytes.

    A serialised example holds a protobuf map, whose order differs from process to process unless
    one asks for a deterministic one, and TFDS does not.
    """
    original = ExampleSerializer.serialize_example

    def serialize(self, example):
        return self.get_tf_example(example).SerializeToString(deterministic=True)

    ExampleSerializer.serialize_example = serialize
    try:
        yield
    finally:
        ExampleSerializer.serialize_example = original


@contextlib.contextmanager
def _alone(builder) -> Iterator[None]:
    """Waits while another process prepares this dataset; a killed one leaves no lock behind."""
    folder = Path(builder.data_dir).parent
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def prepare(builder) -> None:
    """Writes the dataset's files if they are not there yet: the same bytes every time."""
    if not builder.data_path.exists():
        if isinstance(builder, RawBuilder):
            builder.check_sources()  # what is wrong is said before any folder is made
        with _alone(builder), _quiet(), _same_bytes():
            if not builder.data_path.exists():
                builder.download_and_prepare()
    if not builder.info.splits:  # another process has written it since the builder was made
        builder.info.read_from_directory(builder.data_path)


def files_fingerprint(folder: str | os.PathLike) -> str:
    """sha256 over the names and bytes of the record files in a prepared dataset's folder."""
    digest = hashlib.sha256()
    for path in sorted(Path(folder).glob("*array_record*")):
        digest.update(path.name.encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
