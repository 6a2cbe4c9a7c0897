"""Byte-pair encoding (Sennrich et al. 2016) over bytes, as Hugging Face ``tokenizers`` does it.

The 256 bytes are tokens themselves, so no text is unknown. Ids are those of ``text``: 0 = padding,
1 = unknown (never used here), tokens from 2 on.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterable, Sequence

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from mmfuse.data.text import FIRST_WORD, Vocabulary
from mmfuse.errors import InputError

BYTES = 256


@dataclasses.dataclass(frozen=True)
class Bpe(Vocabulary):
    """A vocabulary of byte sequences, with the merges that build them, in order of their rank.

    Tokens are written in the printable alphabet of GPT-2: one character a byte, Ġ for a blank.
    """

    merges: tuple[tuple[str, str], ...] = ()

    @classmethod
    def fit(cls, texts: Iterable[str], min_count: int = 1, max_size: int | None = None) -> Bpe:
        """Learns the merges from the TRAINING texts, and from no others.

        Args:
          texts: normalised texts.
          min_count: a pair seen less often is not merged.
          max_size: largest number of tokens, the 256 bytes among them.
        """
        if min_count < 1 or (max_size is not None and max_size < BYTES):
            raise InputError(
                f"bpe: min_count {min_count} must be at least 1, max_size {max_size} at least "
                f"{BYTES}: all bytes are tokens"
            )
        texts = list(texts)
        most = BYTES + sum(len(text.encode()) for text in texts)  # every merge shortens some text
        tokenizer = _tokenizer(models.BPE())
        trainer = trainers.BpeTrainer(
            vocab_size=min(max_size or most, most),  # room for it is taken in advance
            min_frequency=min_count,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            special_tokens=[],  # they would be found in what people write
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer=trainer)
        model = json.loads(tokenizer.to_str())["model"]
        words = sorted(model["vocab"], key=model["vocab"].get)
        return cls(tuple(words), tuple((left, right) for left, right in model["merges"]))

    @functools.cached_property
    def _model(self) -> Tokenizer:
        vocabulary = {word: i for i, word in enumerate(self.words)}
        return _tokenizer(models.BPE(vocab=vocabulary, merges=list(self.merges)))

    def split(self, text: str) -> list[str]:
        """The tokens of a normalised text."""
        return self._model.encode(text).tokens

    def readable(self, token: str) -> str:
        """The text of a token; bytes cut apart become U+FFFD."""
        return decoders.ByteLevel().decode([token])

    def join(self, ids: Sequence[int]) -> str:
        """The text of ``ids``, padding left out; bytes cut apart become U+FFFD."""
        return self._model.decode([i - FIRST_WORD for i in ids if i >= FIRST_WORD])


def _tokenizer(model: models.Model) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
