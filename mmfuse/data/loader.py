"""Prepared datasets as model input: resident in memory, or streamed, with the test split closed.

A dataset is a TFDS builder (``DATASETS``), prepared once as array_record files and read by random
access without TensorFlow. Preprocessing is fitted on the training split. What comes out is a tree
``{"inputs": {modality: x}, "masks": {modality: mask}, "label": y}`` with a leading example axis.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grain
import jax
import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from tensorflow_datasets.core import ExampleSerializer

from mmfuse.data.avmnist import Avmnist
from mmfuse.data.banking77 import Banking77
from mmfuse.data.cub_image_text import CubImageText
from mmfuse.data.easy_vqa import EasyVqa
from mmfuse.data.helpdesk import Helpdesk
from mmfuse.data.ict_mmmo import IctMmmo
from mmfuse.data.mosi import Mosi
from mmfuse.data.mustard import Mustard
from mmfuse.data.mvsa_single import MvsaSingle
from mmfuse.data.own_files import OwnFiles
from mmfuse.data.preprocess import build_preprocessor
from mmfuse.data.youtube import Youtube
from mmfuse.errors import InputError, RowError, nearest

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
    "manifest": OwnFiles,
}
FIT_LIMIT = 20_000  # training examples that statistics and vocabularies are taken from, at most,
FIT_BYTES = 2**29  # and the bytes of them as they are stored, about
READ_AT_ONCE = 256  # examples, while looking for those
STREAMED_BYTES = 2**25  # preprocessed examples that a streamed dispatch holds, about
READERS = max(2, min(16, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 8))
Batch = dict


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


def prepare(builder) -> None:
    """Writes the dataset's files if they are not there yet: the same bytes every time."""
    with _quiet(), _same_bytes():
        builder.download_and_prepare()


def files_fingerprint(folder: str | os.PathLike) -> str:
    """sha256 over the names and bytes of the record files in a prepared dataset's folder."""
    digest = hashlib.sha256()
    for path in sorted(Path(folder).glob("*array_record*")):
        digest.update(path.name.encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


class Dataset:
    """One prepared and preprocessed dataset.

    Attributes: ``card`` (the builder's metadata), ``sizes`` {split: n}, ``modalities``,
    ``preprocessors`` {modality: fitted}, ``fingerprint`` (sha256 of files and preprocessing),
    ``example_bytes`` (of one preprocessed example), ``resident`` (whether the training split is
    held as arrays).
    """

    def __init__(self, builder, preprocess: dict[str, dict], *, resident_bytes: int):
        self._builder = builder
        self.card = dict(builder.info.metadata)
        self.modalities = tuple(sorted(preprocess))
        self.sizes = {
            split: builder.info.splits[split].num_examples for split in builder.info.splits
        }
        self._sources: dict = {}
        fitting = self._fitting()
        self.preprocessors = {}
        for name, fields in preprocess.items():
            unfitted = _build(self.card, name, dict(fields))
            with _rows_named(name, fitting, "train"):
                self.preprocessors[name] = unfitted.fit(fitting[name])
        states = {name: p.state() for name, p in self.preprocessors.items()}
        learned = json.dumps([{n: dict(f) for n, f in preprocess.items()}, states], sort_keys=True)
        files = files_fingerprint(builder.data_path)
        self.fingerprint = hashlib.sha256((files + learned).encode()).hexdigest()
        self.example_bytes = self._bytes_per_example()
        self.resident = self.example_bytes * self.sizes["train"] <= resident_bytes
        self._train = self._all_train(fitting) if self.resident else None
        self.test_openings = 0

    @property
    def outputs(self) -> int:
        """Width of the head: the number of classes, or 1 for regression."""
        return self.card["classes"] if self.card["task"] == "classification" else 1

    def _bytes_per_example(self) -> int:
        example = self.batch("train", range(1))
        parts = [*example["inputs"].values(), *example["masks"].values(), example["label"]]
        return sum(part.nbytes for part in parts)

    def _columns(self, split: str, indices) -> dict[str, list]:
        if split not in self._sources:
            self._sources[split] = self._builder.as_data_source(split)
        rows = self._sources[split].__getitems__(list(indices))
        return {name: [row[name] for row in rows] for name in rows[0]}

    def _fitting(self) -> dict[str, list]:
        """The first training examples, as many as preprocessing is fitted on."""
        limit, columns, size = min(self.sizes["train"], FIT_LIMIT), {}, 0
        for start in range(0, limit, READ_AT_ONCE):
            part = self._columns("train", range(start, min(start + READ_AT_ONCE, limit)))
            for name, values in part.items():
                columns.setdefault(name, []).extend(values)
                size += sum(_bytes(value) for value in values)
            if size >= FIT_BYTES:
                break
        return columns

    def _all_train(self, fitting: dict[str, list]) -> Batch:
        whole = len(fitting["label"]) == self.sizes["train"]  # else read again
        columns = fitting if whole else self._columns("train", range(self.sizes["train"]))
        return self._encoded(columns, "train")

    def batch(self, split: str, indices) -> Batch:
        """Examples of ``split`` at ``indices``, preprocessed and checked; numpy arrays."""
        return self._encoded(self.raw(split, indices), split)

    def raw(self, split: str, indices) -> dict[str, list]:
        """Examples of ``split`` at ``indices`` as the dataset holds them: {column: values}."""
        if split == "test" and not self.test_openings:
            raise PermissionError("the test split is closed: only open_test may read it")
        return self._columns(split, indices)

    def _encoded(self, columns: dict[str, list], split: str) -> Batch:
        inputs, masks = {}, {}
        for name in self.modalities:
            with _rows_named(name, columns, split):
                inputs[name], masks[name] = self.preprocessors[name](columns[name])
            if not np.isfinite(inputs[name]).all():
                bad = int(
                    np.argmin(np.isfinite(inputs[name]).reshape(len(inputs[name]), -1).all(1))
                )
                raise InputError(f"NaN or Inf in '{name}' of {_where(columns, split, bad)}")
        return {"inputs": inputs, "masks": masks, "label": self._labels(columns, split)}

    def _labels(self, columns: dict[str, list], split: str) -> np.ndarray:
        if self.card["task"] != "classification":
            return np.array(columns["label"], np.float32)
        labels = np.array(columns["label"], np.int32)
        wrong = (labels < 0) | (labels >= self.card["classes"])
        if wrong.any():
            bad = int(np.argmax(wrong))
            raise InputError(
                f"label {labels[bad]} of {_where(columns, split, bad)} is outside "
                f"0..{self.card['classes'] - 1}"
            )
        return labels

    def train_arrays(self) -> Batch | None:
        """The whole training split when it is resident, else None."""
        return self._train

    def eval_batches(self, split: str, size: int) -> Iterator[Batch]:
        """Consecutive batches of exactly ``size``, with a ``weight`` [size]: 0 marks the padding.

        ``index`` int32 [size] is each example's place in the split.
        """

        def read(start: int) -> Batch:
            index = np.minimum(np.arange(start, start + size, dtype=np.int32), last)
            weight = (np.arange(start, start + size) <= last).astype(np.float32)
            return self.batch(split, index) | {"weight": weight, "index": index}

        last = self.sizes[split] - 1
        starts = range(0, self.sizes[split], size)
        yield from map(read, starts) if self.resident else _ahead(starts, read)

    def open_test(self, size: int) -> Iterator[Batch]:
        """The one way to the test split; every opening is counted for the record."""
        self.test_openings += 1
        return self.eval_batches("test", size)

    def stream(self, orders: Sequence[np.ndarray]) -> Iterator[Batch]:
        """For each order (any shape of indices, -1 = padding) its examples, leaves [*shape, ...].

        Read ahead in background threads; the order is given, so a resumed run streams the very same
        examples from where it stopped.
        """

        def read(order: np.ndarray) -> Batch:
            flat = self.batch("train", np.maximum(order, 0).reshape(-1))
            return jax.tree.map(lambda x: x.reshape(*order.shape, *x.shape[1:]), flat)

        return _ahead(orders, read)


def _ahead(items: Sequence, read: Callable[[Any], Batch]) -> Iterator[Batch]:
    """``map(read, items)`` in order, read ahead by grain: at most 2 READERS + 1 are in memory."""
    dataset = grain.MapDataset.source(items).map(read)
    return iter(dataset.to_iter_dataset(grain.ReadOptions(READERS, prefetch_buffer_size=READERS)))


def _bytes(value: Any) -> int:
    return len(value) if isinstance(value, str | bytes) else np.asarray(value).nbytes


def _build(card: dict, modality: str, fields: dict):
    if modality not in card["modalities"]:
        raise InputError(
            f"dataset '{card['name']}' has no modality '{modality}'; allowed: "
            f"{', '.join(card['modalities'])}{nearest(modality, card['modalities'])}"
        )
    return build_preprocessor(fields.pop("name"), **fields)


@contextlib.contextmanager
def _rows_named(modality: str, columns: dict[str, list], split: str) -> Iterator[None]:
    """Says which example a preprocessor could not read."""
    try:
        yield
    except RowError as error:
        where = _where(columns, split, error.row)
        raise InputError(f"'{modality}' of {where}: {error}") from error


def _where(columns: dict[str, list], split: str, row: int) -> str:
    name = columns["id"][row] if "id" in columns else row
    return f"example '{name.decode() if isinstance(name, bytes) else name}' of split '{split}'"


def epoch_order(seed: int, epoch: int, n: int, batch: int) -> np.ndarray:
    """The order of one epoch, int32 [steps, batch]; -1 fills the last batch.

    A pure function of (seed, epoch): a counter-based generator (Philox) keyed by both, so neither a
    restart nor the other seeds of a run change it.
    """
    key = np.random.Philox(key=np.array([seed, epoch], np.uint64))
    order = np.random.Generator(key).permutation(n).astype(np.int32)
    steps = -(-n // batch)
    return np.pad(order, (0, steps * batch - n), constant_values=-1).reshape(steps, batch)


def host_part(order: np.ndarray, process: int, processes: int) -> np.ndarray:
    """What one of several processes reads of an order [..., B]: its share of every batch.

    The shares are equal, in the order of the processes, and together the whole; with
    ``epoch_order`` this is a pure function of (seed, epoch, process, processes).
    """
    size = order.shape[-1]
    if size % processes:
        raise InputError(f"batch {size} is not divisible by {processes} processes")
    share = size // processes
    return order[..., process * share : (process + 1) * share]
