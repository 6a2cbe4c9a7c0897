"""The pictures against hand computations: forest, Pareto, curves, confusions, ranks."""

import csv
import io

import numpy as np
import pytest

from mmfuse.measures import measure
from mmfuse.report import confusion, forest, pareto, ranks
from mmfuse.report.curves import curves
from mmfuse.report.heat import heat
from mmfuse.summary import summarise
from tests.records import make_record
from tests.report.pages import UGLY, Page, report_records


@pytest.fixture
def records():
    return report_records()


@pytest.fixture
def table(records):
    return summarise(records, baseline="concat")


def _lines(figure):
    return list(csv.DictReader(io.StringIO(figure.csv())))


def test_forest_says_what_the_table_says(table):
    figure = forest.forest(table, "p-")
    lines = {line["method"]: line for line in _lines(figure)}
    assert figure.name == "p-forest" and set(lines) == {"text", "cross_attention", UGLY}
    for row in table.rows:
        if row.difference:
            assert float(lines[row.name]["difference_mean"]) == row.difference.mean
            assert float(lines[row.name]["difference_low"]) == row.difference.low
    assert UGLY in Page(figure.picture).said("text") and "<script" not in figure.picture


def test_forest_marks_what_is_significant(table):
    # text: -.20 -.19 -.24; cross_attention: .10 .11 .06; the ugly row: .01 -.01 -.01.
    found = [row.name for row in table.rows if row.comparison and row.comparison.significant]
    assert found == ["text"]  # the interval of cross_attention leaves out zero, but not by Holm
    picture = forest.forest(table, "").picture
    wide = picture[: picture.index('class="plot phone"')]
    assert wide.count('class="interval accent"') == 1 and wide.count('class="interval plain"') == 2


def test_forest_without_anything_to_compare(records):
    assert forest.forest(summarise(records[:3]), "") is None
    one = forest.forest(summarise(records[::3]), "")  # one seed: marks without intervals
    assert "interval" not in one.picture and one.picture.count('class="dot plain"') == 2 * 3


@pytest.mark.parametrize(("sign", "beyond"), [(-1, 3), (1, 0)])
def test_forest_cuts_off_controls_that_are_far_worse_and_never_gains(sign, beyond):
    m = measure("accuracy")
    ends = [(None, sign * 40.0, sign * 41.0, sign * 39.0)] * 2
    ends += [(None, 0.5, 0.1, 0.9), (None, -1.0, -3.0, 1.0), (None, 0.2, 0.0, 0.4)]
    axis, cut = forest._near(ends, m)
    assert cut == beyond and (axis.high < 3) == (beyond > 0) and (axis.low > -3) == (beyond > 0)


def test_front_by_hand():
    points = [
        ("a", 1, 0.5),
        ("b", 2, 0.4),
        ("c", 3, 0.7),
        ("d", 3, 0.6),
        ("e", 9, 0.7),
        ("f", 1, 0.5),
    ]
    assert pareto.front(points, higher=True) == ["a", "f", "c"]
    assert pareto.front(points, higher=False) == ["a", "f", "b"]


def test_front_against_the_definition():
    rng = np.random.default_rng(0)
    for _ in range(50):
        points = [(str(i), *rng.integers(1, 6, 2).tolist()) for i in range(8)]
        best = [
            n for n, c, s in points
            if not any((c2 <= c and s2 >= s) and (c2 < c or s2 > s) for _, c2, s2 in points)
        ]  # fmt: skip
        assert sorted(pareto.front(points, True)) == sorted(best)


def test_pareto(table):
    costs = [("parameters", "parameters", {row.name: row.parameters for row in table.rows}),
             ("flops", "FLOPs", {row.name: row.flops for row in table.rows})]  # fmt: skip
    (figure,) = pareto.pareto(table, "", costs)  # all rows have the same FLOPs
    lines = {line["method"]: line for line in _lines(figure)}
    assert lines["text"]["front"] == "True" and lines[UGLY]["front"] == "False"
    assert float(lines["concat"]["accuracy_mean"]) == pytest.approx(0.82)
    assert "cross_attention" in Page(figure.picture).said("text")


def test_no_label_of_the_pareto_plot_covers_another_or_a_point():
    rng = np.random.default_rng(1)
    rows = [f"a method {i}" for i in range(16)]
    found = [make_record(r, s, 0.8 + 0.01 * rng.random(), parameters=int(10 ** rng.uniform(4, 4.3)))
             for r in rows for s in range(3)]  # fmt: skip
    for r in rows:
        for record in found:
            if record["row"] == r:
                record["parameters"] = 10_000 + 700 * rows.index(r)
    table = summarise(found)
    points = {row.name: row.parameters for row in table.rows}
    (figure,) = pareto.pareto(table, "", [("p", "parameters", points)])
    for picture in figure.picture.split("<svg")[1:]:
        page = Page("<svg" + picture)
        spans = []
        for attributes, text in zip(page.all("text"), page.said("text"), strict=True):
            if text.startswith("a method"):
                x, y = float(attributes["x"]), float(attributes["y"])
                spans.append((x, y, x + pareto.text_width(text)))
        assert spans
        for i, (x, y, end) in enumerate(spans):
            assert not any(abs(y - b) < 12 and x < c and a < end for a, b, c in spans[:i])


def test_curves_are_means_in_the_band_of_all_seeds(table, records):
    records[3]["curves"]["valid"] = records[3]["curves"]["valid"][:2]  # stopped early
    records[4]["curves"]["valid"][0]["accuracy"] = float("nan")
    accuracy, loss = curves(table, records, "")
    assert (accuracy.name, loss.name) == ("curves-accuracy", "curves-loss")
    lines = [x for x in _lines(accuracy) if x["method"] == "concat" and x["split"] == "valid"]
    assert [line["n"] for line in lines] == ["2", "3", "2", "2"]
    assert lines[0]["seed_1"] == "" and float(lines[0]["mean"]) == pytest.approx(0.3)
    assert [float(lines[3][k]) for k in ("lowest", "highest")] == pytest.approx([0.81, 0.85])
    drawn = [a["d"].count("L") for a in Page(accuracy.picture).all("path")
             if a["class"].startswith("line")]  # fmt: skip
    assert drawn == [0] * 2 + [3] * 8  # the key, then four epochs of two splits of four rows
    # All seeds chose epoch 2 (the third); the first one of concat never came there.
    assert accuracy.picture.count("accent hollow") == 11


def test_no_curves(table, records):
    for record in records:
        del record["curves"]
    assert list(curves(table, records, "")) == []


def test_confusion_sums_over_finished_seeds(table, records):
    records[0]["status"] = "failed"
    figure = confusion.confusions(table, records, "")
    lines = [line for line in _lines(figure) if line["method"] == "text"]
    assert [(x["true"], x["predicted"], x["examples_all_seeds"]) for x in lines] == [
        ("0", "0", "2"), ("0", "1", "4"), ("1", "0", "6"), ("1", "1", "8"),
    ]  # fmt: skip
    assert Page(figure.picture).said("text")[:8] == ["0", "0", "33", "67", "1", "1", "43", "57"]


def test_confusion_of_many_classes_lists_the_largest(records):
    matrix = (np.eye(77, dtype=int) * 9).tolist()
    matrix[3][70], matrix[5][6] = 4, 1
    names = [f"intent <{i}>" for i in range(77)]
    for record in records:
        record["metrics"]["test"]["confusion"] = matrix
        record["data"] = record["data"] | {"card": {"class_names": names}}
    figure = confusion.confusions(summarise(records), records, "")
    items = Page(figure.picture).said("li")
    assert items[:2] == ["intent <3> → intent <70>: 31 %", "intent <5> → intent <6>: 10 %"]
    assert len(figure.picture) < 60_000 and len(Page(figure.picture).all("svg")) == 4


def test_no_confusion_where_the_task_has_none(records):
    for record in records:
        del record["metrics"]["test"]["confusion"]
    assert confusion.confusions(summarise(records), records, "") is None


def test_shares_of_a_class_without_examples():
    assert confusion.shares(np.array([[0.0, 0.0], [1.0, 3.0]])).tolist() == [[0, 0], [0.25, 0.75]]
    assert confusion.top(np.array([[5.0, 2.0], [0.0, 1.0]])) == [(0, 1, 2 / 7)]


def test_heat_draws_each_cell_once_in_its_shade():
    marks = heat(np.array([[0.0, 1.0], [0.51, 0.5]]), 0, 0, 10, 10)
    shades = {a["fill-opacity"]: a["d"].count("M") for a in Page("".join(marks)).all("path")}
    assert shades == {"1.0": 1, "0.5": 2}


def _tables(*scores):
    """One table for each {row: accuracy of its first seed}; the second is 1 point better."""
    return {
        f"d{i} <&>": summarise(
            [make_record(r, s, x + s / 100) for r, x in of.items() for s in (0, 1)]
        )
        for i, of in enumerate(scores)
    }


def test_ranks_of_the_rows_that_all_tables_have():
    first = {"a": 0.9, "b <i>": 0.8, "c": 0.7, "alone": 0.1}
    second, third = {"c": 0.5, "a": 0.9, "b <i>": 0.6}, {"a": 0.3, "b <i>": 0.4, "c": 0.2}
    tables = _tables(first, second, third)
    figure = ranks.ranks(tables)
    lines = {line["method"]: line for line in _lines(figure)}
    assert {name: float(line["mean_rank"]) for name, line in lines.items()} == pytest.approx(
        {"a": 4 / 3, "b <i>": 5 / 3, "c": 3}
    )
    assert float(lines["a"]["d2 <&> accuracy"]) == pytest.approx(0.305)
    assert "Left out, as not every data set has them with all seeds: alone." in figure.caption
    page = Page(figure.picture)
    names = [text for text in page.said("text") if text in lines]
    assert names == ["a", "b <i>", "c"] * 2
    assert [text for text in page.said("th") if text in lines] == ["a", "b <i>", "c"]
    cells = page.said("td")[:5]
    assert cells[:4] == ["1.33", "90.50 ± 0.71", "90.50 ± 0.71", "30.50 ± 0.71"]
    # Six runs, one goes at each end: .31 .90 .90 .91 are left.
    assert cells[4].startswith("75.50 [")


def test_two_tables_can_tell_nothing_apart():
    figure = ranks.ranks(_tables({"a": 0.9, "b": 0.8}, {"a": 0.9, "b": 0.8}))
    assert "CD = 1.39 (beyond the axis)" in figure.picture
    assert figure.picture.count('class="group"') == 2 * 2  # its scale, and the bar over both


def test_nothing_to_rank():
    assert ranks.ranks(_tables({"a": 0.9, "b": 0.8}, {"a": 0.9, "c": 0.8})) is None
