"""From records to numbers, against values worked out by hand."""

import pytest
import scipy.stats

from mmfuse.errors import InputError
from mmfuse.summary import MEASURES, summarise
from mmfuse.tables import render
from mmfuse.tasks import METRICS
from tests.records import SCORES, all_records, make_record


@pytest.fixture
def records():
    return all_records()


def _row(table, name):
    return next(row for row in table.rows if row.name == name)


def test_numbers_by_hand(records):
    table = summarise(records, baseline="text")
    row = _row(table, "concat")
    # .80 .81 .85: mean .82; deviations -.02 -.01 .03; sd = sqrt(.0014 / 2).
    assert row.metrics["accuracy"].mean == pytest.approx(0.82)
    assert row.metrics["accuracy"].sd == pytest.approx(0.0007**0.5)
    interval = scipy.stats.ttest_rel(SCORES["concat"], SCORES["text"]).confidence_interval(0.95)
    assert (row.difference.low, row.difference.high) == pytest.approx(tuple(interval))
    assert table.columns == ("accuracy", "f1_macro") and table.seeds == (0, 1, 2)
    assert (row.parameters, row.flops, row.optimum) == (12345, 1234567, 0.98)
    assert row.train_seconds == pytest.approx(13.3)
    assert [r.name for r in table.rows] == list(SCORES)


def test_order_of_records_and_rows(records):
    shuffled = sorted(records, key=lambda r: (r["seed"], r["row"]))
    order = ["cross_attention", "concat", "text"]
    one, other = summarise(records, rows=order), summarise(shuffled, rows=order)
    assert [row.name for row in one.rows] == order and one.baseline == "cross_attention"
    assert render(one, "json") == render(other, "json")


def test_ties_are_both_best(records):
    records += [make_record("copy", s, x) for s, x in enumerate(SCORES["cross_attention"])]
    text = render(summarise(records), "md")
    assert text.count("**91.00 ± 1.00**") == 2


def test_diverged_seed_is_shown_and_marked(records):
    records[-1] |= {"status": "diverged", "diverged_at": 17, "metrics": {"valid": {}, "test": {}}}
    table = summarise(records)
    text = render(table, "md")
    assert "2/3, 1 diverged" in text and "91.00 ± 1.41 †" in text
    assert "† over fewer than 3 seeds" in text
    assert _row(table, "cross_attention").difference.n == 2
    assert _row(table, "concat").best and not _row(table, "cross_attention").best


def test_missing_seed_and_row_are_named(records):
    text = render(summarise(records[:-1], rows=[*SCORES, "late"], seeds=(0, 1, 2, 3)), "md")
    assert "2/4, 2 missing" in text and "3/4, 1 missing" in text and "Not run: late." in text


def test_all_rows_failed(records):
    for record in records:
        record.update(status="failed", metrics={})
    text = render(summarise(records), "md")
    assert text.count("0/3, 3 failed") == 3 and "Accuracy (%)" in text


def test_regression():
    values = {"mae": 0.75, "correlation": 0.5, "loss": 1.0}
    metrics = {"valid": values, "test": values}
    records = [
        make_record("a", s, 0.0, metrics=metrics, reference=[], reference_row=None) for s in (0, 1)
    ]
    table = summarise(records)
    assert table.columns == ("mae", "correlation")
    assert "MAE ↓ | " in render(table, "md") and "0.750 ± 0.000" in render(table, "md")


def test_sentiment_shows_both_readings_of_acc_2():
    names = ("mae", "rmse", "correlation", "acc2_has0", "f1_has0", "acc2_non0", "f1_non0", "acc7")
    metrics = {split: dict.fromkeys(names, 0.5) for split in ("valid", "test")}
    records = [
        make_record("a", s, 0.0, metrics=metrics, reference=[], reference_row=None) for s in (0, 1)
    ]
    table = summarise(records, metric="rmse")
    assert table.columns == ("rmse", *(name for name in names if name != "rmse"))
    text = render(table, "md")
    assert "RMSE ↓ |" in text and "Acc-2 (has 0) (%)" in text and "Acc-7 (%)" in text
    assert set(METRICS) <= set(MEASURES)
    assert all(MEASURES[name].higher == higher for name, higher in METRICS.items())


def test_bad_choices_name_the_nearest(records):
    with pytest.raises(InputError, match="did you mean 'concat'"):
        summarise(records, baseline="conct")
    with pytest.raises(InputError, match="did you mean 'f1_macro'"):
        summarise(records, metric="f1-macro")
    with pytest.raises(InputError, match="no records"):
        summarise([])
    with pytest.raises(InputError, match="allowed: md, csv, tex, json"):
        render(summarise(records), "html")


def test_directions_agree_with_the_metrics():
    assert {name: m.higher for name, m in MEASURES.items()} == METRICS


def test_lower_is_better_for_loss_and_mae(records):
    table = summarise(records, metric="loss")
    assert _row(table, "cross_attention").best[0] == "loss"
    assert "Loss ↓" in render(table, "md") and r"Loss $\downarrow$" in render(table, "tex")
