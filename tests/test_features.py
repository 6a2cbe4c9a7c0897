"""The preprocessor of ready features, against statistics counted frame by frame."""

import json

import numpy as np
import pytest

from mmfuse.data import features
from mmfuse.data.preprocess import build_preprocessor
from mmfuse.errors import InputError, RowError


def make(**fields) -> features.Features:
    return build_preprocessor("features", **fields)


def sequences(lengths, width=3, seed=0, dtype=np.float32) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(4, 2, (n, width)).astype(dtype) for n in lengths]


def test_vectors_are_standardised_column_by_column_with_training_statistics():
    train, other = sequences([40])[0], sequences([7], seed=1)[0]
    fitted = make().fit(list(train))
    x, mask = fitted(list(other))
    expected = (other.astype(np.float64) - train.mean(0, np.float64)) / train.std(0, np.float64)
    np.testing.assert_allclose(x, expected, rtol=1e-5, atol=1e-6)
    assert (x.dtype, mask.dtype, mask.shape, mask.all()) == (np.float32, bool, (7, 1), True)


@pytest.mark.parametrize("side", ["right", "left"])
def test_statistics_are_over_real_frames_and_known_values_only(side):
    train = sequences([4, 0, 2, 5])
    train[0][1] = 0  # no frame
    train[2][0, 2] = -255  # not measured
    train[3][4] = (0, 0, -255)  # a frame: not all zero
    fitted = make(side=side, sentinel=-255, zero_is_missing=True).fit(train)
    columns = [[], [], []]
    for example in train:
        for frame in example:
            for column, value in enumerate(frame.tolist()):
                if any(frame) and value != -255:
                    columns[column].append(value)
    np.testing.assert_allclose(fitted.learned.mean, [np.mean(c) for c in columns])
    np.testing.assert_allclose(fitted.learned.std, [np.std(c) for c in columns])
    x, mask = fitted(train)
    assert x.shape == (4, 5, 3)
    for row, example in enumerate(train):
        start = 5 - len(example) if side == "left" else 0
        for step in range(5):
            inside = 0 <= step - start < len(example)
            real = inside and bool(example[step - start].any())
            assert mask[row, step] == real
            for column in range(3):
                value = example[step - start, column] if real else None
                known = real and value != -255
                scaled = (
                    (value - np.mean(columns[column])) / np.std(columns[column]) if known else 0
                )
                assert x[row, step, column] == pytest.approx(scaled, abs=1e-5)
    counts = {"frames": 10, "missing_frames": 1, "absent": 1, "unknown_values": 2}
    assert counts.items() <= fitted.state()["counts"].items()


def test_an_example_of_missing_frames_alone_is_absent():
    train = sequences([3, 3])
    fitted = make(zero_is_missing=True).fit(train)
    x, mask = fitted([np.zeros((3, 3)), np.zeros((0, 3)), train[0]])
    assert not x[:2].any() and not mask[:2].any() and mask[2].all()
    assert make().fit(train)([np.zeros((3, 3))])[1].all()  # unless zeros are values
    vector, there = make(zero_is_missing=True).fit(list(train[0]))([np.zeros(3), train[0][0]])
    assert (vector[0].any(), there.tolist()) == (False, [[False], [True]])


def test_a_constant_column_is_centred_keeps_its_unit_and_is_counted():
    train = [np.array([v, 0.1, 0.3]) for v in (1.0, 2.0, 3.0)]  # 3 x 0.1 sums to more than 0.3
    fitted = make().fit(train)
    assert fitted.state()["counts"]["constant_columns"] == 2
    assert (fitted.learned.mean[1:], fitted.learned.std[1:]) == ((0.1, 0.3), (1.0, 1.0))
    np.testing.assert_allclose(fitted([np.array([2.0, 0.1, 1.3])])[0], [[0, 0, 1]], atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_sentinel_is_found_in_the_precision_it_was_stored_in(dtype):
    train = sequences([6], dtype=dtype)
    train[0][2, 1] = -99.9
    fitted = make(sentinel=-99.9).fit(train)
    assert fitted.state()["counts"]["unknown_values"] == 1
    assert fitted(train)[0][0, 2, 1] == 0
    assert make(sentinel=-1.5).fit([np.array([[-1, 2], [3, 4]])]).learned.mean == (1, 3)


@pytest.mark.parametrize(
    ("side", "kept"), [("right", slice(0, 2)), ("left", slice(2, 4))], ids=["right", "left"]
)
def test_the_longest_training_sequence_is_the_length_unless_one_is_given(side, kept):
    train = sequences([4, 1])
    assert make(side=side).fit(train)(train)[0].shape == (2, 4, 3)
    whole, _ = make(side=side).fit(train)([train[0]])
    cut, mask = make(side=side, length=2).fit(train)([train[0]])
    np.testing.assert_array_equal(cut, whole[:, kept])
    assert mask.all()
    assert make(length=2).fit(train).state()["counts"]["cut"] == 1
    longer, mask = make(side=side, length=6).fit(train)([train[0]])
    np.testing.assert_array_equal(longer[mask], whole[0])
    assert mask[0, 0] == (side == "right")


def test_without_any_training_frame_values_pass_as_they_are():
    nothing = [np.zeros((0, 3), np.float32)] * 4
    with pytest.raises(InputError, match="no training sequence has a step; set length"):
        make().fit(nothing)
    fitted = make(length=2).fit(nothing)
    x, mask = fitted([np.array([[1, 2, 3.0]])])
    assert (x.tolist(), mask.tolist()) == ([[[1, 2, 3], [0, 0, 0]]], [[True, False]])
    assert fitted.state()["counts"]["constant_columns"] == 3


def test_without_scale_switches_stay_what_they_are():
    train = [np.array([[0, 1, 0], [0, 0, 1]], np.uint8), np.zeros((1, 3), np.uint8)]
    x, mask = make(scale="none").fit(train)(train)
    np.testing.assert_array_equal(x, [train[0], np.zeros((2, 3))])
    assert mask.tolist() == [[True, True], [True, False]]
    gap = [np.array([np.nan, 2.0], np.float32), np.array([3.0, 4.0], np.float32)]
    x, _ = make(scale="none", nan="zero").fit(gap)(gap)
    assert x.tolist() == [[0, 2], [3, 4]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e39])
def test_nan_and_inf_are_an_error_or_the_training_mean(bad):
    train = sequences([3, 2], dtype=np.float64)
    spoilt = [train[0], train[1].copy()]
    spoilt[1][1, 2] = bad
    for call in (make().fit, make().fit(train)):
        with pytest.raises(RowError, match="in step 1, column 2; nan='zero'") as caught:
            call(spoilt)
        assert caught.value.row == 1
    fitted = make(nan="zero").fit(spoilt)
    kept = [*train[0][:, 2], train[1][0, 2]]
    assert fitted.learned.mean[2] == pytest.approx(np.mean(kept))
    assert fitted.state()["counts"]["unknown_values"] == 1
    x, mask = fitted(spoilt)
    assert (x[1, 1, 2], mask[1, 1]) == (0, True)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int16, np.int64, np.uint8])
def test_a_cast_is_announced(dtype):
    fitted = make().fit(sequences([3], dtype=dtype))
    assert fitted.state()["cast"] == f"{np.dtype(dtype)} to float32"
    assert make().fit(sequences([3])).state()["cast"] is None


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (np.ones((2, 4)), "expected 3 columns, found 4"),
        (np.ones(3), r"expected a sequence \[T, F\], found \[3\]"),
        (np.ones((1, 2, 3)), r"found \[1, 2, 3\]"),
        (np.array([["a", "b", "c"]]), "expected numbers, found <U1"),
        (np.array([[None, 1, 2]]), "expected numbers, found object"),
    ],
)
def test_an_example_of_another_form_is_named_by_its_row(bad, said):
    train = sequences([2, 2])
    for call in (make().fit, make().fit(train)):
        with pytest.raises(RowError, match=said) as caught:
            call([*train, bad])
        assert caught.value.row == 2


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"length": -1}, "length -1 must be a whole number"),
        ({"length": 2.5}, "length 2.5"),
        ({"side": "rigth"}, "did you mean 'right'"),
        ({"scale": "row"}, "scale 'row' is not one of column, none"),
        ({"nan": "mean"}, "nan 'mean' is not one of error, zero"),
        ({"sentinel": float("nan")}, "sentinel nan"),
        ({"sentinel": "none"}, "sentinel 'none'"),
        ({"zero_is_missing": 1}, "zero_is_missing 1"),
        ({"learned": None}, "no field 'learned'"),
    ],
)
def test_bad_fields_are_named(fields, said):
    with pytest.raises(InputError, match=said):
        make(**fields)


def test_the_state_is_json_and_the_same_input_gives_the_same_bits():
    train = sequences([4, 2], dtype=np.float64)
    once, again = make().fit(train), make().fit([t.copy() for t in train])
    assert json.loads(json.dumps(once.state())) == json.loads(json.dumps(again.state()))
    assert once(train)[0].tobytes() == again(train)[0].tobytes()
