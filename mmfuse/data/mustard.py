"""``mustard``: sarcasm in television series, from the line, what was said before, and who spoke."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from mmfuse.data.builder import RawBuilder, array, text
from mmfuse.data.fields import MAX_SEED, check_range
from mmfuse.data.raw import RawFile
from mmfuse.errors import InputError, nearest

FOLDS = 5
SPEAKERS = ("text", "one_hot")
VALID_SHARE = 8  # one in so many training lines of each class
SOURCE = "soujanyaporia/MUStARD@b34b5134beeec42a36cdac79330637de9cc9894e"
CITATION = (
    "Castro et al. 2019, Towards multimodal sarcasm detection (an _obviously_ perfect paper) (ACL)"
)
TRAPS = [
    "Who speaks tells much: 120 of Chandler's 158 lines are sarcastic, 5 of Ross's 38. Compare "
    "with the row of the speaker alone, or leave the speaker out.",
    "The folds share speakers and episodes between training and test.",
    "Text only: the voice and face features of MUStARD are not among these files.",
    "138 test lines a fold: a standard error of about 4 points; report all five folds.",
]
LINES = RawFile(
    "mustard/sarcasm_data.json",
    f"https://raw.githubusercontent.com/{SOURCE.replace('@', '/')}/data/sarcasm_data.json",
    374629,
    "ec9533032c5f143f197cb5fa5d4b29ab9bf56a20b0dc05d5b31d052f5957d39c",
)
FOLD_LISTS = RawFile(
    "mustard/split_indices.json",
    None,  # upstream has a pickle of the same lists
    16730,
    "dd496c2a9651fca5c959c18ee340e0f1ef24d0751952027a7695551b325777dd",
)


@dataclasses.dataclass(kw_only=True)
class MustardConfig(tfds.core.BuilderConfig):
    """Which fold, and how the speaker is given.

    Attributes:
      fold: 0 to 4, the repository's own five: 552 lines for training and validation, 138 for test.
      speaker: "text", the name, or "one_hot" over all speakers of the set, sorted.
      seed: of the cut of validation from training.
    """

    name: str = ""
    fold: int = 0
    speaker: str = "text"
    seed: int = 0

    def __post_init__(self):
        check_range("mustard", "fold", self.fold, 0, FOLDS - 1)
        if self.speaker not in SPEAKERS:
            raise InputError(
                f"mustard: unknown speaker form '{self.speaker}'; allowed: {', '.join(SPEAKERS)}"
                f"{nearest(self.speaker, SPEAKERS)}"
            )
        check_range("mustard", "seed", self.seed, 0, MAX_SEED)
        self.name = f"fold{self.fold}-speaker_{self.speaker}-seed{self.seed}"


class Mustard(RawBuilder):
    """Television lines, 690: the line, the lines before it, who speaks; sarcastic or not.

    Features: ``utterance`` text; ``context`` text, the lines before it in order, each behind the
    name of its speaker; ``speaker`` text, or float32 [speakers]; ``label`` int64; ``id`` as
    upstream has it.
    """

    CONFIG = MustardConfig

    @classmethod
    def sources(cls, config: MustardConfig) -> tuple:
        """The lines and the folds."""
        del config
        return (LINES, FOLD_LISTS)

    def features(self) -> dict[str, Any]:
        """Texts, and the speaker as text or as a vector, whose length is a fact of the file."""
        speaker = text() if self.builder_config.speaker == "text" else array(None, dtype=np.float32)
        return {
            "utterance": text(),
            "context": text(),
            "speaker": speaker,
            "label": array(dtype=np.int64),
        }

    def card(self) -> dict[str, Any]:
        """What is known before the files are read."""
        return {
            "name": "mustard",
            "task": "classification",
            "classes": 2,
            "class_names": ["not sarcastic", "sarcastic"],
            "modalities": ["context", "speaker", "utterance"],
            "fold": self.builder_config.fold,
            "seed": self.builder_config.seed,
            "source": SOURCE,
            "licence": "MIT (the repository); the lines are of television series",
            "citation": CITATION,
            "traps": TRAPS,
            "split_rule": (
                "the repository's folds; validation is one in 8 training lines of each class, "
                "drawn by the seed"
            ),
        }

    def splits(self, paths: dict[str, Path]) -> dict[str, list[dict]]:
        """The lines of each split, in upstream order."""
        lines = json.loads(paths[LINES.path].read_text(encoding="utf-8"))
        folds = json.loads(paths[FOLD_LISTS.path].read_text(encoding="utf-8"))
        train, test = folds[self.builder_config.fold]
        if sorted([*train, *test]) != list(range(len(lines))):
            raise InputError(
                f"mustard: fold {self.builder_config.fold} does not hold each of the {len(lines)} "
                "lines once"
            )
        speakers = sorted({line["speaker"] for line in lines.values()})
        self.note(speakers=speakers)
        made = [self._example(i, line, speakers) for i, line in lines.items()]
        valid = self._valid([(i, made[i]["label"]) for i in sorted(train)])
        places = {"train": set(train) - valid, "valid": valid, "test": test}
        return {split: [made[i] for i in sorted(found)] for split, found in places.items()}

    def _valid(self, train: list[tuple[int, int]]) -> set[int]:
        """Places of the validation lines: a share of each class, by (seed, fold)."""
        config = self.builder_config
        key = np.random.Philox(key=np.array([config.seed, config.fold], np.uint64))
        rng, chosen = np.random.Generator(key), set()
        for label in (0, 1):
            places = [i for i, found in train if found == label]
            chosen.update(rng.permutation(places)[: len(places) // VALID_SHARE].tolist())
        return chosen

    def _example(self, identity: str, line: dict, speakers: list[str]) -> dict:
        before = zip(line["context_speakers"], line["context"], strict=True)
        speaker = line["speaker"]
        if self.builder_config.speaker == "one_hot":
            speaker = np.array([name == speaker for name in speakers], np.float32)
        return {
            "id": identity,
            "utterance": line["utterance"],
            "context": " ".join(f"{name}: {said}" for name, said in before),
            "speaker": speaker,
            "label": int(line["sarcasm"]),
        }
