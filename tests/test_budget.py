"""Widths for an equal budget: found without training, and what is counted is what is built."""

import pytest

from mmfuse import budget
from mmfuse.ablation import resolve
from mmfuse.budget import TOLERANCE, equal, solve
from mmfuse.build import build
from mmfuse.errors import InputError
from mmfuse.parallel import Devices
from mmfuse.store import Store
from tests import tiny


def square(fields):
    return 1000 + 40 * fields["features"] + 3 * fields["features"] ** 2


@pytest.mark.parametrize("amount", [1200, 5000, 80_000, 3_000_000])
@pytest.mark.parametrize("start", [1, 32, 500])
def test_one_width_comes_as_near_as_whole_numbers_allow(amount, start):
    found = solve(square, {"features": start, "name": "x"}, amount)
    assert found["name"] == "x"
    error = abs(square(found) - amount)
    for step in (-1, 1):
        assert error <= abs(square({"features": found["features"] + step}) - amount)


def test_a_second_width_comes_nearer():
    def cost(fields):
        return 400 * fields["features"] ** 2 + 7 * fields["hidden"]

    found = solve(cost, {"features": 16, "hidden": 64}, 100_000, multiples={"features": 4})
    assert found["features"] % 4 == 0
    assert abs(cost(found) - 100_000) <= 7
    derived = solve(cost, {"features": 16, "hidden": 0}, 100_000, multiples={"features": 4})
    assert derived["hidden"] > 0


def test_a_budget_below_the_narrowest_gives_the_narrowest():
    assert solve(square, {"features": 32}, 10)["features"] == 1


def test_what_has_no_width_stays(capsys):
    fields = {"theta": 0.5, "hidden": None}
    assert solve(lambda f: 7, fields, 1000) == fields


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return tiny.dataset(tmp_path_factory)


ROWS = {
    "concat": {"name": "concat", "features": 8, "hidden": 8},
    "tfn": {"name": "tfn", "features": 8, "width": 4},
    "text": {"name": "unimodal", "modality": "text", "features": 8},
    "late": {"name": "majority_vote", "features": 8},
    "attention": {"name": "merged_transformer", "features": 8, "heads": 2, "layers": 1},
}


def ablation(**amount):
    config = tiny.config()
    with config.unlocked():
        config.rows = {name: {"fusion": fusion} for name, fusion in ROWS.items()}
        config.budget = amount
    config.baseline = "concat"
    return resolve(config)


@pytest.mark.parametrize(("kind", "amount"), [("params", 6000), ("flops", 16_000)])
def test_rows_agree_within_two_per_cent(dataset, kind, amount):
    asked = ablation(**{kind: amount})
    for row in asked.rows:
        solved = equal(row, dataset, asked.budget)
        made = build(solved, dataset, Devices("pmap", 1), asked)
        cost = {"params": made.parameters, "flops": made.flops}[kind]
        assert abs(cost - amount) <= TOLERANCE * amount, row.name
        assert not solved.budget_missed
        assert solved.fusion["features"] != row.fusion["features"]
        assert solved.differs == row.differs


def test_a_row_that_cannot_get_there_is_marked(dataset):
    asked = ablation(params=100)
    assert equal(asked.rows[0], dataset, asked.budget).budget_missed


def test_what_was_found_is_kept_for_the_next_launch(dataset, tmp_path, monkeypatch):
    asked, store = ablation(params=6000), Store(tmp_path)
    first = [equal(row, dataset, asked.budget, store) for row in asked.rows]
    monkeypatch.setattr(budget, "solve", None)
    assert [equal(row, dataset, asked.budget, store) for row in asked.rows] == first
    with pytest.raises(TypeError):  # another budget is another question
        equal(asked.rows[0], dataset, {"params": 7000}, store)


def test_without_a_budget_nothing_changes(dataset):
    row = ablation().rows[0]
    assert equal(row, dataset, {}) is row


@pytest.mark.parametrize(
    ("amounts", "said"),
    [
        ({"params": 1, "flops": 1}, "equal in one of them"),
        ({"parms": 1}, "did you mean 'params'"),
        ({"params": 0}, "must be a whole number >= 1, got 0"),
        ({"params": 1e6}, "must be a whole number >= 1, got 1000000.0"),
    ],
)
def test_bad_budgets_are_named(amounts, said):
    with pytest.raises(InputError, match=said):
        ablation(**amounts)
