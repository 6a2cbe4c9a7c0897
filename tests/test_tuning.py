"""The choice among trials and the expected best of n, by hand and by enumeration."""

import csv
import io
import itertools
import random
import statistics

import pytest

from mmfuse.errors import InputError
from mmfuse.tables import render
from mmfuse.tables import summarise as table_of
from mmfuse.trials import Trial
from mmfuse.tuning import (
    budgets,
    choose,
    expected_best,
    near_edge,
    render_csv,
    render_markdown,
    summarise,
)
from tests.records import make_record

SPACE = {"train.lr": ["log", 1e-4, 1e-2], "train.batch": ["choice", 16, 32]}
FACTS = {"trials": 4, "seed": 9, "metric": "accuracy", "space": SPACE}


def trial(number, score, loss=1.0, lr=1e-3):
    values = {"train.lr": lr, "train.batch": 16}
    return Trial(number, values, score, loss, 0, 3, score is None)


def test_expected_best_by_hand():
    # of 1, 2, 4 the pairs are (1, 2), (1, 4), (2, 4): their best are 2, 4, 4, their worst 1, 1, 2
    assert expected_best([4, 1, 2], 1) == pytest.approx(7 / 3)
    assert expected_best([4, 1, 2], 2) == pytest.approx(10 / 3)
    assert expected_best([4, 1, 2], 3) == 4
    assert expected_best([4, 1, 2], 2, higher=False) == pytest.approx(4 / 3)
    assert expected_best([3, 3, 3], 2) == 3
    # the one without a score counts as the worst, 2: pairs (2, 2), (2, 4), (2, 4)
    assert expected_best([None, 4, 2], 2) == pytest.approx(10 / 3)
    assert expected_best([None, 4, 2], 2, higher=False) == pytest.approx((4 + 2 + 2) / 3)
    assert expected_best([None, None], 1) is None
    for n in (0, 4):
        with pytest.raises(ValueError, match=r"1\.\.3"):
            expected_best([4, 1, 2], n)


@pytest.mark.parametrize("higher", [True, False])
def test_expected_best_is_the_mean_over_all_subsets(higher):
    rng = random.Random(0)
    scores = [rng.choice([rng.random(), 0.5]) for _ in range(9)]
    best = max if higher else min
    for n in range(1, 10):
        mean = statistics.mean(map(best, itertools.combinations(scores, n)))
        assert expected_best(scores, n, higher) == pytest.approx(mean, abs=1e-12)
    assert expected_best(scores, 9, higher) == best(scores)


def test_expected_best_of_many():
    scores = [i / 3000 for i in range(3000)]  # binomials of this size do not fit a float
    # E[max of n of 0..N-1] = n (N + 1) / (n + 1) - 1, as for the German tanks
    assert expected_best(scores, 1500) == pytest.approx((1500 * 3001 / 1501 - 1) / 3000)


def test_the_choice():
    trials = [trial(0, 0.5), trial(1, 0.9, 0.4), trial(2, 0.9, 0.3), trial(3, 0.9, 0.3)]
    assert choose(trials, True).number == 2
    assert choose(trials, False).number == 0
    assert choose([trial(0, None, None), trial(1, 0.1, None), trial(2, 0.1)], True).number == 2
    assert choose([trial(0, None, None)], True) is None


def test_the_budgets_that_are_shown():
    assert [budgets(n) for n in (1, 2, 16)] == [[1], [1, 2], [1, 2, 4, 8, 16]]
    assert budgets(20) == [1, 2, 5, 10, 20]


def test_the_edge_of_the_space():
    log, flat, whole = ("log", 1e-4, 1.0), ("uniform", 0, 1), ("integer", 1, 9)
    assert [near_edge(v, log) for v in (1.5e-4, 1.7e-4, 0.5, 0.7)] == [True, False, False, True]
    assert [near_edge(v, flat) for v in (0.04, 0.06, 0.94, 0.96)] == [True, False, False, True]
    assert [near_edge(v, whole) for v in (1, 2, 9)] == [True, False, True]
    assert not near_edge(16, ("choice", 16, 32))


FOUND = {
    "steady": [trial(k, 0.6) for k in range(4)],
    "late_r": [trial(0, 0.1), trial(1, 0.2), trial(2, None, None), trial(3, 0.9, lr=1.1e-4)],
    "lost": [trial(k, None, None) for k in range(4)],
}


def summary(found=None, **facts):
    return summarise(FACTS | facts, found or FOUND, name="x", higher=True, examples=40)


def test_the_table_shows_a_row_that_needed_more_tuning():
    text = render_markdown(summary())
    lines = {line.split("|")[1].strip(): line for line in text.splitlines() if "|" in line}
    cells = {name: [c.strip() for c in line.split("|")[2:-1]] for name, line in lines.items()}
    assert cells["Method"][:4] == ["train.lr", "train.batch", "Epochs", "Best valid Accuracy (%)"]
    assert cells["steady"] == [
        "0.001", "16", "12", "60.00", "**60.00**", "**60.00**", "60.00", "+0.00"
    ]  # fmt: skip
    # pairs of 10, 20, 10 (lost), 90: 20, 10, 90, 20, 90, 90
    assert cells["late_r"] == [
        "0.00011 †", "16", "12", "90.00", "32.50", "53.33", "**90.00**", "+36.67"
    ]  # fmt: skip
    assert cells["lost"] == ["-", "-", "12", *["-"] * 5]
    for said in (
        "4 trials a row", "log-uniform in [0.0001, 0.01]", "one of 16, 32", "40 validation",
        "steady leads with one trial, late_r with 4", "worst: late_r 1, lost 4",
        "beyond: train.lr of late_r", "without replacement",
    ):  # fmt: skip
        assert said in text
    same = render_markdown(summary({"steady": FOUND["steady"]}))
    assert "order depends" not in same and "beyond" not in same and "worst" not in same
    alone = render_markdown(summary({"a|b": [trial(0, 0.5)]}, trials=1))
    assert r"a\|b" in alone and "Last" not in alone


def test_every_trial_is_a_line_of_the_csv():
    lines = list(csv.DictReader(io.StringIO(render_csv(FOUND, SPACE))))
    assert len(lines) == 12
    assert [line["method"] for line in lines[3:5]] == ["steady", "late_r"]
    assert lines[7] == {
        "method": "late_r", "trial": "3", "train.lr": "0.00011", "train.batch": "16",
        "valid_score": "0.9", "valid_loss": "1.0", "epoch": "0", "epochs": "3", "diverged": "False",
    }  # fmt: skip
    assert (lines[6]["valid_score"], lines[6]["diverged"]) == ("", "True")


def tuned(row, lr, **facts):
    config = {"seeds": [0], "fusion": {"name": row}, "train": {"lr": lr, "epochs": 3}}
    config["encoders"] = {"text": {"hidden": 4}}
    space = {"train.lr": ["log", 1e-4, 1e-2], "encoders.text.hidden": ["integer", 1, 8]}
    own = {"train": {"lr": lr, "epochs": 3}, "encoders": {"text": {"hidden": 4}}}
    config["tuned"] = FACTS | {"space": space} | facts
    return make_record(row, 0, 0.5, config=config, row_config=own)


def test_the_table_says_what_was_tuned_and_refuses_another_budget():
    text = render(table_of([tuned("a", 0.00123), tuned("b", 0.5)]), "md")
    assert "best of its 4 trials by valid accuracy" in text
    assert "a: train.lr 0.00123, encoders.text.hidden 4; b: train.lr 0.5" in text
    assert "a also differs in train.epochs." in text
    assert "b also differs in train.epochs." in text
    with pytest.raises(InputError, match=r"config.tuned.trials is 4 .* and 5 in row 'b'"):
        table_of([tuned("a", 0.1), tuned("b", 0.1, trials=5)])
    untuned = make_record("b", 0, 0.5, config={**tuned("b", 0.1)["config"], "tuned": {}})
    with pytest.raises(InputError, match="cannot share a table"):
        table_of([tuned("a", 0.1), untuned])
