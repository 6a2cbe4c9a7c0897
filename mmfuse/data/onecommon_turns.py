"""Turns of ``onecommon`` as word ids, and the wrong answers among which the right one is found."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmfuse.data.onecommon_sources import THEM, YOU, Side, Turn
from mmfuse.data.words import Words
from mmfuse.errors import InputError

CHOICES = 10
SPEAKERS = {YOU: "yousay", THEM: "theysay"}


def spoken(turns: Sequence[Turn]) -> str:
    """Turns as one text; who speaks is a word that every tokeniser keeps and nobody says."""
    return " ".join(f"{SPEAKERS[who]} {words}" for who, words in turns)


def own_turns(side: Side) -> list[int]:
    """The places in the dialogue of what YOU said."""
    return [place for place, (who, _) in enumerate(side.turns) if who == YOU]


def own_words(train: Sequence[Side], min_count: int, length: int) -> Words:
    """The words that YOU said at least ``min_count`` times in training."""
    said = [side.turns[place][1].split() for side in train for place in own_turns(side)]
    return Words.fit(said, min_count, length)


def _enough(pool: Sequence[tuple[str, np.ndarray]]) -> bool:
    return len({ids.tobytes() for _, ids in pool}) >= 2 * CHOICES


class Answers:
    """Own turns of training, by their place in the dialogue, from which wrong answers are drawn.

    A place with too few different turns also draws from all later ones; the last places, where
    even these are too few, draw from the pool before them.
    """

    def __init__(self, train: Sequence[Side], words: Words):
        places: dict[int, list[tuple[str, np.ndarray]]] = {}
        for side in train:
            for place in own_turns(side):
                ids = words(side.turns[place][1])
                places.setdefault(place, []).append((side.dialogue, ids))
        self._pools: dict[int, list[tuple[str, np.ndarray]]] = {}
        late: list[tuple[str, np.ndarray]] = []
        for place in range(max(places, default=-1), -1, -1):
            here = places.get(place, [])
            late = here + late
            pool = here if _enough(here) else late
            if _enough(pool):
                self._pools[place] = pool
        if 0 not in self._pools:
            raise InputError(
                f"onecommon: too few turns in training to draw {CHOICES - 1} wrong answers from"
            )

    def draw(
        self, dialogue: str, place: int, right: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, int]:
        """The right answer among nine others, ids int32 [10, length], and where it is.

        The others are turns of other training dialogues at the same place; no two candidates are
        alike.
        """
        pool = self._pools[min(place, max(self._pools))]
        found, seen = [], {right.tobytes()}
        for i in rng.permutation(len(pool)):
            other, ids = pool[i]
            if other != dialogue and ids.tobytes() not in seen:
                found.append(ids)
                seen.add(ids.tobytes())
            if len(found) == CHOICES - 1:
                break
        else:
            raise InputError(f"onecommon: too few turns at place {place} to draw from")
        label = int(rng.integers(CHOICES))
        return np.stack([*found[:label], right, *found[label:]]), label
