"""``onecommon``: two people who see different parts of a scene agree on a dot (Udagawa 2019).

Each sees seven dots in a circle, four to six of them shared, and they talk until both choose one.
Three tasks: choose the dot from the view and the dialogue; find the next own turn among ten; say
the next own turn, word by word. The view is seven tokens, or a picture.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from mmfuse.data import builder, raw
from mmfuse.data.fields import MAX_SEED, check_choice, check_range
from mmfuse.data.onecommon_render import SIDE, render
from mmfuse.data.onecommon_sources import DOTS, VALUES, Side, read
from mmfuse.data.onecommon_turns import CHOICES, Answers, own_turns, own_words, spoken
from mmfuse.data.words import END, Words
from mmfuse.errors import InputError

NAME = "onecommon"
TASKS = ("selection", "response", "generation")
VIEWS = ("tokens", "picture")
COMMIT = "19125f2edc38c20341bfbb1756154aacdaa4f149"
FOLDER = "aaai2019/experiments/data/onecommon"
FILES = {
    split: raw.RawFile(
        f"onecommon/{name}",
        f"https://raw.githubusercontent.com/Alab-NII/onecommon/{COMMIT}/{FOLDER}/{name}",
        size,
        sha256,
    )
    for split, name, size, sha256 in (
        (
            "train",
            "train_uncorrelated.txt",
            3_723_501,
            "9e4de04557a16e4305033562b5284c34639ceca6d6e90a638d72a40cc227ff4f",
        ),
        (
            "valid",
            "valid.txt",
            867_980,
            "27b70b30ded6499188b9a5d975fb7da6f7e12ff0f40adc81e1349a0d11634916",
        ),
        (
            "test",
            "test.txt",
            859_903,
            "cb549123805a7ced682df6105c3df1d5a811c2b39f43402ba2cb481bba7b30e9",
        ),
    )
}


@dataclasses.dataclass(kw_only=True)
class OnecommonConfig(tfds.core.BuilderConfig):
    """Which task, and how the view is given.

    Attributes:
      task: "selection", which of the seven dots YOU chose; "response", which of ten turns YOU said
        next; "generation", the words of it.
      view: "tokens", four numbers a dot; or "picture", grey discs on white. Dots are drawn in no
        order, so to choose one of a picture, ``dots`` says where each is, and no more.
      min_count: rarer words of turns are unknown; not of "selection".
      length: words of a turn that are kept, its end included; not of "selection".
      seed: of the wrong answers; of "response" alone.
    """

    name: str = ""
    task: str = "selection"
    view: str = "tokens"
    min_count: int = 10
    length: int = 40
    seed: int = 0

    def __post_init__(self):
        check_choice(NAME, "task", self.task, TASKS)
        check_choice(NAME, "view", self.view, VIEWS)
        check_range(NAME, "min_count", self.min_count, 1, 10_000)
        check_range(NAME, "length", self.length, 2, 100)
        check_range(NAME, "seed", self.seed, 0, MAX_SEED)
        self._refuse_unused()
        parts = [self.task, self.view]
        if self.task != "selection":
            parts.append(f"{self.length}words{self.min_count}")
        self.name = "-".join([*parts, f"seed{self.seed}"] if self.task == "response" else parts)

    def _refuse_unused(self) -> None:
        users = {"min_count": TASKS[1:], "length": TASKS[1:], "seed": TASKS[1:2]}
        for field, tasks in users.items():
            if self.task not in tasks and getattr(self, field) != getattr(type(self), field):
                raise InputError(
                    f"{NAME}: {field} has no influence on task '{self.task}'; it is a field of "
                    f"{', '.join(tasks)}"
                )

    @property
    def dots(self) -> bool:
        """Whether the places of the dots are a modality of their own."""
        return self.task == "selection" and self.view == "picture"

    @property
    def modalities(self) -> list[str]:
        """Names of the columns, sorted."""
        return ["dialogue", *(["dots"] if self.dots else []), "view"]


class Onecommon(builder.RawBuilder):
    """TFDS builder of ``onecommon``: dialogues about a view that two people share in part.

    Features: ``view`` float32 [7, 4] (x, y, size, colour) or uint8 [64, 64, 1]; ``dots`` float32
    [7, 2] where a dot is chosen in a picture; ``dialogue``, all turns, or those so far (empty
    before the first); ``label``: the dot; or the place of the right one of ``candidates`` int32
    [10, length]; or ids int32 [length]. ``group``, the dialogue; ``uncorrelated`` and
    ``success_only``, 1 in the subsets of the published tables; ``id`` the line of the file, and
    the turn.
    """

    CONFIG = OnecommonConfig

    @classmethod
    def sources(cls, config: OnecommonConfig) -> tuple[builder.Source, ...]:
        """A file for each split."""
        return tuple(FILES.values())

    def features(self) -> dict[str, Any]:
        """The view, the dialogue, and what is to be told."""
        config, tokens = self.builder_config, self.builder_config.view == "tokens"
        view = (
            builder.array(DOTS, VALUES) if tokens else builder.array(SIDE, SIDE, 1, dtype=np.uint8)
        )
        label = builder.array(dtype=np.int64)
        named = {"view": view, "dialogue": builder.text(), "group": builder.text()}
        named |= {name: builder.array(dtype=np.uint8) for name in ("uncorrelated", "success_only")}
        if config.dots:
            named["dots"] = builder.array(DOTS, 2)
        if config.task == "response":
            named["candidates"] = builder.array(CHOICES, config.length, dtype=np.int32)
        if config.task == "generation":
            label = builder.array(config.length, dtype=np.int32)
        return named | {"label": label}

    def card(self) -> dict[str, Any]:
        """What it is, whose, and what to beware of; the number of words is added when known."""
        config = self.builder_config
        task = {
            "selection": {"task": "pointing", "choices": DOTS},
            "response": {"task": "matching", "choices": CHOICES},
            "generation": {"task": "words", "end": END},
        }[config.task]
        if config.task == "selection":
            task["points_at"] = "dots" if config.dots else "view"
        return task | {
            "name": NAME,
            "modalities": config.modalities,
            "grouped_by": "dialogue",
            "subsets": ["uncorrelated", "success_only"],
            "source": f"github.com/Alab-NII/onecommon@{COMMIT[:7]}, {FOLDER}/",
            "licence": "no licence file; research use, cite; do not redistribute",
            "citation": "Udagawa and Aizawa 2019, A Natural Language Corpus of Common Grounding "
            "under Continuous and Partially-Observable Context (AAAI)",
            "split_rule": "upstream; no dialogue is in two splits. Training has one side of each "
            "dialogue, validation and test have both",
            "traps": _traps(config),
        }

    def splits(self, paths: dict[str, Path]) -> dict[str, Iterator[dict]]:
        """Reads the sides, and of the tasks with words fits the words on training."""
        config = self.builder_config
        sides = {s: read(paths[f.path], s, paired=s != "train") for s, f in FILES.items()}
        if config.task == "selection":
            return {split: self._selections(found) for split, found in sides.items()}
        words = own_words(sides["train"], config.min_count, config.length)
        sized = "words" if config.task == "response" else "vocabulary"
        self.note(**{sized: len(words), "word": list(words.vocabulary.words)})
        if config.task == "generation":
            return {split: self._turns(found, words) for split, found in sides.items()}
        answers = Answers(sides["train"], words)
        return {s: self._responses(f, s, words, answers) for s, f in sides.items()}

    def _seen(self, side: Side, turns: int) -> dict:
        """What all tasks show: the view, and the first so many turns."""
        view = side.view if self.builder_config.view == "tokens" else render(side.view)
        return {
            "view": view,
            "dialogue": spoken(side.turns[:turns]),
            "group": side.dialogue,
            "uncorrelated": int(side.first),
            "success_only": int(side.first and side.success),
        }

    def _selections(self, sides: Sequence[Side]) -> Iterator[dict]:
        for side in sides:
            seen = self._seen(side, len(side.turns)) | {"id": side.name, "label": side.target}
            yield seen | ({"dots": side.view[:, :2]} if self.builder_config.dots else {})

    def _turns(self, sides: Sequence[Side], words: Words) -> Iterator[dict]:
        """An example for each own turn."""
        for side in sides:
            for place in own_turns(side):
                label = {"label": words(side.turns[place][1])}
                yield self._seen(side, place) | {"id": f"{side.name}-{place}"} | label

    def _responses(
        self, sides: Sequence[Side], split: str, words: Words, answers: Answers
    ) -> Iterator[dict]:
        rng = np.random.default_rng([self.builder_config.seed, list(FILES).index(split)])
        for side in sides:
            for example, place in zip(self._turns([side], words), own_turns(side), strict=True):
                candidates, label = answers.draw(side.dialogue, place, example["label"], rng)
                yield example | {"candidates": candidates, "label": label}


def _traps(config: OnecommonConfig) -> list[str]:
    traps = [
        "Training has half the lines that published models were trained on: one side of each "
        "dialogue, the full file could not be had.",
        "The two sides of a dialogue are not independent: draw whole dialogues (group) in a "
        "bootstrap. The subset uncorrelated has one side of each; success_only, of those, the ones "
        "where both chose the same dot (known in validation and test only).",
        "Who speaks is told by the words 'yousay' and 'theysay'; 'you' and 'them' are stop words, "
        "and 'i', 'it' and 'on' are not noise here: preprocess text with stop_words off.",
    ]
    if config.task == "selection":
        traps.append("People like dots that stand out: compare with the row of the view alone.")
    if config.dots:
        traps.append("'dots' alone tells where dots are: without the picture it is no view.")
    if config.task == "response":
        traps.append(
            "Wrong answers are turns of training dialogues, also in validation and test, where the "
            "right one is not: a model that knows its training turns by heart sees which is new."
        )
    if config.task != "selection":
        traps.append("Before an own first turn there is no dialogue: the modality is absent.")
    return traps
