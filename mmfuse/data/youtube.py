"""``youtube``: 269 opinion videos in three sentiment classes, most of their frames missing."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from mmfuse.data import mfn
from mmfuse.data.builder import RawBuilder, array
from mmfuse.data.raw import RawFile
from mmfuse.errors import InputError

CLASSES = 3
CITATION = f"Morency et al. 2011, Towards multimodal sentiment analysis (ICMI); {mfn.MFN}"
TRAPS = [
    "83 % of the audio steps and 96 % of the video steps are zeros, and most examples have neither "
    "modality: a test of missing modalities, not a benchmark of fusion.",
    "60 test videos: a standard error of about 6 points.",
    "Which class is negative, neutral or positive is not said upstream.",
]
PACKED = RawFile(
    "youtube_mfn/youtube_mfn.npz",
    None,  # upstream has one h5 file an array
    1441832,
    "2cadceb112349bc3d3fe6314f5136afe40726dce99f1988a64688f20ae16af73",
)


@dataclasses.dataclass(kw_only=True)
class YoutubeConfig(tfds.core.BuilderConfig):
    """What an example has.

    Attributes:
      modalities: of audio, video and text. Text is there in validation and test only, and absent
        in training.
    """

    name: str = ""
    modalities: tuple[str, ...] = ("audio", "video")

    def __post_init__(self):
        self.modalities = mfn.checked_modalities("youtube", self.modalities)
        self.name = "-".join(self.modalities)


class Youtube(RawBuilder):
    """Opinion videos by word, 269 of them: voice and face, mostly missing; 3 sentiment classes.

    Features: ``audio`` float32 [T, 74], ``video`` float32 [T, 36], ``text`` float32 [T, 300],
    T = 20 or 0; ``label`` int64; ``id``.
    """

    CONFIG = YoutubeConfig

    @classmethod
    def sources(cls, config: YoutubeConfig) -> tuple:
        """One packed file."""
        del config
        return (PACKED,)

    def features(self) -> dict[str, Any]:
        """Sequences of frames."""
        named = {m: array(None, mfn.WIDTHS[m]) for m in self.builder_config.modalities}
        return named | {"label": array(dtype=np.int64)}

    def card(self) -> dict[str, Any]:
        """What is known before the files are read."""
        return {
            "name": "youtube",
            "task": "classification",
            "classes": CLASSES,
            "class_names": [f"class {c}" for c in range(CLASSES)],
            "modalities": list(self.builder_config.modalities),
            "source": mfn.SOURCE,
            "licence": mfn.LICENCE,
            "citation": CITATION,
            "traps": [*mfn.TRAPS, *TRAPS],
            "split_rule": mfn.SPLIT_RULE,
        }

    def splits(self, paths: dict[str, Path]) -> dict[str, list[dict]]:
        """The videos of each split, in upstream order."""
        made, missing = {}, {}
        with np.load(paths[PACKED.path], allow_pickle=False) as packed:
            for split in mfn.SPLITS:
                labels = _classes(packed[f"{split}_y"], split)
                sequences = {
                    m: _sequences(packed, split, m, len(labels))
                    for m in self.builder_config.modalities
                }
                made[split] = list(mfn.examples("youtube", split, sequences, labels))
                missing[split] = mfn.absent(sequences)
        self.note(absent=missing)
        return made


def _sequences(packed, split: str, modality: str, n: int) -> np.ndarray:
    """[N, 20, F], or [N, 0, F] for the text of training."""
    if (split, modality) == ("train", "text"):
        return mfn.without_frames(n, modality)
    return packed[f"{split}_{modality}"]


def _classes(onehot: np.ndarray, split: str) -> list[int]:
    """Class numbers of one-hot rows [N, 3]."""
    if onehot.shape[1:] != (CLASSES,) or not (np.sort(onehot) == [0, 0, 1]).all():
        raise InputError(
            f"youtube: labels of split '{split}' are not one-hot over {CLASSES} classes"
        )
    return onehot.argmax(1).tolist()
