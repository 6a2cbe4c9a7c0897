import json

import numpy as np
import pytest

from mmfuse.data.preprocess import build_preprocessor
from mmfuse.errors import InputError


def fit(texts, **fields):
    return build_preprocessor("text", **{"min_count": 1, "stop_words": False} | fields).fit(texts)


def words_of(fitted, text):
    (step,) = [value for name, value, _ in fitted.steps(text) if name == "cut"]
    return step


@pytest.mark.parametrize(
    ("form", "expected"),
    [("NFC", "ｃａｆé"), ("NFD", "ｃａｆe\u0301"), ("NFKC", "café"), ("NFKD", "cafe\u0301")],
)
def test_the_form_is_the_one_asked_for(form, expected):
    fitted = fit(["x"], form=form)
    assert dict((n, v) for n, v, _ in fitted.steps("ＣＡＦé"))["normalise"] == expected


def test_case_is_kept_on_request():
    assert fit(["Lamp lamp"], lower=False).state() == {"vocabulary": ["Lamp", "lamp"]}
    assert fit(["Lamp lamp"]).state() == {"vocabulary": ["lamp"]}


def test_the_long_lists_of_stop_words_by_language():
    text = "please help the lamp 我们 退款"
    assert words_of(fit([text]), text) == ["please", "help", "the", "lamp", "我们", "退款"]
    short = fit([text], stop_words=True)
    assert words_of(short, text) == ["please", "help", "lamp", "退款"]
    assert words_of(fit([text], stop_words=["en"]), text) == ["lamp", "我们", "退款"]
    assert words_of(fit([text], stop_words=["en", "zh"]), text) == ["lamp", "退款"]


@pytest.mark.parametrize(("keep", "expected"), [("head", [2, 3, 4, 5]), ("tail", [4, 5, 6, 7])])
def test_a_long_text_keeps_its_head_or_its_tail_and_padding_is_always_behind(keep, expected):
    fitted = fit(["a b c d e f"], length=4, keep=keep)
    ids, mask = fitted(["a b c d e f", "a b"])
    np.testing.assert_array_equal(ids, [expected, [2, 3, 0, 0]])
    np.testing.assert_array_equal(mask, [[1] * 4, [1, 1, 0, 0]])


def test_characters():
    fitted = fit(["ab  ba", "手a"], level="character", length=6)
    assert fitted.state() == {"vocabulary": ["a", "b", " ", "手"]}
    ids, mask = fitted(["手 机a", ""])
    np.testing.assert_array_equal(ids, [[5, 4, 1, 2, 0, 0], [0] * 6])
    np.testing.assert_array_equal(mask, ids > 0)


def test_bpe_learns_from_the_fitted_texts_alone_and_knows_every_text():
    fitted = fit(["low lower lowest"] * 3, level="bpe", max_size=270, length=12)
    state = fitted.state()
    assert json.loads(json.dumps(state)) == state
    assert len(state["vocabulary"]) == fitted.vocab_size - 2 <= 270
    assert ["l", "o"] in state["merges"] or ["o", "w"] in state["merges"]
    ids, mask = fitted(["low", "zebra 手😀", ""])
    assert (ids[mask] > 1).all()
    assert mask.sum(1).tolist() == [1, 12, 0]
    again = fit(["low lower lowest"] * 3, level="bpe", max_size=270, length=12)
    fitted(["zebra zebra zebra zebra"])
    assert again.state() == state
    assert fit(["zebra zebra"], level="bpe", max_size=270).state() != state


@pytest.mark.parametrize("fields", [{}, {"level": "bpe"}, {"level": "character"}])
@pytest.mark.parametrize("size", [258, 300])
def test_no_text_gives_an_id_outside_the_vocabulary(fields, size):
    rng = np.random.default_rng(0)
    texts = ["".join(map(chr, rng.integers(32, 0xD7FF, 40))) for _ in range(200)]
    fitted = fit(texts[:50], length=30, max_size=size, **fields)
    ids, mask = fitted([*texts, "[PAD] [UNK] <pad> \x00", "\ud800"])
    assert ids.min() >= 0
    assert ids.max() < fitted.vocab_size <= size + 2
    np.testing.assert_array_equal(mask, ids > 0)
    assert (np.diff(mask.astype(int), axis=1) <= 0).all()  # what people write is never padding


@pytest.mark.parametrize("level", ["word", "bpe", "character"])
def test_an_empty_text_is_absent(level):
    fitted = fit(["some text"], level=level, max_size=300)
    ids, mask = fitted(["", b"", "some"])
    assert mask.any(1).tolist() == [False, False, True]
    assert not ids[:2].any()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"form": "NFKX"}, "form 'NFKX'; allowed: NFC, NFD, NFKC, NFKD; did you mean"),
        ({"level": "words"}, "level 'words'.*did you mean 'word'"),
        ({"keep": "left"}, "keep 'left'; allowed: head, tail"),
        ({"length": 0}, "length must be a whole number >= 1, got 0"),
        ({"length": 2.5}, "length must be a whole number >= 1, got 2.5"),
        ({"min_count": True}, "min_count must be a whole number"),
        ({"stop_words": "en"}, "stop_words 'en' must be True, False or a list"),
        ({"stop_words": ["xx"]}, "no list for language 'xx'"),
        ({"stop_words": ["en"], "level": "bpe"}, "level 'bpe' has no words"),
        ({"vectors": "x", "level": "bpe"}, "vectors are of words or characters"),
    ],
)
def test_impossible_fields(fields, said):
    with pytest.raises(InputError, match=said):
        build_preprocessor("text", **fields)


def test_bpe_needs_room_for_all_bytes():
    with pytest.raises(InputError, match="max_size 100 at least 256"):
        fit(["x"], level="bpe", max_size=100)


VECTORS = "the 1 2 3\nlamp 4 5 6\nlamp 7 8 9\n手 -1 0 1\nat x@y.z 0 0 1\n"


@pytest.mark.parametrize("header", ["", "5 3\n"])
def test_vectors_are_those_of_the_file_for_the_words_it_has(header, tmp_path):
    (tmp_path / "v.txt").write_text(header + VECTORS, encoding="utf-8")
    fitted = fit(["lamp lamp lamp zebra zebra 手"], vectors=str(tmp_path / "v.txt"))
    assert fitted.state()["vocabulary"] == ["lamp", "zebra", "手"]
    expected = [[0] * 3, [0] * 3, [4, 5, 6], [0] * 3, [-1, 0, 1]]
    np.testing.assert_array_equal(fitted.pretrained.values, expected)
    assert fitted.pretrained.found.tolist() == [False, False, True, False, True]
    told = fitted.state()["vectors"]
    assert (told["width"], told["found"], len(told["sha256"])) == (3, 2, 64)


def test_the_state_tells_the_vectors_file_by_its_sha256(tmp_path):
    import hashlib

    path = tmp_path / "v.txt"
    found = []
    for content in (VECTORS, VECTORS + "zebra 0 0 0\n"):
        path.write_text(content, encoding="utf-8")
        fitted = fit(["lamp"], vectors=str(path))
        assert fitted.state()["vectors"]["sha256"] == hashlib.sha256(content.encode()).hexdigest()
        found.append(fitted.pretrained)
    assert found[0] == found[1], "the same table, though of another file"
    path.write_text(VECTORS.replace("4", "4.5"), encoding="utf-8")
    other = fit(["lamp"], vectors=str(path)).pretrained
    assert other != found[0]
    assert repr(other) != repr(found[0]), "kept programs are found by what a model prints"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("the 1 2\nlamp 1\n", "v.txt:2: expected a word and 2 values"),
        ("lamp 1 x\n", "word 'lamp': could not convert"),
        ("lamp 1 nan\n", "word 'lamp': NaN or Inf"),
        ("zebra 1 2\n", "has none of the 1 words"),
        ("", "has none of the 1 words"),
        (None, "No such file"),
    ],
)
def test_vectors_that_cannot_be_read(content, said, tmp_path):
    path = tmp_path / "v.txt"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=said) as caught:
        fit(["lamp"], vectors=str(path))
    assert "\n" not in str(caught.value)
