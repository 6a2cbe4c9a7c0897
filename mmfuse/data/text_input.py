"""Messages to token ids, by words, byte pairs or characters."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Sequence

import numpy as np

from mmfuse.data import text
from mmfuse.data.bpe import Bpe
from mmfuse.data.stepwise import LEARNED, Stage, Stepwise, check_choice, check_number, each
from mmfuse.data.vectors import WordVectors, read_vectors
from mmfuse.errors import InputError

LEVELS = ("word", "bpe", "character")
ENDS = ("head", "tail")


@dataclasses.dataclass(frozen=True)
class Text(Stepwise):
    """Messages (str, or UTF-8 bytes) to token ids int32 [N, length] and their mask.

    Ids: 0 = padding, behind the text; 1 = unknown; the others are the vocabulary of the training
    messages, so every id is below ``vocab_size``. Invalid UTF-8 becomes U+FFFD.

    Attributes:
      length: tokens kept.
      stop_words: drops words: True = the short list of function words, False = none, or language
        codes such as ("en", "zh") for the long lists of stopwordsiso. Only words can be dropped:
        byte pairs and characters keep all.
      min_count: rarer words are unknown; rarer pairs are not merged.
      max_size: largest vocabulary, padding and unknown not counted.
      form: Unicode normalisation, NFC, NFD, NFKC or NFKD.
      lower: folds to lower case.
      level: "word" (English and others by Unicode, Chinese by jieba), "bpe" or "character".
      keep: which end of a longer text is kept, "head" or "tail".
      vectors: a file of pretrained vectors (`mmfuse.data.vectors`) with which the embedding
        starts; "" = none.
    """

    length: int = 16
    stop_words: bool | Sequence[str] = True
    min_count: int = 2
    max_size: int = 20000
    form: str = "NFKC"
    lower: bool = True
    level: str = "word"
    keep: str = "head"
    vectors: str = ""
    vocabulary: text.Vocabulary | None = dataclasses.field(default=None, metadata=LEARNED)
    pretrained: WordVectors | None = dataclasses.field(default=None, metadata=LEARNED)

    def __post_init__(self):
        for name, low in (("length", 1), ("min_count", 1), ("max_size", 1)):
            check_number(f"text: {name}", getattr(self, name), low)
        check_choice("text: form", self.form, text.FORMS)
        check_choice("text: level", self.level, LEVELS)
        check_choice("text: keep", self.keep, ENDS)
        if self.level != "word" and not isinstance(self.stop_words, bool):
            raise InputError(f"text: level '{self.level}' has no words, so no stop_words to drop")
        if self.level == "bpe" and self.vectors:
            raise InputError("text: vectors are of words or characters; level 'bpe' has neither")
        self._dropped()

    def _dropped(self) -> Collection[str]:
        if isinstance(self.stop_words, bool):
            return text.STOP_WORDS if self.stop_words else ()
        if not isinstance(self.stop_words, (list, tuple)):
            raise InputError(
                f"text: stop_words {self.stop_words!r} must be True, False or a list of languages"
            )
        return text.load_stop_words(*self.stop_words)

    def stages(self) -> Iterable[tuple[str, Stage]]:
        """Decode, normalise, split, drop stop words, cut, look up."""
        yield "text", each(_string)
        yield "normalise", each(lambda t: text.normalise(t, self.form, self.lower))
        if self.level == "bpe":
            yield "bpe", each(self._pairs)
        elif self.level == "character":
            yield "characters", each(text.split_characters)
        else:
            yield "words", each(text.split_words)
            dropped = self._dropped()
            if dropped:
                yield "stop words", each(lambda words: [w for w in words if w not in dropped])
        ends = slice(self.length) if self.keep == "head" else slice(-self.length, None)
        yield "cut", each(lambda tokens: tokens[ends])
        yield "ids", self._ids

    def _pairs(self, normalised: str) -> list[str]:
        return self.vocabulary.split(normalised)

    def _ids(self, values: Sequence, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        del mask  # an absent text is an empty one: no tokens, a mask that is all False
        return self.vocabulary.encode_batch(values, self.length)

    def fit(self, raw: Sequence) -> Text:
        """Takes the vocabulary from the training messages, and the vectors of its words."""
        limits = {"min_count": self.min_count, "max_size": self.max_size}
        if self.level == "bpe":
            vocabulary = Bpe.fit(self.before("bpe", raw)[0], **limits)
        else:
            vocabulary = text.Vocabulary.fit(self.before("cut", raw)[0], **limits)
        vectors = read_vectors(self.vectors, vocabulary) if self.vectors else None
        return dataclasses.replace(self, vocabulary=vocabulary, pretrained=vectors)

    def state(self) -> dict:
        """The vocabulary, in the order of its ids; the merges; what the vectors' file was."""
        state = {"vocabulary": list(self.vocabulary.words)}
        if self.level == "bpe":
            state["merges"] = [list(pair) for pair in self.vocabulary.merges]
        if self.pretrained is not None:
            width, found = self.pretrained.values.shape[1], int(self.pretrained.found.sum())
            sha256 = self.pretrained.file_sha256
            state["vectors"] = {"sha256": sha256, "width": width, "found": found}
        return state

    @property
    def vocab_size(self) -> int:
        """Number of ids, padding and unknown included."""
        return len(self.vocabulary)


def _string(raw: str | bytes) -> str:
    """TFDS gives bytes; invalid UTF-8 becomes U+FFFD, as everywhere in mmfuse."""
    raw = raw if isinstance(raw, bytes) else str(raw).encode("utf-8", errors="surrogatepass")
    return raw.decode("utf-8", errors="replace")
