"""What all builders of upstream files share: find and check the files, write them as array_record.

A subclass says what it reads (``sources``), what an example holds (``features``), what is known of
the dataset (``card``), and how to read it (``splits``).
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterable, Iterator, Sized
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from mmfuse.data import raw
from mmfuse.data.fields import MAX_SEED, check_choice, check_range
from mmfuse.errors import InputError

Source = raw.RawFile | raw.RawFolder


def text() -> tfds.features.Text:
    """A string; empty where the modality is absent."""
    return tfds.features.Text()


def array(*shape: int | None, dtype: Any = np.float32) -> tfds.features.Tensor:
    """An array; ``None``, at most once, is the number of steps: 0 where the modality is absent."""
    encoding = tfds.features.Encoding.BYTES if shape else tfds.features.Encoding.NONE
    return tfds.features.Tensor(shape=shape, dtype=dtype, encoding=encoding)


@dataclasses.dataclass(kw_only=True)
class FormConfig(tfds.core.BuilderConfig):
    """Which form of a dataset is read, where two hold the same examples.

    Attributes:
      form: "packed", one file that brings its split, or "upstream".
      split_seed: of the split of the upstream form; the packed form has one split, named 0.
    """

    FORMS: ClassVar = ("packed", "upstream")
    dataset: ClassVar[str]

    name: str = ""
    form: str = "packed"
    split_seed: int = 0

    def __post_init__(self):
        check_choice(self.dataset, "form", self.form, self.FORMS)
        highest = MAX_SEED if self.form == "upstream" else 0
        check_range(self.dataset, f"split_seed of form {self.form}", self.split_seed, 0, highest)
        self.name = f"{self.form}-split{self.split_seed}"

    def division(self, packed: str, sizes: dict[str, int]) -> tuple[str, dict[str, Any]]:
        """How the examples were divided, and what the card states of it before they are read.

        Args:
          packed: whose split the packed form has.
          sizes: of its splits; those of the other form depend on the seed.
        """
        if self.form == "packed":
            return packed, {"splits": sizes}
        return f"drawn here, seeded by split_seed {self.split_seed}", {}


class RawBuilder(tfds.core.GeneratorBasedBuilder):
    """A dataset built from upstream files, prepared as array_record, read without TensorFlow."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, raw_data: str | None = None, **kwargs):
        self._raw_data = raw_data
        self._paths: dict[str, Path] | None = None
        super().__init__(**{"file_format": "array_record", **kwargs})

    @classmethod
    @abc.abstractmethod
    def sources(cls, config: Any) -> tuple[Source | tuple[Source, ...], ...]:
        """The upstream files that this configuration reads; a tuple in it: one of these will do."""

    @abc.abstractmethod
    def features(self) -> dict[str, Any]:
        """``{name: TFDS feature}`` of an example, without ``id``; ``label`` among them."""

    @abc.abstractmethod
    def card(self) -> dict[str, Any]:
        """Facts known before the files are read: name, task, classes, modalities, licence, traps.

        What is only known from the files is added by ``note``.
        """

    @abc.abstractmethod
    def splits(self, paths: dict[str, Path]) -> dict[str, Iterable[dict]]:
        """``{split: examples}``, each with an ``id`` that no other example of the dataset has."""

    @property
    def cache_dir(self) -> Path:
        """Where downloads of this dataset go."""
        return Path(self._data_dir_root) / "downloads" / self.card()["name"]

    def locate(self) -> dict[str, Path]:
        """``{source.path: file or folder}`` of all sources: found, fetched if need be, checked."""
        return raw.locate(self.sources(self.builder_config), self._raw_data, self.cache_dir)

    def check_sources(self) -> None:
        """Finds and checks the upstream files, once.

        Raises:
          InputError: for a missing, truncated or altered file.
        """
        if self._paths is None:
            self._paths = self.locate()

    def note(self, **facts: Any) -> None:
        """Adds what preparation found out to the card, which is saved at its end."""
        self.info.metadata.update(facts)

    def download_and_prepare(self, **kwargs: Any) -> None:
        """Finds and checks the upstream files, then writes the dataset, if it is not there yet.

        Raises:
          InputError: for a missing, truncated or altered file, before anything is written.
        """
        if not self.data_path.exists():
            self.check_sources()
        super().download_and_prepare(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict({"id": text(), **self.features()}),
            description=type(self).__doc__,
            disable_shuffling=True,  # the order is that of the files
            metadata=tfds.core.MetadataDict(self.card()),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        del dl_manager  # downloads are checked, resumable and optional: see `raw`
        found = self.splits(self._paths)
        return {split: self._generate_examples(examples) for split, examples in found.items()}

    def _generate_examples(self, examples: Iterable[dict]) -> Iterator[tuple[int, dict]]:
        yield from enumerate(examples)


def same_classes(where: str, found: np.ndarray, wanted: tuple[str, ...]) -> None:
    """Checks that a file has the classes that its labels are counted by.

    Raises:
      InputError: they are others, or in another order.
    """
    names = tuple(found.tolist())
    if names != wanted:
        raise InputError(f"{where}: class_name {names}; expected {wanted}")


def same_rows(dataset: str, split: str, columns: dict[str, Sized]) -> None:
    """Checks that the parts of a split have as many rows as each other.

    Raises:
      InputError: they have not; with the number of rows of each.
    """
    counts = {name: len(rows) for name, rows in columns.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise InputError(f"{dataset}: the parts of split '{split}' differ in rows: {told}")
