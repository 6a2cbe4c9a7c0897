"""Which rows survive compression best, from records."""

import sys

from experiments import survival
from mmfuse.record import write_json
from mmfuse.summary import summarise
from mmfuse.workdir import Workdir
from tests.records import make_record

SCORES = {
    "a": (0.80, 0.82, 0.81),
    "a, int8": (0.79, 0.82, 0.80),
    "a, pruned": (0.60, 0.65, 0.64),
    "b": (0.90, 0.91, 0.92),
    "b, int8": (0.90, 0.91, 0.91),
    "b, pruned": (0.85, 0.80, 0.83),
    "c": (0.50, 0.52, 0.51),
    "c, pruned": (0.50, 0.51, 0.51),
}
BASELINES = {name: name.split(",")[0] for name in SCORES if "," in name}


def records():
    return [make_record(row, s, x) for row, xs in SCORES.items() for s, x in enumerate(xs)]


def test_rows_are_ranked_by_what_they_lose():
    table = summarise(records(), baseline="a", baselines=BASELINES)
    found = survival.losses(table)
    assert {row: list(ways) for row, ways in found.items()} == {
        "a": ["int8", "pruned"], "b": ["int8", "pruned"], "c": ["pruned"],
    }  # fmt: skip
    text = survival.page(table)
    lines = [line.split(" | ") for line in text.splitlines()]
    assert [line[0].strip("| ") for line in lines[2:5]] == ["b", "a", "c"]
    assert [line[1].strip() for line in lines[2:5]] == ["1.00", "2.00", "-"]
    assert lines[2][2].strip() == "91.00 ± 1.00" and lines[2][3].strip().startswith("-0.33 [")
    assert lines[4][3].strip() == "-"
    assert "over the 2 ways" in text


def test_the_command_writes_its_place_and_refuses_other_tables(tmp_path, monkeypatch, capsys):
    def write(folder, baseline, baselines):
        (tmp_path / folder).mkdir()
        identity = {"name": "small", "metric": "accuracy", "seeds": [0, 1, 2], "rows": {}}
        content = {"format": 1, "identity": identity, "row_order": list(SCORES)}
        content |= {"baseline": baseline, "baselines": baselines}
        write_json(tmp_path / folder / "ablation.json", content)
        for record in records():
            Workdir(tmp_path / folder).write_record(record)
        into = tmp_path / f"{folder}.md"
        arguments = [f"--workdir={tmp_path / folder}", f"--into={into}"]
        monkeypatch.setattr(sys, "argv", ["survival", *arguments])
        return survival.main(), into, capsys.readouterr()

    code, into, printed = write("good", "a", BASELINES)
    assert (code, printed.out) == (0, "")
    assert "<!-- table small survival -->" in into.read_text()
    code, into, printed = write("bad", "c", {"c, pruned": "a"})
    assert code == 2 and not into.exists()
    assert printed.err.splitlines() == [
        "error: no row is named 'ROW, WAY' with ROW as its baseline"
    ]
