"""``maec``: how the next sentence of an earnings call will be spoken, or which words it will have.

320 calls of MAEC (Li et al. 2020): every sentence as text and as 29 voice features (Praat) of the
same sentence. From sentence t, and the voice of the W sentences before it, sentence t + 1 is to be
predicted: its voice, or its words. There is no picture.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from mmfuse.data import builder, raw
from mmfuse.data.fields import check_choice, check_range
from mmfuse.data.maec_references import bags, of_voice, of_words
from mmfuse.data.maec_sources import CLIP, FEATURES, SPLITS, Call, Scale, read
from mmfuse.data.text import STOP_WORDS, tokenise
from mmfuse.errors import InputError

NAME = "maec"
TARGETS = ("voice", "words")
REFERENCE_WORDS = 1000  # of the text that the ridge among the references reads
REPOSITORY = (
    "Earnings-Call-Dataset/"
    "MAEC-A-Multimodal-Aligned-Earnings-Conference-Call-Dataset-for-Financial-Risk-Prediction"
)
PACKED = raw.RawFile(
    "maec/maec_320.npz",
    None,  # upstream has two files a call, of 3,443 calls
    4_908_274,
    "29e541188e401f099703c07ef28cfbcbf02d665bde6d5b2ededb9e11c6135942",
)


@dataclasses.dataclass(kw_only=True)
class MaecConfig(tfds.core.BuilderConfig):
    """What is predicted, and how much of the past is shown.

    Attributes:
      target: "voice", the 29 features of the next sentence; or "words", which of the most frequent
        words of training it has.
      history: W, the sentences before t whose voice is shown as well; 0 = none, no such modality.
      words: of target "words", how many words.
    """

    name: str = ""
    target: str = "voice"
    history: int = 16
    words: int = 500

    def __post_init__(self):
        check_choice(NAME, "target", self.target, TARGETS)
        check_range(NAME, "history", self.history, 0, 200)
        check_range(NAME, "words", self.words, 1, 20_000)
        if self.target == "voice" and self.words != type(self).words:
            raise InputError(f"{NAME}: words has no influence on target 'voice'")
        target = self.target + (str(self.words) if self.target == "words" else "")
        self.name = f"{target}-history{self.history}"

    @property
    def modalities(self) -> list[str]:
        """Names of the columns, sorted."""
        return ["audio", "history", "text"] if self.history else ["audio", "text"]


class Maec(builder.RawBuilder):
    """TFDS builder of ``maec``: earnings calls, sentence by sentence; predict the next one.

    Features: ``text``, sentence t; ``audio`` float32 [29], its voice; ``history`` float32 [T, 29],
    that of the T <= W sentences before, the newest last; ``label`` float32 [29] with ``label_mask``
    uint8 [29], the voice of sentence t + 1 and which of it is defined, or ``label`` uint8 [words];
    ``group``, the call; ``id``, the call and t, from 0.

    All voice is standardised with the defined values of the training calls, clipped at 5 standard
    deviations, and 0, the training mean, where undefined: inputs and label have the same unit.
    """

    CONFIG = MaecConfig
    VERSION = tfds.core.Version("1.1.0")  # 1.1: with references in the card

    @classmethod
    def sources(cls, config: MaecConfig) -> tuple[builder.Source, ...]:
        """One packed file."""
        del config
        return (PACKED,)

    def features(self) -> dict[str, Any]:
        """A text, vectors, and what is to be predicted."""
        config = self.builder_config
        named = {"text": builder.text(), "audio": builder.array(FEATURES)}
        named |= {"history": builder.array(None, FEATURES)} if config.history else {}
        if config.target == "words":
            label = {"label": builder.array(config.words, dtype=np.uint8)}
        else:
            mask = builder.array(FEATURES, dtype=np.uint8)
            label = {"label": builder.array(FEATURES), "label_mask": mask}
        return named | {"group": builder.text()} | label

    def card(self) -> dict[str, Any]:
        """What it is, whose, and what to beware of; the scale is added when it is known."""
        config = self.builder_config
        task = {
            "voice": {"task": "vector", "width": FEATURES},
            "words": {"task": "multilabel", "width": config.words},
        }[config.target]
        return task | {
            "name": NAME,
            "modalities": config.modalities,
            "target": config.target,
            "history": config.history,
            "grouped_by": "call",
            "source": f"github.com/{REPOSITORY}@65a109f, 320 of its 3,443 calls, as packed",
            "licence": "CC BY-SA 4.0",
            "citation": "Li et al. 2020, MAEC (CIKM, doi 10.1145/3340531.3412879)",
            "split_rule": "that of the packed file, by date: 220 calls of 2015 and 2016, 40 of the "
            "first half of 2017, 60 from July 2017 on; no company in two splits",
            "traps": _traps(config),
        }

    def splits(self, paths: dict[str, Path]) -> dict[str, Iterator[dict]]:
        """Reads the calls, scales their voice and pairs each sentence with the next."""
        calls, names = read(paths[PACKED.path])
        scale = Scale.fit(calls)
        self.note(feature_names=names, mean=scale.mean.tolist(), std=scale.std.tolist())
        config, vocabulary = self.builder_config, None
        parts = {split: [call for call in calls if call.split == split] for split in SPLITS}
        if config.target == "words":
            vocabulary = frequent(calls, config.words)
            self.note(words=vocabulary, references=of_words(parts, vocabulary))
        else:
            read_words = ranked(calls)[:REFERENCE_WORDS]
            self.note(references=of_voice(parts, scale, config.history, read_words))
        return {s: examples(own, scale, config.history, vocabulary) for s, own in parts.items()}


def _traps(config: MaecConfig) -> list[str]:
    traps = [
        "Lowest and highest intensity are swapped upstream, in most calls, not in all: they are "
        "put in order here, row by row.",
        "A lowest intensity of -300 dB stands for digital silence: it counts as undefined here, "
        "like what Praat called undefined.",
        f"Undefined voice is 0, the training mean; values are clipped at {CLIP:g} sd.",
        "Speakers change within a call, and names are <UNK>.",
        "The last sentence of a call has no next one: a call of n sentences has n - 1 examples.",
        "Sentences of one call are not independent: draw whole calls (group) in a bootstrap.",
    ]
    if config.target == "words":
        traps.append("Function words (the short list of mmfuse) are not among the words to tell.")
    return traps


def ranked(calls: Sequence[Call]) -> list[str]:
    """The words of the training sentences, the most frequent first, without function words."""
    counts = Counter(
        word
        for call in calls
        if call.split == "train"
        for sentence in call.sentences
        for word in tokenise(sentence, STOP_WORDS)
    )
    return sorted(counts, key=lambda word: (-counts[word], word))


def frequent(calls: Sequence[Call], count: int) -> list[str]:
    """The first ``count`` of the ``ranked`` words.

    Raises:
      InputError: there are fewer.
    """
    words = ranked(calls)
    if len(words) < count:
        raise InputError(f"maec: words {count}, but training has only {len(words)} words")
    return words[:count]


def examples(
    calls: Sequence[Call], scale: Scale, history: int, vocabulary: Sequence[str] | None
) -> Iterator[dict]:
    """One example for each sentence that has a next one, in the order of the calls."""
    for call in calls:
        voice = scale(call)
        said = None if vocabulary is None else bags(call.sentences, vocabulary)
        for t in range(len(call.sentences) - 1):
            example = {
                "id": f"{call.name}-{t}",
                "group": call.name,
                "text": call.sentences[t],
                "audio": voice[t],
            }
            if history:
                example["history"] = voice[max(0, t - history) : t]
            if said is None:
                example |= {"label": voice[t + 1], "label_mask": call.defined[t + 1].astype("u1")}
            else:
                example["label"] = said[t + 1]
            yield example
