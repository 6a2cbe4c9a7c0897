"""``emodb``: ten German sentences, spoken by ten actors in seven emotions; leave one speaker out.

The sentences are the same in every emotion, so that the text can not help by design: no fusion
should do better for it, and none may do worse than the sound alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from mmfuse.data import builder, logistic, raw, safe
from mmfuse.data.fields import check_choice
from mmfuse.data.references import reference
from mmfuse.errors import InputError

NAME = "emodb"
EMOTIONS = {  # the letter of a clip's name (German), and the class
    "W": "anger", "L": "boredom", "E": "disgust", "A": "fear", "F": "happiness", "T": "sadness",
    "N": "neutral",
}  # fmt: skip
CLASS_NAMES = tuple(EMOTIONS.values())
SPEAKERS = (3, 8, 9, 10, 11, 12, 13, 14, 15, 16)
FRAMES, BANDS = 99, 40
SHAPES = {"frames": (FRAMES, BANDS), "pooled": (3 * BANDS,)}
AUDIO = tuple(SHAPES)
FLOOR = -80.0  # dB below the loudest value of a clip
PACKED = raw.RawFile(
    "emodb/emodb_logmel.npz",
    None,
    1_965_843,
    "11bf75aeaa44c27c037b6d0f7b70c362f0d13637db0be01715d1dc73b003e95f",
)


@dataclasses.dataclass(kw_only=True)
class EmodbConfig(tfds.core.BuilderConfig):
    """Who is tested, and what is heard of a clip.

    Attributes:
      speaker: the one who is tested. The next one, in a circle, is for validation.
      audio: "frames", or "pooled": one vector, what the bands do over time.
    """

    name: str = ""
    speaker: int = SPEAKERS[0]
    audio: str = AUDIO[0]

    def __post_init__(self):
        check_choice(NAME, "speaker", self.speaker, SPEAKERS)
        check_choice(NAME, "audio", self.audio, AUDIO)
        self.name = f"{self.audio}-speaker{self.speaker}"

    @property
    def validation(self) -> int:
        """The speaker for validation: the one after the test's, and after the last the first."""
        return after(self.speaker)


def after(speaker: int) -> int:
    """The next speaker, in a circle."""
    return SPEAKERS[(SPEAKERS.index(speaker) + 1) % len(SPEAKERS)]


class Emodb(builder.RawBuilder):
    """TFDS builder of ``emodb``: the emotion of a spoken sentence.

    Features: ``audio`` float32 [99, 40], 40 mel bands, 50 frames a second, in dB from -80 to 0, the
    clip's maximum; or float32 [120], what ``pooled`` makes of them; ``text``, which of the ten
    sentences, as its code (a01 .. b10); ``label`` as ``class_names``; ``id`` the name of the clip.
    """

    CONFIG = EmodbConfig
    VERSION = tfds.core.Version("1.2.0")  # 1.1: the card has references; 1.2: pooled sound

    @classmethod
    def sources(cls, config: EmodbConfig) -> tuple[builder.Source, ...]:
        """The packed spectrograms."""
        return (PACKED,)

    def features(self) -> dict[str, Any]:
        """A spectrogram and a code."""
        return {
            "audio": builder.array(*SHAPES[self.builder_config.audio]),
            "text": builder.text(),
            "label": builder.array(dtype=np.int64),
        }

    def card(self) -> dict[str, Any]:
        """What it is, whose, and what to beware of."""
        config = self.builder_config
        return {
            "name": NAME,
            "task": "classification",
            "classes": len(CLASS_NAMES),
            "class_names": list(CLASS_NAMES),
            "modalities": ["audio", "text"],
            "source": "github.com/sylaschacko/voice-emotion-analysis@4b0f64c, wav/; spectrograms "
            "made of it: 16 kHz, Hann 512, hop 320",
            "licence": "none in the repository; EmoDB is free for research",
            "citation": "Burkhardt et al. 2005, A Database of German Emotional Speech "
            "(Interspeech)",
            "split_rule": f"leave one speaker out: test is speaker {config.speaker}, valid is "
            f"speaker {config.validation}, train are the other eight",
            "traps": [
                "The recordings are not the original ones: they are cut or padded to 2.0 seconds, "
                "so published accuracies do not apply.",
                "The text can not help by design: the same ten sentences in every emotion.",
                "A row needs the mean over all ten speakers; one alone has 35 to 71 clips.",
                "Use recall_macro (unweighted average recall): speakers differ in their emotions.",
                "Speakers 3 and 10 have one clip of disgust, and 8 has none.",
                "Padding at the end of a short clip is silence, at -80 dB, and no mask says so.",
            ],
        }

    def splits(self, paths: dict[str, Path]) -> dict[str, Iterator[dict]]:
        """Reads the clips and gives each speaker to a split."""
        config, clips = self.builder_config, read(paths[PACKED.path])
        self.note(references=references(clips))
        split = np.where(clips["speaker"] == config.speaker, "test", "train")
        split[clips["speaker"] == config.validation] = "valid"
        return {
            part: _examples(clips, split == part, config) for part in ("train", "valid", "test")
        }


def read(path: Path) -> dict[str, np.ndarray]:
    """``clip``, ``logmel`` uint8 [N, 99, 40], ``speaker``, ``sentence`` and ``label`` [N].

    Raises:
      InputError: the classes are others, the columns do not fit each other, or a clip's name says
        another speaker, sentence or emotion.
    """
    arrays, where = safe.read_npz(path), str(path)
    builder.same_classes(where, safe.pick(arrays, "class_name", where), CLASS_NAMES)
    clips = {
        name: safe.pick(arrays, name, where)
        for name in ("clip", "logmel", "speaker", "sentence", "label")
    }
    builder.same_rows(NAME, "all", clips)
    if clips["logmel"].shape[1:] != (FRAMES, BANDS) or clips["logmel"].dtype != np.uint8:
        raise InputError(f"{where}: logmel is {clips['logmel'].dtype} {clips['logmel'].shape[1:]}")
    letters = list(EMOTIONS)
    for clip, speaker, sentence, label in zip(
        *(clips[name].tolist() for name in ("clip", "speaker", "sentence", "label")), strict=True
    ):
        known = speaker in SPEAKERS and 0 <= label < len(letters)
        if not known or not clip.startswith(f"{speaker:02d}{sentence}{letters[label]}"):
            raise InputError(
                f"{where}: clip '{clip}' with speaker {speaker}, sentence {sentence} and label "
                f"{label}; a name is speaker, sentence, letter of the emotion, version"
            )
    return clips


def references(clips: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Accuracy and macro recall of linear models, over the clips of all ten speakers together.

    Each speaker is answered by a model of the eight that train when it is tested. The first reads
    a clip's log-mel bands, pooled over time: mean, standard deviation and mean absolute step from
    frame to frame; the second which sentence it is, which can not tell the emotion.
    """
    sentences = np.unique(clips["sentence"])
    inputs = {
        "pooled log-mel": pooled(clips["logmel"]),
        "sentence": (clips["sentence"][:, None] == sentences[None]).astype(np.float64),
    }
    label, found = clips["label"].astype(int), []
    for name, x in inputs.items():
        answer = np.zeros_like(label)
        for speaker in SPEAKERS:
            test = clips["speaker"] == speaker
            train = ~test & (clips["speaker"] != after(speaker))
            answer[test] = logistic.answers(x, label, train, test)
        right = answer == label
        values = {
            "accuracy": right.mean(),
            "recall_macro": np.mean([right[label == kind].mean() for kind in np.unique(label)]),
        }
        model = f"logistic regression on {name}, ten speakers together"
        found += [reference(model, metric, value) for metric, value in values.items()]
    return found


def pooled(logmel: np.ndarray) -> np.ndarray:
    """Mean, standard deviation and mean absolute step of each band: [N, T, F] to [N, 3 F]."""
    x = logmel.astype(np.float64)
    return np.concatenate([x.mean(1), x.std(1), np.abs(np.diff(x, axis=1)).mean(1)], axis=1)


def _examples(
    clips: dict[str, np.ndarray], chosen: np.ndarray, config: EmodbConfig
) -> Iterator[dict]:
    heard = (clips["logmel"] / np.float32(255) - 1) * np.float32(-FLOOR)
    if config.audio == "pooled":
        heard = pooled(heard).astype(np.float32)
    for row in np.flatnonzero(chosen).tolist():
        yield {
            "id": str(clips["clip"][row]),
            "audio": heard[row],
            "text": str(clips["sentence"][row]),
            "label": int(clips["label"][row]),
        }
