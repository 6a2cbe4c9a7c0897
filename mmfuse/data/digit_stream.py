"""``digit_stream``: what comes next in a stream of digits that are written, spoken and spelled.

The worked case of the source article (4.3): from a text, a picture and a sound of one time step,
the next step is predicted. The digits follow a known Markov chain, and each modality shows a wrong
digit with a known probability (`digit_chain`), so that the best reachable accuracy is enumerated.
Pictures are MNIST's, clips FSDD's, of which no two splits share one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from mmfuse.data import avmnist_recipe, avmnist_sources, builder, digit_answers, digit_chain
from mmfuse.data.digit_answers import BANDS, FRAMES, LETTERS, NAMES
from mmfuse.data.fields import MAX_SEED, check_choice, check_range
from mmfuse.data.helpdesk_factors import MODALITIES, bayes_accuracies
from mmfuse.errors import InputError

NAME = "digit_stream"
TARGETS = ("class", "image", "sound", "word")
LARGEST = 1_000_000
WALK, SHOWN, PICTURES, CLIPS, TARGET = range(5)  # what a random stream is for
SPLITS = avmnist_recipe.SPLITS


@dataclasses.dataclass(kw_only=True)
class DigitStreamConfig(tfds.core.BuilderConfig):
    """Which stream, and in which form the next digit is asked for.

    Attributes:
      target: "class"; or a clean "image", "sound" or "word" of the next digit, to be generated.
      audio_error, image_error, text_error: how often each modality shows one of the nine other
        digits instead.
      by_three, by_one: how likely the next digit is three, or one, further on.
      n_train, n_valid, n_test: steps.
      seed: of the chain, the errors and the choice of examples.
    """

    name: str = ""
    target: str = "class"
    audio_error: float = 0.3
    image_error: float = 0.3
    text_error: float = 0.3
    by_three: float = 0.9
    by_one: float = 0.05
    n_train: int = 20_000
    n_valid: int = 2_000
    n_test: int = 5_000
    seed: int = 0

    def __post_init__(self):
        check_choice(NAME, "target", self.target, TARGETS)
        for name in (*(f"{m}_error" for m in MODALITIES), "by_three", "by_one"):
            _check_share(name, getattr(self, name))
        _check_share("by_three + by_one", self.by_three + self.by_one)
        for split, size in self.sizes.items():
            check_range(NAME, f"n_{split}", size, 1, LARGEST)
        check_range(NAME, "seed", self.seed, 0, MAX_SEED)
        errors = "-".join(f"{value:g}" for value in self.errors.values())
        sizes = "-".join(str(size) for size in self.sizes.values())
        chain = f"{self.by_three:g}-{self.by_one:g}"
        self.name = f"{self.target}-errors{errors}-chain{chain}-{sizes}-seed{self.seed}"

    @property
    def errors(self) -> dict[str, float]:
        """Of each modality."""
        return {name: getattr(self, f"{name}_error") for name in MODALITIES}

    @property
    def chain(self) -> np.ndarray:
        """``P(next | digit)``, [10, 10]."""
        return digit_chain.transitions(self.by_three, self.by_one)

    @property
    def sizes(self) -> dict[str, int]:
        """Steps per split."""
        return {"train": self.n_train, "valid": self.n_valid, "test": self.n_test}


def _check_share(name: str, value: object) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value <= 1:
        raise InputError(f"{NAME}: {name} {value} must be a number from 0 to 1")


@dataclasses.dataclass(frozen=True)
class Steps:
    """The draws of one split, N steps."""

    digits: np.ndarray  # int64 [N + 1]: step t asks for digit t + 1
    shown: dict[str, np.ndarray]  # {modality: [N]}
    picture: np.ndarray  # place in ``Material.pictures`` of what is seen, [N]
    clip: np.ndarray  # place in ``Material.frames`` of what is heard, [N]
    target: np.ndarray  # place of the clean picture or clip of the next digit, [N]


class DigitStream(builder.RawBuilder):
    """TFDS builder of ``digit_stream``.

    Features: ``image`` uint8 [28, 28, 1]; ``audio`` float16 [24, 32, 1], log-mel frames of the clip
    (`digit_answers`); ``text``, a word; ``digit``, the true one, and ``codes``, those that audio,
    image and text show; ``label``, and ``label_class``, the next digit. A ``label`` to be generated
    is a picture as ``image``, frames [24, 32] of one voice, standardised by the card's ``sound``,
    or the ids of the letters of a word.
    """

    CONFIG = DigitStreamConfig

    @classmethod
    def sources(cls, config: DigitStreamConfig) -> tuple:
        """Written digits and spoken digits."""
        del config
        return (*avmnist_sources.MNIST, avmnist_sources.FSDD)

    def features(self) -> dict[str, Any]:
        """Three views of a digit, and the next one."""
        label = {
            "class": {"label": builder.array(dtype=np.int64)},
            "image": {"label": builder.array(28, 28, 1, dtype=np.uint8)},
            "sound": {
                "label": builder.array(FRAMES, BANDS),
                "label_mask": builder.array(FRAMES, dtype=np.uint8),
            },
            "word": {"label": builder.array(LETTERS.length, dtype=np.int32)},
        }[self.builder_config.target]
        return label | {
            "image": builder.array(28, 28, 1, dtype=np.uint8),
            "audio": builder.array(FRAMES, BANDS, 1, dtype=np.float16),
            "text": builder.text(),
            "digit": builder.array(dtype=np.int64),
            "codes": builder.array(len(MODALITIES), dtype=np.int64),
            "label_class": builder.array(dtype=np.int64),
        }

    def card(self) -> dict[str, Any]:
        """What it is, whose, and what can be reached."""
        config = self.builder_config
        optima = bayes_accuracies(digit_chain.joint(config.chain, config.errors))
        return digit_answers.TASKS[config.target] | {
            "name": NAME,
            "modalities": list(MODALITIES),
            "splits": config.sizes,
            "errors": config.errors,
            "rule": " ".join(digit_chain.__doc__.split()),
            "seed": config.seed,
            "optima": optima,
            "source": "MNIST; Jakobovski/free-spoken-digit-dataset@26eb9aa",
            "licence": "MNIST CC BY-SA 3.0 (as commonly stated); FSDD CC BY-SA 4.0",
            "citation": "LeCun, Bottou, Bengio, Haffner 1998, Gradient-based learning applied to "
            "document recognition; Jackson et al., Free Spoken Digit Dataset, zenodo 1342401",
            "split_rule": "pictures: upstream test, valid the last 5,000 of training; clips: by "
            "recording number, the same speakers everywhere; a chain of its own for each split",
            "traps": [
                "A modality's own label is wrong as often as its error says: what an encoder reads "
                "can be scored against codes, never against label.",
                "With equal errors two modalities are hardly better than one: where they disagree, "
                "nobody knows which is right. Three can vote.",
            ],
        }

    def splits(self, paths: dict[str, Path]) -> dict[str, Iterator[dict]]:
        """Draws the streams, fits the judge, and computes what is known of the test part."""
        config = self.builder_config
        material = digit_answers.load(paths)
        steps = {split: self._draw(split, material[split]) for split in SPLITS}
        table = digit_chain.joint(config.chain, config.errors)
        self.note(
            **digit_answers.STATED[config.target](material, steps["test"], table, self.data_path)
        )
        scale = self.info.metadata.get("sound")
        return {s: self._examples(s, steps[s], material[s], scale) for s in SPLITS}

    def _draw(self, split: str, material: digit_answers.Material) -> Steps:
        config, number = self.builder_config, SPLITS.index(split)

        def rng(*purpose: int) -> np.random.Generator:
            return np.random.default_rng((config.seed, number, *purpose))

        digits = digit_chain.walk(config.chain, config.sizes[split] + 1, rng(WALK))
        shown = {
            name: digit_chain.corrupted(digits[:-1], error, rng(SHOWN, place))
            for place, (name, error) in enumerate(config.errors.items())
        }
        pool = material.voiced if config.target == "sound" else material.written
        return Steps(
            digits,
            shown,
            avmnist_recipe.places(shown["image"], material.written, rng(PICTURES)),
            avmnist_recipe.places(shown["audio"], material.spoken, rng(CLIPS)),
            avmnist_recipe.places(digits[1:], pool, rng(TARGET)),
        )

    def _examples(
        self, split: str, steps: Steps, material: digit_answers.Material, scale: Mapping | None
    ) -> Iterator[dict]:
        label = digit_answers.LABELS[self.builder_config.target]
        for t, following in enumerate(steps.digits[1:]):
            codes = [steps.shown[name][t] for name in MODALITIES]
            yield {
                "id": f"{split}-{t:06d}",
                "image": material.pictures[steps.picture[t], ..., None],
                "audio": material.frames[steps.clip[t], ..., None].astype(np.float16),
                "text": NAMES[steps.shown["text"][t]],
                "digit": steps.digits[t],
                "codes": np.array(codes),
                "label_class": following,
                **label(int(following), material, steps.target[t], scale),
            }
