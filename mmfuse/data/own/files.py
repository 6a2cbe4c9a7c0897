"""``manifest``: the user's own text, pictures, sounds and feature arrays, as one dataset.

Pictures and sounds are kept as the bytes of their files, arrays as float32 [T, F] (a vector has
T = 1), text as text; an absent modality is an empty value. The dataset's name holds a hash of the
rows and of all file contents, so that changed files are another dataset.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from mmfuse.data import builder
from mmfuse.data.own.cells import value
from mmfuse.data.own.checks import SPLITS, label_of
from mmfuse.data.own.survey import allowed, checked, survey
from mmfuse.data.own.table import Row
from mmfuse.errors import InputError


@dataclasses.dataclass(kw_only=True)
class OwnFilesConfig(tfds.core.BuilderConfig):
    """The manifest, and what it may hold (``checks.ALLOWANCES``, with commas between).

    Every file is read and checked here, before anything is written.
    """

    name: str = ""
    path: str = ""
    allow: str = ""

    def __post_init__(self):
        if not self.path:
            raise InputError("dataset 'manifest' needs a file: --config.data.manifest=FILE.csv")
        self.survey = checked(survey(self.path, self.allow))
        for note in self.survey.notes():
            logging.warning("%s: %s", self.path, note)
        self.name = self.survey.fingerprint()[:20]


class OwnFiles(builder.RawBuilder):
    """Your own files: a manifest (CSV or JSONL) names a split, a label and files for each row."""

    CONFIG = OwnFilesConfig

    @classmethod
    def sources(cls, config: OwnFilesConfig) -> tuple:
        """None that could be downloaded: the manifest says where everything is."""
        return ()

    def features(self) -> dict[str, Any]:
        """Encoded files are bytes, which TFDS stores as text."""
        survey = self.builder_config.survey
        dtype = np.int32 if survey.task == "classification" else np.float32
        return {"label": builder.array(dtype=dtype)} | {
            name: builder.array(None, survey.width(name)) if kind == "features" else builder.text()
            for name, kind in survey.table.modalities.items()
        }

    def card(self) -> dict[str, Any]:
        """What is known of the user's own data; nothing in it depends on where they lie."""
        survey = self.builder_config.survey
        classes = {"classes": len(survey.classes), "class_names": survey.classes}
        return {
            "name": "manifest",
            "task": survey.task,
            **(classes if survey.task == "classification" else {}),
            "modalities": sorted(survey.table.kinds),
            "kinds": survey.table.modalities,
            "splits": {split: len(survey.rows(split)) for split in SPLITS},
            "split_rule": "The manifest's column split.",
            "source": "the user's own files",
            "licence": "the user's own",
            "citation": "",
            "traps": [],
        }

    def splits(self, paths: dict[str, Path]) -> dict[str, Iterator[dict]]:
        """The rows of each split in the manifest's order."""
        survey = self.builder_config.survey
        return {split: map(self._example, survey.rows(split)) for split in SPLITS}

    def _example(self, row: Row) -> dict:
        config = self.builder_config
        survey = config.survey
        if survey.task == "classification":
            label = survey.classes.index(label_of(row))
        else:
            label = float(row.cells["target"])
        return {"id": row.cells["id"], "label": label} | {
            name: self._value(row, name) for name in survey.table.kinds
        }

    def _value(self, row: Row, name: str) -> Any:
        survey = self.builder_config.survey
        facts = survey.found.get((row.number, name))
        if facts is None:
            empty = np.zeros((0, survey.width(name)), np.float32)
            return empty if survey.table.kinds[name] == "features" else b""
        outside = "outside" in allowed(self.builder_config.allow)
        return value(facts, row.cells[name], survey.table.path.parent, outside)
