"""From records to numbers, against values worked out by hand."""

import numpy as np
import pytest
import scipy.stats

from mmfuse.errors import InputError
from mmfuse.measures import MEASURES
from mmfuse.stats.items import compare_items, noise
from mmfuse.summary import summarise
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
    with pytest.raises(InputError, match="allowed: md, csv, tex, json, html"):
        render(summarise(records), "pdf")


def test_directions_agree_with_the_metrics():
    told = {name: m.higher for name, m in MEASURES.items()}
    assert {name: told[name] for name in METRICS} == METRICS
    for name in told.keys() - METRICS.keys():  # of the subsets of the test split that a card names
        assert told[name] == METRICS[name.split("_")[0]]


def test_lower_is_better_for_loss_and_mae(records):
    table = summarise(records, metric="loss")
    assert _row(table, "cross_attention").best[0] == "loss"
    assert "Loss ↓" in render(table, "md") and r"Loss $\downarrow$" in render(table, "tex")


def _spread(records, name, scores):
    return [*records, *(make_record(name, s, x) for s, x in enumerate(scores))]


def test_rows_that_differ_are_told_in_words(records):
    records = _spread(records, "noisy", (0.55, 0.70, 0.62))
    table = summarise(records)
    found = {row.name: row.comparison for row in table.rows}
    assert found["text"] is None and found["concat"].significant
    assert not found["noisy"].significant and found["cross_attention"].p is None
    test = scipy.stats.ttest_rel(SCORES["concat"], SCORES["text"])
    assert found["concat"].holm == pytest.approx(3 * test.pvalue)  # three rows are compared
    text = render(table, "md")
    assert "significant (p = 0.016" in text and "not significant (p = " in text
    assert "corrected by Holm for the 3 row(s) compared" in text


def test_one_seed_claims_nothing(records):
    table = summarise(records[::3])
    assert not any(row.comparison and row.comparison.significant for row in table.rows)
    text = render(table, "md")
    assert text.count("| not tested |") == 2 and "significant" not in text
    assert "Not tested, fewer than 3 seeds in common: concat, cross_attention." in text


def test_groups_share_letters_unless_they_differ(records):
    records = _spread(records, "copy", (0.90, 0.93, 0.91))
    groups = {row.name: row.group for row in summarise(records).rows}
    assert set(groups["copy"]) & set(groups["cross_attention"])
    far = {n: [x + 0.001 * s * (i + 1) for s, x in enumerate((v,) * 5)]
           for i, (n, v) in enumerate({"a": 0.1, "b": 0.5, "c": 0.9}.items())}  # fmt: skip
    table = summarise([make_record(n, s, x) for n, xs in far.items() for s, x in enumerate(xs)])
    assert [row.group for row in table.rows] == ["c", "b", "a"]  # the best has the first letter


def test_floors_stand_below_the_rule(records):
    table = summarise(records)
    # Labels 3 and 7 of 10: constant .7, its macro-F1 (2 * .7 / 1.7) / 2; guessing 1/2.
    majority, chance = table.floors
    assert majority["values"] == pytest.approx({"accuracy": 0.7, "f1_macro": 0.7 / 1.7})
    assert chance["values"] == {"accuracy": 0.5}
    assert "chance (uniform guess)" in render(table, "md")


def test_constant_answers_are_marked_collapsed(records):
    for record in records[3:6]:
        record["metrics"]["test"]["confusion"] = [[0, 3], [0, 7]]
    records[6]["metrics"]["test"]["confusion"] = [[3, 0], [7, 0]]
    table = summarise(records)
    assert [row.collapsed for row in table.rows] == [(), (0, 1, 2), (0,)]
    text = render(table, "md")
    assert "| concat (collapsed)" in text and "| 3, 1 collapsed |" in text
    assert "Collapsed: concat, cross_attention;" in text
    assert "collapsed" not in render(summarise(all_records()), "md")


def _stored(row, seed):
    """Predictions of 400 examples that hit as often as the row's score says."""
    rng = np.random.default_rng(seed)
    label = np.arange(400) % 2
    right = rng.random(400) < SCORES[row][seed]
    return {"output": np.eye(2, dtype=np.float32)[np.where(right, label, 1 - label)],
            "label": label}  # fmt: skip


def test_stored_predictions_give_the_noise_of_the_test_split(records):
    assert all(row.noise is None and row.items is None for row in summarise(records).rows)
    table = summarise(records, predictions=_stored)
    runs = {s: _stored("concat", s) for s in range(3)}
    base = {s: _stored("text", s) for s in range(3)}
    row = _row(table, "concat")
    assert row.noise == noise("accuracy", runs)
    assert row.items.p == compare_items("accuracy", runs, base).p
    assert row.items.holm >= row.items.p and _row(table, "text").items is None
    assert "Test-set noise: the 400 test examples alone give Accuracy" in render(table, "md")


def test_a_claim_that_the_test_split_does_not_carry_is_named(records):
    def same(row, seed):  # every row answers alike: no example tells them apart
        return _stored("text", seed)

    text = render(summarise(records, predictions=same), "md")
    assert "Significant over seeds, but not over test examples" in text and "): concat." in text
    assert "but not over" not in render(summarise(records, predictions=_stored), "md")


def test_failed_runs_have_no_predictions(records):
    records[0] |= {"status": "failed", "metrics": {}}
    asked = []
    summarise(records, predictions=lambda *run: asked.append(run))
    assert ("text", 0) not in asked and len(asked) == 8


def test_rows_with_a_baseline_of_their_own(records):
    own = {"cross_attention": "concat"}
    table = summarise(records, baseline="text", baselines=own)
    row = _row(table, "cross_attention")
    interval = scipy.stats.ttest_rel(SCORES["cross_attention"], SCORES["concat"])
    low, high = interval.confidence_interval(0.95)
    assert (row.baseline, _row(table, "concat").baseline) == ("concat", "text")
    assert (row.difference.low, row.difference.high) == pytest.approx((low, high))
    assert row.comparison.p == pytest.approx(interval.pvalue)
    assert table.compared_with == "own baseline"
    assert "Own baseline: concat with text. cross_attention with concat." in table.notes
    assert summarise(records, baseline="text").compared_with == "text"
    with pytest.raises(InputError, match="no baseline row 'conct'; did you mean 'concat'"):
        summarise(records, baselines={"text": "conct"})


def test_what_stored_models_take_is_shown_where_some_record_tells(records):
    assert "Exported" not in render(summarise(records), "md")
    for record in records:
        record |= {"size_bytes": 4000, "sparsity": 0.0, "effective_flops": 1234567}
    for record in records[3:]:
        record |= {"size_bytes": 1000 + record["seed"], "sparsity": 0.8}
    records[3]["clock"] |= {"exported_bytes": 2500, "latency_seconds": 123.4e-6}
    records[0]["clock"] |= {"exported_bytes": 5000, "latency_seconds": 1e-3}
    table = summarise(records, baseline="text")
    lines = {line.split(" | ")[0].strip("| "): line for line in render(table, "md").splitlines()}
    for cell in ("1.0 kB (25 %)", "80.0", "2.5 kB (50 %)", "123 µs", "1.23 M"):
        assert f" {cell} |" in lines["concat"]
    assert "latency" not in render(table, "json") and "exported" not in render(table, "json")
    assert "size_bytes,sparsity,effective_flops" in render(table, "csv")
