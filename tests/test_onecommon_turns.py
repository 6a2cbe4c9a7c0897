"""Which wrong answers are drawn, on dialogues written by hand."""

import numpy as np
import pytest

from mmfuse.data.onecommon_sources import YOU, Side
from mmfuse.data.onecommon_turns import Answers, own_words
from mmfuse.errors import InputError


def side(number, said):
    turns = tuple((YOU, words) for words in said)
    return Side(f"s{number}", f"s{number}", np.zeros((7, 4)), turns, 0)


def test_a_place_with_few_turns_draws_from_later_ones_and_the_last_from_before():
    train = [side(i, [f"first{i}", f"second{i}"]) for i in range(25)]
    train = [*train, side(99, ["x", "y", "third"])]
    words, rng = own_words(train, 1, 4), np.random.default_rng(0)
    answers = Answers(train, words)
    second = {words(f"second{i}").tobytes() for i in range(25)} | {words("y").tobytes()}
    right = words("third")
    found, label = answers.draw("s99", 2, right, rng)
    assert (found[label] == right).all()
    assert {f.tobytes() for f in np.delete(found, label, 0)} <= second
    with pytest.raises(InputError, match="too few turns in training"):
        Answers(train[:5], words)


def test_wrong_answers_are_of_other_dialogues_and_none_comes_twice():
    train = [side(0, [f"mine{i}" for i in range(30)])]
    train += [side(1 + i, [f"other{i}" if i < 12 else "same"]) for i in range(60)]
    words, rng = own_words(train, 1, 4), np.random.default_rng(0)
    answers, right = Answers(train, words), words("mine0")
    allowed = {words(f"other{i}").tobytes() for i in range(12)} | {words("same").tobytes()}
    for _ in range(20):
        found, label = answers.draw("s0", 0, right, rng)
        rows = [ids.tobytes() for ids in found]
        assert rows.pop(label) == right.tobytes()
        assert len(set(rows)) == 9 and set(rows) <= allowed
