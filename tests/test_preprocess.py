import json

import numpy as np
import pytest

from mmfuse.data import preprocess
from mmfuse.data.preprocess import build_preprocessor
from mmfuse.errors import InputError, RowError


def test_text_takes_its_vocabulary_from_what_it_is_fitted_on():
    fitted = build_preprocessor("text", length=4, min_count=2).fit(
        ["the lamp is broken", b"broken lamp, broken phone", "手机坏了 lamp"]
    )
    assert fitted.state() == {"vocabulary": ["broken", "lamp"]}
    assert fitted.vocab_size == 4
    ids, mask = fitted([b"Broken the LAMP!", "phone", "", "lamp lamp lamp lamp broken"])
    np.testing.assert_array_equal(ids, [[2, 3, 0, 0], [1, 0, 0, 0], [0] * 4, [3] * 4])
    np.testing.assert_array_equal(mask, ids > 0)
    assert (ids.dtype, mask.dtype) == (np.int32, bool)


def test_text_may_keep_stop_words_and_survives_invalid_bytes():
    fitted = build_preprocessor("text", length=3, stop_words=False, min_count=1).fit(["the lamp"])
    np.testing.assert_array_equal(fitted([b"the \xff lamp"])[0], [[3, 2, 0]])


def test_picture_is_standardised_with_the_statistics_of_the_fit():
    rng = np.random.default_rng(0)
    train = rng.integers(0, 256, (20, 8, 8, 3), np.uint8)
    other = rng.integers(0, 100, (5, 8, 8, 3), np.uint8)
    fitted = build_preprocessor("picture").fit(list(train))
    x, mask = fitted(list(train))
    np.testing.assert_allclose(x.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(x.std((0, 1, 2)), 1, atol=1e-5)
    assert (x.dtype, mask.shape, mask.all()) == (np.float32, (20, 1), True)
    scaled = train / 255
    expected = (other / 255 - scaled.mean((0, 1, 2))) / scaled.std((0, 1, 2))
    np.testing.assert_allclose(fitted(list(other))[0], expected, atol=1e-5)
    assert fitted.state() == {"mean": fitted.mean, "std": fitted.std}
    small, _ = build_preprocessor("picture", size=4).fit(list(train))(list(other))
    assert small.shape == (5, 4, 4, 3)


def test_a_constant_channel_is_only_centred():
    train = np.full((4, 5, 5, 3), 100, np.uint8)
    x, _ = build_preprocessor("picture").fit(list(train))(list(train))
    np.testing.assert_allclose(x, 0, atol=1e-6)


def test_log_mel_is_standardised_per_band():
    rng = np.random.default_rng(1)
    train = (rng.normal(size=(12, 2000)) * 2000).astype(np.int16)
    fitted = build_preprocessor("log_mel", n_fft=200, hop=250, n_mels=6).fit(list(train))
    x, mask = fitted(list(train))
    assert x.shape == (*mask.shape, 6)
    assert mask.all()
    np.testing.assert_allclose(x.mean((0, 1)), 0, atol=1e-4)
    np.testing.assert_allclose(x.std((0, 1)), 1, atol=1e-4)
    loud, _ = fitted([w * 2 for w in train])  # twice as loud is the same step in every frame
    steps = (loud - x) * np.array(fitted.std)
    np.testing.assert_allclose(steps, steps.mean(), atol=0.02)


@pytest.mark.parametrize(("shape", "steps"), [((7,), 1), ((5, 7), 5), ((5, 7, 1), 5)])
def test_array_keeps_its_time_axis(shape, steps):
    rng = np.random.default_rng(2)
    train = rng.normal(3, 2, (30, *shape)).astype(np.float16)
    x, mask = build_preprocessor("array").fit(list(train))(list(train))
    assert x.shape == train.shape
    assert x.dtype == np.float32
    assert (mask.shape, mask.all()) == ((30, steps), True)
    assert [x.mean(), x.std()] == pytest.approx([0, 1], abs=1e-3)


@pytest.mark.parametrize("name", preprocess.PREPROCESSORS)
def test_what_was_learned_is_json(name):
    raw = {
        "text": ["one two two"],
        "picture": [np.ones((4, 4, 3), np.uint8)],
        "log_mel": [np.ones(1000, np.int16)],
        "mfcc": [np.ones(1000, np.int16)],
        "array": [np.ones((3, 2), np.float32)],
        "features": [np.ones((3, 2)), np.ones((1, 2))],
        "identity": [np.ones(1, np.int32)],
    }[name]
    fields = {"size": 2} if name == "identity" else {}
    state = build_preprocessor(name, **fields).fit(raw).state()
    assert json.loads(json.dumps(state)) == {} if name == "identity" else state


@pytest.mark.parametrize(
    ("name", "fields", "said"),
    [
        ("txt", {}, "unknown preprocessor 'txt'.*did you mean 'text'"),
        ("text", {"lenght": 3}, "no field 'lenght'.*did you mean 'length'"),
        ("picture", {"mean": (0,)}, "no field 'mean'; allowed: size"),
    ],
)
def test_unknown_names_and_fields(name, fields, said):
    with pytest.raises(InputError, match=said):
        build_preprocessor(name, **fields)


def test_identity_keeps_ids_and_what_is_absent():
    fitted = build_preprocessor("identity", size=7, length=3).fit([np.array([1])])
    x, mask = fitted([np.array([6, 0]), np.array([], np.int32), np.array([3, 3, 1], np.int16)])
    np.testing.assert_array_equal(x, [[6, 0, 0], [0, 0, 0], [3, 3, 1]])
    np.testing.assert_array_equal(mask, [[1, 1, 0], [0, 0, 0], [1, 1, 1]])
    assert (x.dtype, fitted.vocab_size, fitted.state()) == (np.int32, 7, {})


@pytest.mark.parametrize(
    ("value", "said"),
    [([7], "id 7 is outside 0..6"), ([-1], "id -1 is outside"), ([1, 2, 3], "3 ids; length 2"),
     ([1.0], r"expected ids \[K\], found float64 \(1,\)"), (4, r"found int64 \(\)")],
)  # fmt: skip
def test_identity_refuses_what_is_no_id(value, said):
    fitted = build_preprocessor("identity", size=7, length=2)
    with pytest.raises(RowError, match=said) as error:
        fitted([np.array([0]), np.array(value)])
    assert error.value.row == 1


def test_identity_needs_its_size():
    with pytest.raises(InputError, match="identity: size must be a whole number >= 1, got 0"):
        build_preprocessor("identity")
