"""English and Chinese text to padded word ids: normalise, tokenise, vocabulary, batch.

Ids: 0 is padding, 1 is unknown, words start at 2. A vocabulary is fitted on the training texts
only, so that a validation or test word can never shape the model's input.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
import unicodedata
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

import numpy as np
from tokenizers import Regex, pre_tokenizers

from mmfuse.errors import InputError

PADDING, UNKNOWN, FIRST_WORD = 0, 1, 2

# Function words only: articles, pronouns, prepositions, auxiliaries, particles. Negations and
# question words stay out of the list, because they change what a request means.
_FUNCTION_WORDS = (
    "a an the and or of to in on at for with by from as is am are was were be been being it its "
    "i me my we us our you your he him his she her they them their this that these those do does "
    "did have has had will would shall should can could may might must so than then there here "
    "的 了 着 过 地 得 在 是 我 我们 你 你们 您 他 她 它 他们 这 那 这个 那个 一个 和 与 及 或 "
    "也 都 就 而 把 被 让 给 对 从 向 到 为 于 以 之 吗 呢 吧 啊 呀 哦 嗯 请"
)
STOP_WORDS = frozenset(_FUNCTION_WORDS.split())

_HAN = Regex(r"\p{Han}+")
_WORD = Regex(r"[^\W_]+(?:['’][^\W_]+)*")  # letters and digits; "don't" stays one word
_PIECES = pre_tokenizers.Sequence(
    [
        pre_tokenizers.Split(_HAN, "isolated"),
        pre_tokenizers.Split(_WORD, "removed", invert=True),
    ]
)


FORMS = ("NFC", "NFD", "NFKC", "NFKD")


def normalise(text: str, form: str = "NFKC", lower: bool = True) -> str:
    """Returns ``text`` in a Unicode form (NFKC: full width to half width and so on), lower case."""
    text = unicodedata.normalize(form, text)
    return text.lower() if lower else text


def load_stop_words(*languages: str) -> frozenset[str]:
    """Returns the stop words of ISO 639-1 ``languages`` (``"en"``, ``"zh"``) by stopwordsiso.

    The lists are generous (about 1,300 English and 800 Chinese words, "help" and "problem" among
    them); `STOP_WORDS` is the short list of function words.

    Raises:
      InputError: for a language without a list.
    """
    import stopwordsiso

    for language in languages:
        if not stopwordsiso.has_lang(language):
            raise InputError(f"stop words: no list for language {language!r}; try 'en' or 'zh'")
    return frozenset(stopwordsiso.stopwords(list(languages))) if languages else frozenset()


@functools.cache
def _jieba():
    """Imports jieba on first use: it is slow to load, chatty on stderr, and warns on import."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import jieba

        jieba.setLogLevel(logging.CRITICAL + 1)
        jieba.initialize()
    return jieba


def tokenise(text: str, stop_words: Collection[str] = ()) -> list[str]:
    """Returns the words of ``text`` in order, normalised, without punctuation and stop words.

    Runs of Han characters are cut by jieba; the rest is split by Hugging Face pre-tokenisers into
    runs of letters and digits, an apostrophe inside a word kept ("don't"). The two may meet
    without a space ("iphone坏了").

    Args:
      text: raw text, any script; may be empty.
      stop_words: words to drop, as they look after `normalise` (`STOP_WORDS`).
    """
    return [word for word in split_words(normalise(text)) if word not in stop_words]


def split_words(normalised: str) -> list[str]:
    """The words of a text that went through `normalise` before, as `tokenise` finds them."""
    words = []
    for piece, _ in _PIECES.pre_tokenize_str(normalised):
        words.extend(_jieba().lcut(piece) if _is_han(piece) else [piece.replace("’", "'")])
    return words


def split_characters(normalised: str) -> list[str]:
    """The characters (code points) of a text, every run of white space as one blank."""
    return list(" ".join(normalised.split()))


def _is_han(piece: str) -> bool:
    """Whether a piece of `_PIECES` is a Han run: those are isolated, so one character tells."""
    name = unicodedata.name(piece[0], "")
    return name.startswith("CJK") or piece[0] in "々〇〡〢〣〤〥〦〧〨〩〸〹〺〻"


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The words a model knows; ``words[i]`` has id ``i + 2`` (0 = padding, 1 = unknown)."""

    words: tuple[str, ...]

    def __post_init__(self):
        if len(set(self.words)) != len(self.words):
            raise InputError("vocabulary: a word occurs twice; every word needs one id")

    @classmethod
    def fit(
        cls, tokens: Iterable[Sequence[str]], min_count: int = 1, max_size: int | None = None
    ) -> Vocabulary:
        """Builds a vocabulary from the token lists of the TRAINING texts, and of no others.

        Args:
          tokens: one list of words a training text.
          min_count: words seen less often are unknown.
          max_size: largest number of words kept (padding and unknown not counted); None = all.

        Returns:
          The words by falling frequency, equal ones by code point: the same in every order of
          the texts.
        """
        if min_count < 1 or (max_size is not None and max_size < 1):
            raise InputError(
                f"vocabulary: min_count {min_count} and max_size {max_size} must be at least 1"
            )
        counts = Counter(word for words in tokens for word in words)
        kept = [word for word, count in counts.items() if count >= min_count]
        kept.sort(key=lambda word: (-counts[word], word))
        return cls(tuple(kept[:max_size]))

    def __len__(self) -> int:
        """Number of ids, padding and unknown included: the rows an embedding table needs."""
        return len(self.words) + FIRST_WORD

    @functools.cached_property
    def _ids(self) -> dict[str, int]:
        return {word: i for i, word in enumerate(self.words, start=FIRST_WORD)}

    def readable(self, token: str) -> str:
        """A token as people read it."""
        return token

    def encode(self, tokens: Iterable[str]) -> list[int]:
        """Returns the ids of ``tokens``; 1 for a word that training never showed."""
        return [self._ids.get(word, UNKNOWN) for word in tokens]

    def encode_batch(
        self, texts: Sequence[Sequence[str]], length: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Encodes N tokenised texts into one padded array.

        Args:
          texts: one list of words a text, tokenised as in training.
          length: T; longer texts lose their tail.

        Returns:
          ids int32 [N, T], 0 beyond a text's end, and mask bool [N, T], True on its words. An
          empty text has a mask that is all False: the modality is absent.
        """
        if length < 1:
            raise InputError(f"encode_batch: length {length} must be at least 1")
        ids = np.full((len(texts), length), PADDING, np.int32)
        for row, words in zip(ids, texts, strict=True):
            encoded = self.encode(words[:length])
            row[: len(encoded)] = encoded
        return ids, ids != PADDING

    def to_json(self) -> str:
        """Returns the vocabulary as a JSON list of words, in order of their ids."""
        return json.dumps(self.words, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Vocabulary:
        """Reads what `to_json` wrote.

        Raises:
          InputError: for anything but a JSON list of strings.
        """
        try:
            words = json.loads(text)
        except json.JSONDecodeError as error:
            raise InputError(f"vocabulary: not JSON ({error})") from error
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise InputError("vocabulary: expected a JSON list of words")
        return cls(tuple(words))
