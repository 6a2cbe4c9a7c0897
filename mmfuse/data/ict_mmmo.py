"""``ict_mmmo``: online video reviews and the score that their speaker gives (ICT-MMMO)."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from mmfuse.data import mfn
from mmfuse.data.builder import RawBuilder, array
from mmfuse.data.raw import RawFile
from mmfuse.errors import InputError, nearest

TASKS = ("regression", "binary")
POSITIVE = 3.5  # a review of at least so many of 5 is positive
CITATION = f"Wollmer et al. 2013, YouTube movie reviews (IEEE Intelligent Systems); {mfn.MFN}"
SENTINEL = "-255 in audio column 7 is no measurement: preprocess with sentinel=-255."
SIZES = {  # of each h5 file: bytes, sha256
    "audio_train": (2606848, "4c37e59d75bf1fe17baf6d607e4e7eef228b9b16a145f64c9624d2fc8fcb1666"),
    "audio_valid": (475648, "37b39911ee143d712e36d1fcba5b41400d2b40bef9de3da419de7344486eb8e9"),
    "audio_test": (949248, "1d701dc193b3e4404e35b97165fd33af19aff50d193a744488ec4c87ea0d6c44"),
    "video_train": (1269248, "2b7d7d442c1ef7aae0c06d19a845baeb5f8685ee844900f30d6cce643da42452"),
    "video_valid": (232448, "43a44a63e369bca2fc86c54fa42d9b3b30c03657b8f7287bdae60341f4767d8c"),
    "video_test": (462848, "d0bfeb4a0ca249ac766b9c426146e4765b783463112e78665231a82c7b02f176"),
    "y_train": (3808, "872872ba80f2076a2f5287ace2e3cb72dff7abaa01e1906073c1d50a15a84d6e"),
    "y_valid": (2368, "e164e98d53b01e558af6eb232fdc0ca8660f8bd3e76469ca12bef124688a4c8f"),
    "y_test": (2688, "17a83a344f15fc751bf10a052ade48d0944959052b30f33bc2c5216a31ea59ee"),
}
URL = f"https://raw.githubusercontent.com/{mfn.SOURCE.replace('@', '/')}/new_data/mmmo/"
H5 = {
    name: RawFile(f"ict_mmmo_mfn/{name}.h5", f"{URL}{name}.h5", size, sha256)
    for name, (size, sha256) in SIZES.items()
}
TEXT = RawFile(  # the word vectors of valid and test, packed with the rest
    "ict_mmmo_mfn/ict_mmmo_mfn.npz",
    None,
    4935876,
    "68c3db5eabe094eb1768f49e3a392bff8ca132338376536786e22da72b87f68c",
)


@dataclasses.dataclass(kw_only=True)
class IctMmmoConfig(tfds.core.BuilderConfig):
    """Which task, and what an example has.

    Attributes:
      task: "regression" of the score in 1..5, or "binary", a score of at least 3.5.
      modalities: of audio, video and text. Text is there in validation and test only, and absent
        in training.
    """

    name: str = ""
    task: str = "regression"
    modalities: tuple[str, ...] = ("audio", "video")

    def __post_init__(self):
        if self.task not in TASKS:
            raise InputError(
                f"ict_mmmo: unknown task '{self.task}'; allowed: {', '.join(TASKS)}"
                f"{nearest(self.task, TASKS)}"
            )
        self.modalities = mfn.checked_modalities("ict_mmmo", self.modalities)
        self.name = f"{self.task}-{'-'.join(self.modalities)}"


class IctMmmo(RawBuilder):
    """Video reviews by word, 340 of them: voice and face; score 1 to 5. Text in no training review.

    Features: ``audio`` float32 [T, 74], ``video`` float32 [T, 36], ``text`` float32 [T, 300],
    T = 20 or 0; ``label`` the score, or int64; ``id``.
    """

    CONFIG = IctMmmoConfig

    @classmethod
    def sources(cls, config: IctMmmoConfig) -> tuple:
        """The h5 files, and the packed word vectors if text is asked for."""
        names = [name for name in H5 if name.split("_")[0] in (*config.modalities, "y")]
        return (*(H5[n] for n in names), *((TEXT,) if "text" in config.modalities else ()))

    def features(self) -> dict[str, Any]:
        """Sequences of frames."""
        config = self.builder_config
        label = array(dtype=np.int64 if config.task == "binary" else np.float32)
        return {m: array(None, mfn.WIDTHS[m]) for m in config.modalities} | {"label": label}

    def card(self) -> dict[str, Any]:
        """What is known before the files are read."""
        binary = {"task": "classification", "classes": 2, "class_names": ["negative", "positive"]}
        scored = {"task": "regression", "score_range": [1, 5]}
        return (binary if self.builder_config.task == "binary" else scored) | {
            "name": "ict_mmmo",
            "modalities": list(self.builder_config.modalities),
            "source": mfn.SOURCE,
            "licence": mfn.LICENCE,
            "citation": CITATION,
            "traps": [*mfn.TRAPS, SENTINEL, "80 test reviews: a standard error of about 5 points."],
            "split_rule": mfn.SPLIT_RULE,
        }

    def splits(self, paths: dict[str, Path]) -> dict[str, list[dict]]:
        """The reviews of each split, in upstream order."""
        made, missing = {}, {}
        for split in mfn.SPLITS:
            scores = mfn.read_d1(paths[H5[f"y_{split}"].path])
            sequences = {
                m: self._sequences(paths, split, m) for m in self.builder_config.modalities
            }
            made[split] = list(mfn.examples("ict_mmmo", split, sequences, self._labels(scores)))
            missing[split] = mfn.absent(sequences)
        self.note(absent=missing)
        return made

    def _labels(self, scores: np.ndarray) -> list:
        if not (np.isfinite(scores) & (scores >= 1) & (scores <= 5)).all():
            raise InputError("ict_mmmo: a score is outside 1..5")
        if self.builder_config.task == "binary":
            return [int(score >= POSITIVE) for score in scores]
        return list(scores)

    def _sequences(self, paths: dict[str, Path], split: str, modality: str) -> np.ndarray:
        """[N, 20, F], or [N, 0, F] for the text of training."""
        if modality != "text":
            path = paths[H5[f"{modality}_{split}"].path]
            return mfn.read_d1(path, mfn.STEPS, mfn.WIDTHS[modality])
        if split == "train":
            return mfn.without_frames(len(mfn.read_d1(paths[H5["y_train"].path])), "text")
        with np.load(paths[TEXT.path], allow_pickle=False) as packed:
            return packed[f"{split}_text"]
