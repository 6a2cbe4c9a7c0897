"""Prepared datasets as model input: resident in memory, or streamed, with the test split closed.

A prepared dataset (`datasets`) is read by random access without TensorFlow. Preprocessing is fitted
on the training split. What comes out is a tree ``{"inputs": {modality: x}, "masks": {modality:
mask}, "label": y}`` with a leading example axis, and ``"given"`` where the task gives its head
more than the fused tokens.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import grain
import jax
import numpy as np

from mmfuse.data.datasets import files_fingerprint, make_builder, prepare
from mmfuse.data.preprocess import build_preprocessor
from mmfuse.errors import InputError, RowError, nearest
from mmfuse.processes import part
from mmfuse.tasks import make_task

FIT_LIMIT = 20_000  # training examples that statistics and vocabularies are taken from, at most,
FIT_BYTES = 2**29  # and the bytes of them as they are stored, about
READ_AT_ONCE = 256  # examples, while looking for those
STREAMED_BYTES = 2**25  # preprocessed examples that a streamed dispatch holds, about
READERS = max(2, min(16, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 8))
Batch = dict


class Dataset:
    """One prepared and preprocessed dataset.

    A modality is the column of its name, or the one that its ``preprocess`` entry names as
    ``column``: so one column can be read in several ways, words and characters of a text.

    Attributes: ``card`` (the builder's metadata), ``task``, ``sizes`` {split: n}, ``modalities``,
    ``column_of`` {modality: column}, ``preprocessors`` {modality: fitted}, ``fingerprint`` (sha256
    of files and preprocessing),
    ``example_bytes`` (of one preprocessed example), ``resident`` (whether the training split is
    held as arrays), ``test_openings`` (who opened the test split, and for what).
    """

    def __init__(self, builder, preprocess: dict[str, dict], *, resident_bytes: int):
        self._builder = builder
        self.card = dict(builder.info.metadata)
        self.task = make_task(self.card, builder.data_path)
        self.modalities = tuple(sorted(preprocess))
        self.sizes = {
            split: builder.info.splits[split].num_examples for split in builder.info.splits
        }
        self._sources: dict = {}
        fitting = self._fitting()
        self.column_of, self.preprocessors = {}, {}
        for name, fields in preprocess.items():
            column, unfitted = _build(self.card, name, dict(fields))
            with _rows_named(name, fitting, "train"):
                self.preprocessors[name] = unfitted.fit(fitting[column])
            self.column_of[name] = column
        states = {name: p.state() for name, p in self.preprocessors.items()}
        learned = json.dumps([{n: dict(f) for n, f in preprocess.items()}, states], sort_keys=True)
        files = files_fingerprint(builder.data_path)
        self.fingerprint = hashlib.sha256((files + learned).encode()).hexdigest()
        self.example_bytes = self._bytes_per_example()
        self.resident = self.example_bytes * self.sizes["train"] <= resident_bytes
        self._train = self._all_train(fitting) if self.resident else None
        self.test_openings: list[dict[str, str]] = []
        self._sealed = ""  # why nobody may open the test split now

    def _bytes_per_example(self) -> int:
        return sum(part.nbytes for part in jax.tree.leaves(self.batch("train", range(1))))

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
        _check_closed(split)
        return self._columns(split, indices)

    def _encoded(self, columns: dict[str, list], split: str) -> Batch:
        inputs, masks = {}, {}
        for name in self.modalities:
            with _rows_named(name, columns, split):
                raw = columns[self.column_of[name]]
                inputs[name], masks[name] = self.preprocessors[name](raw)
            if not np.isfinite(inputs[name]).all():
                bad = int(
                    np.argmin(np.isfinite(inputs[name]).reshape(len(inputs[name]), -1).all(1))
                )
                raise InputError(f"NaN or Inf in '{name}' of {_where(columns, split, bad)}")
        with _rows_named("label", columns, split):
            label, given = self.task.labels(columns), self.task.given(columns)
        batch = {"inputs": inputs, "masks": masks, "label": label}
        return batch if given is None else batch | {"given": given}

    def train_arrays(self) -> Batch | None:
        """The whole training split when it is resident, else None."""
        return self._train

    def eval_batches(self, split: str, size: int) -> Iterator[Batch]:
        """Consecutive batches of exactly ``size``, with a ``weight`` [size]: 0 marks the padding.

        ``index`` int32 [size] is each example's place in the split. One of several processes reads
        its share of each batch.
        """
        _check_closed(split)
        return self._eval_batches(split, size)

    def _eval_batches(self, split: str, size: int) -> Iterator[Batch]:
        def read(start: int) -> Batch:
            place = host_part(np.arange(start, start + size, dtype=np.int32), *part())
            index = np.minimum(place, last)
            weight = (place <= last).astype(np.float32)
            batch = self._encoded(self._columns(split, index), split)
            return batch | {"weight": weight, "index": index}

        last = self.sizes[split] - 1
        starts = range(0, self.sizes[split], size)
        yield from map(read, starts) if self.resident else _ahead(starts, read)

    def open_test(self, size: int, *, run: str, purpose: str) -> Iterator[Batch]:
        """The one way to the test split, as :meth:`eval_batches`; each opening is for the record.

        Raises:
          PermissionError: this run has opened it for this purpose before, or it is sealed.
        """
        if self._sealed:
            raise PermissionError(f"the test split is sealed while {self._sealed}")
        opening = {"run": run, "purpose": purpose}
        if opening in self.test_openings:
            raise PermissionError(f"{run} has opened the test split for '{purpose}' before")
        self.test_openings.append(opening)
        return self._eval_batches("test", size)

    def test_groups(self) -> np.ndarray | None:
        """Which group (dialogue, call, piece) each test example is of, int32 [N]; None without any.

        Raises:
          PermissionError: the test split was not opened yet.
        """
        if not self.test_openings:
            raise PermissionError("the test split is closed: no run has opened it")
        if "grouped_by" not in self.card:
            return None
        found = self._columns("test", range(self.sizes["test"]))["group"]
        return np.unique(found, return_inverse=True)[1].astype(np.int32)

    @contextlib.contextmanager
    def sealed(self, why: str) -> Iterator[None]:
        """Inside the ``with`` block nobody may open the test split, whoever runs and for what."""
        before, self._sealed = self._sealed, why
        try:
            yield
        finally:
            self._sealed = before

    def stream(self, orders: Sequence[np.ndarray]) -> Iterator[Batch]:
        """For each order (any shape of indices, -1 = padding) its examples, leaves [*shape, ...].

        Read ahead in background threads; the order is given, so a resumed run streams the very same
        examples from where it stopped.
        """

        def read(order: np.ndarray) -> Batch:
            flat = self.batch("train", np.maximum(order, 0).reshape(-1))
            return jax.tree.map(lambda x: x.reshape(*order.shape, *x.shape[1:]), flat)

        return _ahead(orders, read)


def _check_closed(split: str) -> None:
    if split not in ("train", "valid"):  # TFDS also reads "train+test", "all" and "test[:9]"
        raise PermissionError(
            f"'{split}' is closed: train and valid alone are read so, and test by open_test"
        )


def _ahead(items: Sequence, read: Callable[[Any], Batch]) -> Iterator[Batch]:
    """``map(read, items)`` in order, read ahead by grain: at most 2 READERS + 1 are in memory."""
    dataset = grain.MapDataset.source(items).map(read)
    return iter(dataset.to_iter_dataset(grain.ReadOptions(READERS, prefetch_buffer_size=READERS)))


def _bytes(value: Any) -> int:
    return len(value) if isinstance(value, str | bytes) else np.asarray(value).nbytes


def _build(card: dict, modality: str, fields: dict) -> tuple[str, Any]:
    """The column that a modality reads, and its preprocessor, not yet fitted."""
    column = fields.pop("column", modality)
    if column not in card["modalities"]:
        raise InputError(
            f"dataset '{card['name']}' has no modality '{column}'; allowed: "
            f"{', '.join(card['modalities'])}{nearest(column, card['modalities'])}"
        )
    if fields.get("name") == "identity" and column in card.get("ids", {}):
        fields.setdefault("size", card["ids"][column])
    return column, build_preprocessor(fields.pop("name"), **fields)


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


def open_dataset(data: Mapping[str, Any], *, data_dir: str | None, raw_data: str | None) -> Dataset:
    """The dataset that ``config.data`` describes, prepared on first use.

    Args:
      data: ``name``, ``builder``, ``preprocess`` and ``resident_bytes`` of the config.
      data_dir: where prepared datasets lie.
      raw_data: the folder of upstream files.
    """
    builder = make_builder(data["name"], data["builder"], data_dir=data_dir, raw_data=raw_data)
    prepare(builder)
    return Dataset(builder, data["preprocess"], resident_bytes=data["resident_bytes"])
