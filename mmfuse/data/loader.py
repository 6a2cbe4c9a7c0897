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
from collections.abc import Iterator
from pathlib import Path

import grain
import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from tensorflow_datasets.core import ExampleSerializer

from mmfuse.data.avmnist import Avmnist
from mmfuse.data.helpdesk import Helpdesk
from mmfuse.data.ict_mmmo import IctMmmo
from mmfuse.data.mosi import Mosi
from mmfuse.data.mustard import Mustard
from mmfuse.data.own_files import OwnFiles
from mmfuse.data.preprocess import build_preprocessor
from mmfuse.data.youtube import Youtube
from mmfuse.errors import InputError, RowError, nearest

DATASETS = {
    "helpdesk": Helpdesk,
    "avmnist": Avmnist,
    "mosi": Mosi,
    "ict_mmmo": IctMmmo,
    "youtube": Youtube,
    "mustard": Mustard,
    "manifest": OwnFiles,
}
FIT_LIMIT = 20_000  # training examples that statistics and vocabularies are taken from, at most
Batch = dict


def make_builder(name: str, fields: dict, *, data_dir: str | None, raw_data: str | None):
    """The TFDS builder of a dataset; an unknown name or field is an InputError."""
    if name not in DATASETS:
        raise InputError(
            f"unknown dataset '{name}' in data.name; allowed: {', '.join(DATASETS)}"
            f"{nearest(name, DATASETS)}"
        )
    builder = DATASETS[name]
    inherited = {f.name for f in dataclasses.fields(tfds.core.BuilderConfig)}
    allowed = [f.name for f in dataclasses.fields(builder.CONFIG) if f.name not in inherited]
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
    ``resident`` (whether the training split is held as arrays).
    """

    def __init__(self, builder, preprocess: dict[str, dict], *, resident_bytes: int):
        self._builder = builder
        self.card = dict(builder.info.metadata)
        self.modalities = tuple(sorted(preprocess))
        self.sizes = {
            split: builder.info.splits[split].num_examples for split in builder.info.splits
        }
        fitting = self._columns("train", range(min(self.sizes["train"], FIT_LIMIT)))
        self.preprocessors = {}
        for name, fields in preprocess.items():
            unfitted = _build(self.card, name, dict(fields))
            with _rows_named(name, fitting, "train"):
                self.preprocessors[name] = unfitted.fit(fitting[name])
        states = {name: p.state() for name, p in self.preprocessors.items()}
        learned = json.dumps([{n: dict(f) for n, f in preprocess.items()}, states], sort_keys=True)
        files = files_fingerprint(builder.data_path)
        self.fingerprint = hashlib.sha256((files + learned).encode()).hexdigest()
        self.resident = self._bytes_per_example() * self.sizes["train"] <= resident_bytes
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
        rows = self._builder.as_data_source(split).__getitems__(list(indices))
        return {name: [row[name] for row in rows] for name in rows[0]}

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
        """Consecutive batches of exactly ``size`` with a ``weight`` [size]: 0 marks the padding."""
        for start in range(0, self.sizes[split], size):
            real = min(size, self.sizes[split] - start)
            indices = np.minimum(np.arange(start, start + size), self.sizes[split] - 1)
            weight = (np.arange(size) < real).astype(np.float32)
            yield self.batch(split, indices) | {"weight": weight}

    def open_test(self, size: int) -> Iterator[Batch]:
        """The one way to the test split; every opening is counted for the record."""
        self.test_openings += 1
        return self.eval_batches("test", size)

    def stream(self, orders: list[np.ndarray]) -> Iterator[Batch]:
        """For each order (any shape of indices, -1 = padding) its examples, flattened in order.

        Read ahead in background threads by grain; the order is given, so a resumed run streams the
        very same examples from where it stopped.
        """
        chunks = grain.MapDataset.source(orders).map(
            lambda order: self.batch("train", np.maximum(order, 0).reshape(-1))
        )
        return iter(
            chunks.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=2))
        )


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
