import subprocess
import sys

import numpy as np
import pytest

from mmfuse.data import text
from mmfuse.data.text import STOP_WORDS, Vocabulary, load_stop_words, normalise, tokenise
from mmfuse.errors import InputError


def test_normalise_folds_width_compatibility_forms_and_case():
    assert normalise("ＡＢＣ　１２３ ﬁne Ⅳ") == "abc 123 fine iv"


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ("Hello, world!", ["hello", "world"]),
        ("I don't. It’s", ["i", "don't", "it's"]),
        ("re-order #42_b", ["re", "order", "42", "b"]),
        ("Café NAI\u0308VE", ["café", "naïve"]),
        ("", []),
        ("  ...!? 。，", []),
        ("Привет 안녕", ["привет", "안녕"]),
    ],
)
def test_tokenise_without_han(raw, words):
    assert tokenise(raw) == words


def test_chinese_is_cut_into_words_and_meets_latin_without_a_space():
    words = tokenise("我的iPhone坏了，请帮忙退款！")
    assert words[:3] == ["我", "的", "iphone"]
    assert "退款" in words
    assert "".join(words) == "我的iphone坏了请帮忙退款"


def test_every_han_character_reaches_jieba_and_nothing_is_lost():
    text_ = "人々〇𠀀㐀豈"
    assert "".join(tokenise(text_)) == normalise(text_)


def test_stop_words_are_dropped_in_both_languages():
    assert tokenise("Please send me the invoice", STOP_WORDS) == ["please", "send", "invoice"]
    assert tokenise("我的发票", STOP_WORDS) == ["发票"]
    assert not STOP_WORDS & {"not", "no", "不", "没", "help"}
    assert {"the", "的"} <= load_stop_words("en", "zh")
    assert load_stop_words() == frozenset()
    with pytest.raises(InputError, match="'xx'"):
        load_stop_words("xx")


def test_vocabulary_orders_by_frequency_then_word_whatever_the_order_of_texts():
    texts = [["b", "a", "c"], ["b", "a"], ["d", "b"]]
    vocabulary = Vocabulary.fit(texts)
    assert vocabulary.words == ("b", "a", "c", "d")
    assert Vocabulary.fit(texts[::-1]) == vocabulary
    assert len(vocabulary) == 6
    assert vocabulary.encode(["b", "d", "never"]) == [2, 5, text.UNKNOWN]


def test_vocabulary_drops_rare_words_and_respects_its_size():
    texts = [["b", "a", "c"], ["b", "a"], ["b"]]
    assert Vocabulary.fit(texts, min_count=2).words == ("b", "a")
    assert Vocabulary.fit(texts, max_size=1).words == ("b",)
    assert Vocabulary.fit([]).words == ()
    with pytest.raises(InputError, match="min_count 0"):
        Vocabulary.fit(texts, min_count=0)
    with pytest.raises(InputError, match="twice"):
        Vocabulary(("a", "a"))


def test_json_round_trip_and_its_faults():
    vocabulary = Vocabulary(("退款", "it's", 'a"b'))
    assert Vocabulary.from_json(vocabulary.to_json()) == vocabulary
    for bad in ("{", '{"a": 1}', "[1]"):
        with pytest.raises(InputError, match="vocabulary"):
            Vocabulary.from_json(bad)


def test_encode_batch_pads_truncates_and_marks_an_empty_text_absent():
    vocabulary = Vocabulary(("a", "b"))
    ids, mask = vocabulary.encode_batch([["a", "x"], [], ["b", "a", "b", "a"]], length=3)
    assert ids.dtype == np.int32
    assert mask.dtype == np.bool_
    np.testing.assert_array_equal(ids, [[2, 1, 0], [0, 0, 0], [3, 2, 3]])
    np.testing.assert_array_equal(mask, [[1, 1, 0], [0, 0, 0], [1, 1, 1]])
    assert vocabulary.encode_batch([], length=3)[0].shape == (0, 3)
    with pytest.raises(InputError, match="length 0"):
        vocabulary.encode_batch([["a"]], length=0)


def test_jieba_is_loaded_late_and_says_nothing():
    code = (
        "import sys; from mmfuse.data import text; text.tokenise('hello');"
        "assert 'jieba' not in sys.modules; text.tokenise('你好'); assert 'jieba' in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
