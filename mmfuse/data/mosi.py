"""``mosi``: sentiment of 2,199 utterances of 93 film-review videos (CMU-MOSI).

Two honest tables and a trap between them. The utterance features of Poria et al. (2017) belong to
the bc-LSTM split: text and video features were learned with the labels of its training videos. The
official split is for what was not: raw transcripts, and the hand-made audio features.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from mmfuse.data import mosi_sources as sources
from mmfuse.data.builder import RawBuilder, array, text
from mmfuse.data.fields import check_range
from mmfuse.errors import InputError, nearest

CHOICES = {
    "features": ("utterance", "transcript"),
    "split": ("bclstm", "official"),
    "task": ("binary", "regression"),
    "validation": ("test", "train"),
}
CITATION = (
    "Zadeh et al. 2016, MOSI (arXiv:1606.06259); features: Poria et al. 2017, Context-dependent "
    "sentiment analysis in user-generated videos (ACL, P17-1081)"
)
LICENCE = "CMU-MOSI is for academic research; the repository of the features has no licence file"
LEAK = (
    "text and video features were learned with the labels of the bc-LSTM training videos, and 24 "
    "of the 31 official test videos are among those"
)
SPLIT_RULES = {
    "official": "the official split by video, 52/10/31 videos",
    "test": (
        "bc-LSTM split by video; its 31 test videos sorted by id: every third from the second on "
        "(10 videos) is validation, the other 21 are test, so this test set is not the published "
        "one of 752 utterances"
    ),
    "train": (
        "bc-LSTM split by video, test whole (31 videos, 752 utterances); of the 62 training videos "
        "sorted by id every sixth is validation, which says nothing where features were learned "
        "with its labels: fix the epochs and everything else in advance"
    ),
}


@dataclasses.dataclass(kw_only=True)
class MosiConfig(tfds.core.BuilderConfig):
    """Which table of MOSI.

    Attributes:
      features: "utterance": text-CNN, openSMILE and 3D-CNN vectors of each utterance; or
        "transcript": the words, in capitals, and the openSMILE vector.
      split: "bclstm" (62 training and 31 test videos) or "official" (52/10/31).
      task: "binary" (score >= 0 or not) or "regression" of the score in -3..3.
      validation: of the bc-LSTM split, which has none. "test": 10 of its 31 test videos choose the
        epoch and 21 report, so the test set is smaller than the published one. "train": a share of
        the training videos, a formality (the features know their labels; every model scores about
        98 % there), with the whole test set of 752; choose nothing by it.
      context: K > 0 gives the K utterances before and after in the same video as well: [2K+1, F+1]
        a modality with the label of the middle one. The last column is 1 in the middle and 0
        elsewhere, or no model could tell whose label it is. Beyond the ends of the video all is
        zero: preprocess with ``zero_is_missing``. Without it (K = 0) an example is one utterance,
        and a contextual fusion such as ``bc_lstm`` sees a sequence of one step.
      allow_label_leak: accepts text and video features on the official split.
    """

    name: str = ""
    features: str = "utterance"
    split: str = "bclstm"
    task: str = "binary"
    validation: str = "test"
    context: int = 0
    allow_label_leak: bool = False

    def __post_init__(self):
        for field, allowed in CHOICES.items():
            value = getattr(self, field)
            if value not in allowed:
                raise InputError(
                    f"mosi: unknown {field} '{value}'; allowed: {', '.join(allowed)}"
                    f"{nearest(value, allowed)}"
                )
        check_range("mosi", "context", self.context, 0, 62)
        if self.context and self.features != "utterance":
            raise InputError("mosi: context needs features='utterance'; words have no such steps")
        if self.split == "official" and self.validation != "test":
            raise InputError(
                "mosi: validation is a field of the bc-LSTM split; official has its own"
            )
        self._refuse_leak()
        parts = [self.features, self.split, self.task]
        parts += [f"valid-from-{self.validation}"] if self.split == "bclstm" else []
        parts += [f"context{self.context}"] if self.context else []
        self.name = "-".join(parts)

    def _refuse_leak(self) -> None:
        if self.leaks and not self.allow_label_leak:
            raise InputError(
                f"mosi: features='utterance' with split='official' is refused: {LEAK} (a linear "
                "model reads 98.3 % of the labels it was trained on from the text features); use "
                "split='bclstm' or features='transcript', or say allow_label_leak=True"
            )

    @property
    def leaks(self) -> bool:
        """Whether test labels shaped the features."""
        return self.features == "utterance" and self.split == "official"

    @property
    def modalities(self) -> list[str]:
        """Names of the columns, sorted."""
        return ["audio", "text", "video"] if self.features == "utterance" else ["audio", "text"]


class Mosi(RawBuilder):
    """Film reviews on YouTube, 2,199 utterances: words, voice and face; sentiment.

    Features: ``audio`` float32 [73], ``text`` float32 [100] and ``video`` float32 [100], or [2K+1,
    F+1] each with context; or ``text`` the words. ``label`` int64 or the score; ``id`` is the
    upstream VIDEO_INDEX.
    """

    CONFIG = MosiConfig

    @classmethod
    def sources(cls, config: MosiConfig) -> tuple:
        """Transcripts, scores, and the csv files of the modalities."""
        return sources.files(_vectors(config))

    def features(self) -> dict[str, Any]:
        """One vector, or 2K+1, a modality; or words."""
        config, steps = self.builder_config, 2 * self.builder_config.context + 1
        widths = {name: sources.WIDTHS[name] for name in _vectors(config)}
        if config.context:
            named = {name: array(steps, width + 1) for name, width in widths.items()}
        else:
            named = {name: array(width) for name, width in widths.items()}
        named |= {"text": text()} if config.features == "transcript" else {}
        return named | {"label": array(dtype=np.int64 if config.task == "binary" else np.float32)}

    def card(self) -> dict[str, Any]:
        """What is known before the files are read."""
        config = self.builder_config
        binary = {"task": "classification", "classes": 2, "class_names": ["negative", "positive"]}
        scored = {"task": "sentiment", "score_range": [-3, 3]}
        return (binary if config.task == "binary" else scored) | {
            "name": "mosi",
            "modalities": config.modalities,
            "features": config.features,
            "split": config.split,
            "validation": config.validation if config.split == "bclstm" else "official",
            "context": config.context,
            "source": f"{sources.FEATURES}; {sources.SCORES}",
            "licence": LICENCE,
            "citation": CITATION,
            "traps": _traps(config),
            "split_rule": SPLIT_RULES[
                "official" if config.split == "official" else config.validation
            ],
        }

    def splits(self, paths: dict[str, Path]) -> dict[str, list[dict]]:
        """Utterances by split, each video in the order of its utterances."""
        config = self.builder_config
        found = sources.read(paths, _vectors(config))
        self.note(recovered_scores=sorted(sources.RECOVERED))
        if config.split == "bclstm":
            found = _cut(found, config.validation)
        else:
            found = [dataclasses.replace(u, split=u.official) for u in found]
        made = list(_examples(found, config))
        return {s: [e for split, e in made if split == s] for s in ("train", "valid", "test")}


def _vectors(config: MosiConfig) -> tuple[str, ...]:
    """Modalities that are read as vectors."""
    return ("audio", "text", "video") if config.features == "utterance" else ("audio",)


def _traps(config: MosiConfig) -> list[str]:
    traps = [
        "Acc-2 has two readings: has-0 counts a score of 0 as positive, non-0 drops it; the labels "
        "of task 'binary' are has-0.",
        "4 scores are missing upstream and were recovered (see recovered_scores).",
    ]
    if config.features == "utterance":
        traps.append(f"Label leak: {LEAK}. Training accuracy says nothing.")
    if config.split == "bclstm" and config.validation == "test":
        traps.append("The test set, 21 videos, is a part of the published one of 31.")
    elif config.split == "bclstm":
        traps.append("Validation is cut from the training videos: choose nothing by its scores.")
    if config.leaks:
        traps.append("allow_label_leak was given: these test numbers are too good.")
    return traps


def _cut(found: list[sources.Utterance], validation: str) -> list[sources.Utterance]:
    """Moves whole videos of one side of the bc-LSTM split to validation, see ``SPLIT_RULES``."""
    videos = sorted({u.video for u in found if u.split == validation})
    chosen = videos[1::3] if validation == "test" else videos[::6]
    return [dataclasses.replace(u, split="valid") if u.video in chosen else u for u in found]


def _examples(found: list[sources.Utterance], config: MosiConfig) -> Iterator[tuple[str, dict]]:
    """(split, example) of every utterance."""
    for i, utterance in enumerate(found):
        if config.context:
            columns = _in_context(found, i, config.context)
        else:
            columns = dict(utterance.vectors)
        if config.features == "transcript":
            columns["text"] = utterance.transcript
        label = int(utterance.positive) if config.task == "binary" else np.float32(utterance.score)
        yield utterance.split, {"id": utterance.id, "label": label, **columns}


def _in_context(found: list[sources.Utterance], i: int, reach: int) -> dict[str, np.ndarray]:
    """{modality: [2 reach + 1, F + 1]} around utterance ``i``; zeros where the video has none."""
    made = {}
    for name, middle in found[i].vectors.items():
        rows = np.zeros((2 * reach + 1, len(middle) + 1), np.float32)
        for step, j in enumerate(range(i - reach, i + reach + 1)):
            if 0 <= j < len(found) and found[j].video == found[i].video:
                rows[step, :-1] = found[j].vectors[name]
        rows[reach, -1] = 1
        made[name] = rows
    return made
