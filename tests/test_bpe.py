import numpy as np
import pytest

from mmfuse.data.bpe import BYTES, Bpe
from mmfuse.data.text import FIRST_WORD

TEXTS = ["the lamp is broken", "the lamps are broken", "手机坏了 手机", "don't"] * 3


def test_every_text_comes_back():
    model = Bpe.fit(TEXTS, max_size=320)
    for text in [*TEXTS, "never seen Ωß 😀\n\ttabs", "[PAD] [UNK]", ""]:
        ids = model.encode(model.split(text))
        assert model.join([*ids, 0, 0]) == text
        assert all(FIRST_WORD <= i < len(model) for i in ids)
        assert "".join(map(model.readable, model.split(text))) == text or not text.isascii()


def test_merges_follow_the_counts():
    """By hand: of "aab aab", the pairs (a, a) and (a, b) occur twice each, (aa, b) then twice."""
    model = Bpe.fit(["xaab xaab"], min_count=2, max_size=BYTES + 3)
    assert len(model.merges) == 3
    assert model.split("xaab") == ["xaab"]
    assert len(Bpe.fit(["abab"], min_count=3).merges) == 0
    counts = Bpe.fit(["ab ab ab ab cd"], max_size=BYTES + 1)
    assert counts.merges == (("a", "b"),)


def test_fitting_again_or_in_another_order_gives_the_same():
    first = Bpe.fit(TEXTS, max_size=300)
    assert Bpe.fit(TEXTS, max_size=300) == first
    order = np.random.default_rng(0).permutation(len(TEXTS))
    assert Bpe.fit([TEXTS[i] for i in order], max_size=300) == first


@pytest.mark.parametrize("size", [BYTES, BYTES + 5])
def test_size_is_kept(size):
    assert len(Bpe.fit(TEXTS, max_size=size)) == size + FIRST_WORD
