"""Published figures beside ours: what is compared, what is only marked, and what is refused."""

import dataclasses
import json
import sys
from pathlib import Path

import pytest
import scipy.stats

from experiments.table import main
from mmfuse.errors import InputError
from mmfuse.published import beside, load
from mmfuse.summary import summarise
from mmfuse.tables import render
from mmfuse.workdir import open_workdir
from tests.records import SCORES, all_records

OURS = {"features": "raw", "split": "official", "protocol": "chosen on validation"}
ENTRY = {"method": "concat", "metric": "accuracy", "value": 0.84, "conditions": OURS,
         "source": "a paper, table 2"}  # fmt: skip


def _write(path, *results, **content):
    path.write_text(json.dumps({"format": 1, "results": list(results)} | content))
    return path


def _one(entry, conditions=None, records=None):
    table = summarise(records or all_records())
    return beside(table, [entry], OURS if conditions is None else conditions)[0]


def test_difference_and_interval_by_scipy():
    error = scipy.stats.sem(SCORES["concat"])
    low, high = map(float, scipy.stats.t.interval(0.95, 2, loc=0.82, scale=error))
    found = _one(ENTRY)
    assert found.ours == pytest.approx(0.82) and found.difference == pytest.approx(-0.02)
    assert found.unlike == () and found.inside and low < 0.84 < high
    for value, inside in ((low - 1e-6, False), (low + 1e-6, True), (high + 1e-6, False)):
        assert _one(ENTRY | {"value": value}).inside is inside


@pytest.mark.parametrize("key", ["features", "split", "protocol"])
def test_unlike_conditions_are_marked_and_never_judged(key):
    other = ENTRY | {"conditions": OURS | {key: "other"}}
    found = _one(other)
    assert found.inside is None and found.unlike == (f"{key}: other there, {OURS[key]} here",)
    table = summarise(all_records())
    for format, mark in (("md", "§"), ("tex", r"\S{}")):
        text = render(dataclasses.replace(table, published=(found, _one(ENTRY))), format)
        assert f"unlike {mark}" in text and "not to be compared: concat" in text
        assert text.count("inside") == 2  # once for the like entry, once in the note


def test_what_the_ablation_does_not_state_is_unlike():
    found = _one(ENTRY, conditions={"split": "official"})
    assert found.unlike == ("features: raw there, not stated here",
                            "protocol: chosen on validation there, not stated here")  # fmt: skip
    assert found.inside is None


def test_rows_that_are_not_there():
    missing = _one(ENTRY | {"method": "MFN"})
    assert (missing.row, missing.ours, missing.difference, missing.inside) == (None,) * 4
    assert _one(ENTRY | {"method": "theirs", "row": "concat"}).row == "concat"
    one = [record for record in all_records() if record["seed"] == 0]
    assert _one(ENTRY, records=one).inside is None  # one seed: no interval


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"metric": "acuracy"}, "unknown metric 'acuracy'; did you mean 'accuracy'?"),
        ({"value": 80.3}, "accuracy is a share in 0..1, got 80.3"),
        ({"value": "high"}, "value must be a finite number, got 'high'"),
        ({"value": True}, "value must be a finite number"),
        ({"source": " "}, "source must be a text that is not empty"),
        ({"sorce": "x"}, "unknown key 'sorce'; did you mean 'source'?"),
        ({"conditions": {"features": "raw", "split": "x"}}, "conditions: protocol is missing"),
        ({"conditions": OURS | {"spilt": "x"}}, "unknown key 'spilt'"),
        ({"conditions": OURS | {"split": ""}}, "split must be a text that is not empty"),
        ({"conditions": []}, "conditions must have keys"),
    ],
)
def test_bad_entries_are_told_by_their_number(tmp_path, change, said):
    path = _write(tmp_path / "p.json", ENTRY, ENTRY | change)
    with pytest.raises(InputError, match="result 2") as error:
        load(path)
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("key", ["method", "metric", "value", "conditions", "source"])
def test_every_key_is_needed(tmp_path, key):
    entry = {name: value for name, value in ENTRY.items() if name != key}
    with pytest.raises(InputError, match=f"{key} is missing"):
        load(_write(tmp_path / "p.json", entry))


def test_bad_files(tmp_path):
    with pytest.raises(InputError, match="cannot read"):
        load(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(InputError, match="not JSON"):
        load(tmp_path / "bad.json")
    with pytest.raises(InputError, match="not a file of published results"):
        load(_write(tmp_path / "p.json", ENTRY, format=2))
    with pytest.raises(InputError, match="has no results"):
        load(_write(tmp_path / "p.json"))
    with pytest.raises(InputError, match="result 1: must be an object"):
        load(_write(tmp_path / "p.json", "x"))


def test_command(tmp_path, capsys, monkeypatch):
    identity = {"name": "tiny", "seeds": [0, 1, 2], "rows": dict.fromkeys(SCORES)}
    with open_workdir(tmp_path / "w", identity, baseline="text", conditions=OURS) as workdir:
        for record in all_records():
            workdir.write_record(record)
    unlike = ENTRY | {"method": "text", "conditions": OURS | {"split": "random"}}
    path = _write(tmp_path / "p.json", ENTRY, unlike)
    arguments = ["table", f"--workdir={tmp_path / 'w'}", f"--compare={path}"]
    monkeypatch.setattr(sys, "argv", arguments)
    assert main() == 0
    out = " ".join(capsys.readouterr().out.split())  # without the padding
    assert "| concat | Accuracy (%) | 84.00 | 82.00 | -2.00 | inside |" in out
    assert "| text | Accuracy (%) | 84.00 | 61.00 | -23.00 § | unlike § |" in out
    assert "(split: random there, official here)" in out
    assert "Source of concat, text: a paper, table 2." in out


@pytest.mark.parametrize("path", sorted(Path("configs/published").glob("*.json")), ids=str)
def test_shipped_files_are_whole(path):
    assert load(path)


def test_figures_of_metrics_that_the_table_does_not_show_are_left_out():
    table = summarise(all_records())
    found = beside(table, [ENTRY | {"metric": "mae", "value": 0.9}, ENTRY], OURS)
    assert [entry.metric for entry in found] == ["accuracy"]
    with pytest.raises(InputError, match=r"no published figure of accuracy, f1_macro; .* of mae$"):
        beside(table, [ENTRY | {"metric": "mae", "value": 0.9}], OURS)
