"""Stages, chunks, rows in messages; and the same bits whatever the batch and the process."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mmfuse.data import stepwise
from mmfuse.data.preprocess import build_preprocessor
from mmfuse.errors import RowError
from tests.inputs import FIELDS, raw

PRINT = "from tests.test_stepwise import hashes; print(hashes())"


def hashes():
    """Of what is learned, the inputs and the masks, of every kind."""
    found = []
    for kind, fields in FIELDS:
        preprocessor = fitted(kind, fields)
        x, mask = preprocessor(raw(kind))
        said = repr(preprocessor.state()).encode() + x.tobytes() + mask.tobytes()
        found.append(hashlib.sha256(said).hexdigest())
    return found


def fitted(kind, fields):
    return build_preprocessor(kind, **fields).fit(raw(kind))


@pytest.mark.parametrize(("kind", "fields"), FIELDS)
def test_what_steps_show_is_what_the_call_does(kind, fields):
    preprocessor, values = fitted(kind, fields), raw(kind)
    x, mask = preprocessor(values)
    for row, value in enumerate(values):
        name, last, real = preprocessor.steps(value)[-1]
        assert name == ("ids" if kind == "text" else "standardise")
        np.testing.assert_array_equal(last, x[row])
        np.testing.assert_array_equal(real, mask[row])


@pytest.mark.parametrize(("kind", "fields"), FIELDS)
def test_neither_batch_nor_order_changes_an_example(kind, fields, monkeypatch):
    preprocessor, values = fitted(kind, fields), raw(kind)
    x, mask = preprocessor(values)
    monkeypatch.setattr(stepwise, "AT_ONCE", 3)
    again = fitted(kind, fields)
    assert again.state() == preprocessor.state()
    np.testing.assert_array_equal(again(values)[0], x)
    backwards, real = again(values[::-1])
    np.testing.assert_array_equal(backwards[::-1], x)
    np.testing.assert_array_equal(real[::-1], mask)


def test_another_process_computes_the_same_bits():
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", PRINT], capture_output=True, text=True, check=True, cwd=root
    )
    assert done.stdout.strip() == str(hashes())


def test_a_faulty_example_is_named_by_its_row_in_calls_and_while_fitting(monkeypatch):
    monkeypatch.setattr(stepwise, "AT_ONCE", 2)
    values = [b"", *[np.ones((4, 4, 3), np.uint8)] * 3, b"no picture"]
    with pytest.raises(RowError, match="picture") as caught:
        build_preprocessor("picture", size=4).fit(values)
    assert caught.value.row == 4
    with pytest.raises(RowError) as caught:
        build_preprocessor("picture", size=4).fit(values[1:4])(values)
    assert caught.value.row == 4
    with pytest.raises(RowError, match="absent here and in every other"):
        build_preprocessor("picture", size=4).fit([b"", b""])
    arrays = [np.ones((2, 3), np.float32)] * 2 + [np.ones((2, 4), np.float32)] * 2
    with pytest.raises(RowError, match=r"shape \(2, 4\), in others \(2, 3\)"):
        build_preprocessor("array").fit(arrays)
