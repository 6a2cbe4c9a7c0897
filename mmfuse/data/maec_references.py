"""What a straight line tells of the next sentence of a call, and what repeating the last one does.

The inputs are those of the trained rows: sentence t, its voice, and the voice of those before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mmfuse.data.maec_sources import Call, Scale
from mmfuse.data.references import bernoulli_nll, r2, rates, reference, ridge
from mmfuse.data.text import tokenise

PAST = "mean of {} sentences before"


def of_voice(
    calls: Mapping[str, Sequence[Call]], scale: Scale, history: int, words: Sequence[str]
) -> list[dict]:
    """R2 of repeating sentence t, and of ridges on its voice, its words, and the past.

    ``calls`` by split. The past is the mean of what is defined in the W sentences before t: the
    window that the rows see. Of the text it reads these ``words``, by TF-IDF.
    """
    found = {split: _inputs(those, scale, history, words) for split, those in calls.items()}
    weigh = _idf(found["train"]["words"])
    for parts in found.values():
        parts["text"] = weigh(parts["words"])
    of = {name: {s: found[s][name] for s in found} for name in ("voice", "past", "text")}
    y, mask = ({s: found[s][name] for s in found} for name in ("next", "defined"))
    past = PAST.format(history)
    inputs = {"audio": ["voice"], "text": ["text"], "audio + text": ["voice", "text"]}
    if history:
        inputs |= {past: ["past"], f"audio + {past}": ["voice", "past"]}
        inputs[f"audio + text + {past}"] = ["voice", "text", "past"]
    values = {"persistence: the same voice again": r2(of["voice"]["test"], y["test"], mask["test"])}
    for name, parts in inputs.items():
        x = {s: np.concatenate([of[part][s] for part in parts], axis=1) for s in found}
        values[f"ridge: {name}"] = ridge(x, y, mask)
    return [reference(name, "r2", value) for name, value in values.items()]


def of_words(calls: Mapping[str, Sequence[Call]], vocabulary: Sequence[str]) -> list[dict]:
    """The loss of saying of every next sentence how often training has each word."""
    said = {
        split: np.concatenate([bags(call.sentences[1:], vocabulary) for call in calls[split]])
        for split in ("train", "test")
    }
    value = bernoulli_nll(rates(said["train"]), said["test"])
    return [reference("marginal: how often each word is said", "nll", value)]


def bags(sentences: Sequence[str], vocabulary: Sequence[str]) -> np.ndarray:
    """Which words of the vocabulary each sentence has: uint8 [n, words]."""
    place = {word: i for i, word in enumerate(vocabulary)}
    found = np.zeros((len(sentences), len(place)), np.uint8)
    for row, sentence in zip(found, sentences, strict=True):
        row[[place[word] for word in set(tokenise(sentence)) if word in place]] = 1
    return found


def _inputs(calls: Sequence[Call], scale: Scale, history: int, words: Sequence[str]) -> dict:
    """Of every sentence t that has a next one: voice, past [n, 29], words; and the next's voice."""
    parts: dict[str, list] = {}
    for call in calls:
        voice, n = scale(call), len(call.sentences) - 1
        windows = [slice(max(0, t - history), t) for t in range(n)]
        past = [
            voice[w].sum(0) / np.maximum(call.defined[w].sum(0), 1) for w in windows
        ] or np.zeros((0, voice.shape[1]))
        for name, part in (
            ("voice", voice[:n]),
            ("past", np.array(past)),
            ("words", bags(call.sentences[:n], words)),
            ("next", voice[1:]),
            ("defined", call.defined[1:]),
        ):
            parts.setdefault(name, []).append(part)
    return {name: np.concatenate(part) for name, part in parts.items()}


def _idf(train: np.ndarray):
    """Weighs bags by the rarity of their words, and each to length one."""
    rarity = np.log(len(train) / np.maximum(train.sum(0), 1))

    def weigh(bag: np.ndarray) -> np.ndarray:
        x = bag * rarity[None]
        return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)

    return weigh
