"""Metrics by group, from made-up records whose means are known."""

import csv
import io

import pytest

from experiments import table as table_command
from mmfuse.by_group import by_group, markdown, table_csv
from mmfuse.errors import InputError
from mmfuse.workdir import open_workdir
from tests.records import make_record

CARD = {"group_names": ["genre", "star*ring", "empty"]}
VALUES = {"a": [(0.5, 0.25), (0.7, 0.25)], "b": [(0.4, 0.3), (0.4, 0.5)]}


def records(card=CARD):
    made = []
    for row, seeds in VALUES.items():
        for seed, (genre, starring) in enumerate(seeds):
            record = make_record(row, seed, 0.5)
            record["metrics"]["test"] |= {"mrr": 0.4, "mrr_by_group": [genre, starring, None]}
            record["data"] = {"name": "graph", "fingerprint": "f", "card": card}
            entry = {"name": "frequency", "metric": "mrr", "value": 0.2}
            record["reference"] = [entry | {"by_group": [0.9, 0.1, None]}]
            made.append(record)
    return made


def test_means_over_seeds_of_each_group():
    found = by_group(records(), "mrr")
    assert {row: {g: s.mean for g, s in groups.items()} for row, groups in found.items()} == {
        "a": {"genre": pytest.approx(0.6), "star*ring": 0.25},
        "b": {"genre": pytest.approx(0.4), "star*ring": pytest.approx(0.4)},
    }
    assert found["a"]["genre"].sd == pytest.approx(0.02**0.5)
    assert list(by_group(records({}), "mrr")["a"]) == ["0", "1"]


def test_markdown_marks_the_best_row_and_shows_references_below():
    shown = [line for line in markdown(records(), "mrr").splitlines() if line.startswith("|")]
    lines = [[cell.strip() for cell in line.split(" | ")] for line in shown]
    lines = [[first.strip("| "), *rest[:-1], rest[-1].strip("| ")] for first, *rest in lines]
    assert lines[0] == ["MRR by group", "genre", r"star\*ring"]
    assert ["a", "**0.600**", "0.250"] in lines
    assert ["b", "0.400", "**0.400**"] in lines
    assert lines[-1] == ["frequency", "0.900", "0.100"]
    assert "n = 2 seeds" in markdown(records(), "mrr")
    assert "largest standard deviation is 0.141" in markdown(records(), "mrr")


def test_csv_has_numbers_in_full():
    lines = list(csv.DictReader(io.StringIO(table_csv(records(), "mrr"))))
    assert [x["method"] for x in lines] == ["a", "a", "b", "b", "frequency", "frequency"]
    assert float(lines[3]["sd"]) == pytest.approx(0.02**0.5)
    assert (lines[4]["kind"], lines[4]["group"], lines[4]["mean"]) == ("reference", "genre", "0.9")


def test_what_is_not_there_is_named():
    with pytest.raises(InputError, match="no 'mr' by group; did you mean 'mrr'"):
        by_group(records(), "mr")
    with pytest.raises(InputError, match="no run has finished"):
        by_group([record | {"status": "diverged"} for record in records()], "mrr")


def test_the_command_prints_it_and_puts_it_into_its_place(tmp_path, monkeypatch, capsys):
    identity = {"name": "graph", "rows": {"a": {}, "b": {}}}
    with open_workdir(tmp_path / "work", identity) as workdir:
        for record in records():
            workdir.write_record(record)
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- table graph by group -->\n<!-- /table -->\nafter\n")

    def run(*arguments):
        work = f"--workdir={tmp_path / 'work'}"
        monkeypatch.setattr("sys.argv", ["table", work, "--by_group=mrr", *arguments])
        return table_command.main(), capsys.readouterr()

    assert run(f"--into={page}")[0] == 0
    assert markdown(records(), "mrr").strip() in page.read_text()
    code, said = run("--format=csv")
    assert (code, said.out) == (0, table_csv(records(), "mrr"))
    code, said = run("--format=tex")
    assert (code, said.err.count("\n")) == (2, 1)
