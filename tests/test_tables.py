"""What a table looks like in each format, and what it may hold there."""

import csv
import io
import json
import re
import shutil
import subprocess

import pytest

from mmfuse.tables import escape_markdown, escape_tex, render, summarise
from tests.records import SCORES, all_records, make_record


@pytest.fixture
def records():
    return all_records()


def test_markdown(records):
    lines = render(summarise(records), "md").splitlines()
    cells = [[c.strip() for c in line.strip("|").split(" | ")] for line in lines[:7]]
    assert cells[0] == ["Method", "Accuracy (%)", "Optimum (%)", "Macro-F1 (%)", "Δ text",
                        "Difference", "Seeds", "Parameters", "FLOPs", "Train time"]  # fmt: skip
    assert cells[2] == ["text", "61.00 ± 1.00", "97.50", "60.00 ± 1.00", "baseline", "", "3",
                        "12,345", "1.23 M", "13.3 s"]  # fmt: skip
    # .20 .19 .24: mean .21, sd .02646; 4.3027 * .02646 / sqrt(3) = .0657.
    assert cells[3][1] == "82.00 ± 2.65" and cells[3][4] == "+21.00 [+14.43, +27.57]"
    # t = .21 / (.02646 / sqrt(3)) = 13.75, p = .0052 for two degrees of freedom, doubled by Holm.
    assert cells[3][5] == "significant (p = 0.010, g = +4.48)" and cells[4][5] == "not tested"
    assert cells[4][4] == "+30.00"  # the same in every seed: no interval
    assert cells[4][:2] == ["cross_attention", "**91.00 ± 1.00**"]
    assert cells[6][:3] == ["Bayes optimum (text+image)", "98.00", ""]
    assert len({len(line) for line in lines[:7]}) == 1  # aligned
    notes = "\n".join(lines[8:])
    for piece in (
        "n = 3 seeds (0, 1, 2)",
        "ddof = 1",
        "valid accuracy",
        "that of text",
        "paired t test over seeds against text",
        "corrected by Holm for the 2 row(s)",
        "with 2 row(s) compared it can reach 0.05 from 7 seeds on",
        "Not tested, the same difference in every seed: no spread to test by: cross_attention",
        "2 x cpu",
        "fingerprint ffffffffffff",
        "0123456789ab + local changes feedbeef",
        "jax 0.10.2",
    ):
        assert piece in notes


def test_minus_in_tex(records):
    assert "$-$21.00 [$-$27.57, $-$14.43]" in render(summarise(records, baseline="concat"), "tex")


def test_difference_to_a_better_row_is_negative(records):
    text = render(summarise(records, baseline="concat"), "md")
    assert "-21.00 [-27.57, -14.43]" in text


def test_row_without_a_finished_seed(records):
    for record in records[:3]:
        record.update(status="failed", metrics={}, parameters=None)
    text = render(summarise(records, baseline="concat"), "md")
    line = next(line for line in text.splitlines() if line.startswith("| text"))
    cells = [cell.strip() for cell in line.strip("|").split(" | ")]
    assert cells[1] == cells[3] == cells[4] == cells[7] == "-" and cells[6] == "0/3, 3 failed"
    assert cells[5] == "not tested"


def test_one_seed_has_no_sd_and_says_why(records):
    text = render(summarise(records[::3]), "md")
    assert "±" not in text.replace("Mean ±", "") and "One seed (0)" in text
    assert "+20.00 |" in text


def test_undefined_metric(records):
    for record in records[:3]:
        record["metrics"]["test"] |= {"f1_macro": None}
    records[3]["metrics"]["test"] |= {"f1_macro": float("nan")}
    lines = render(summarise(records), "md").splitlines()
    assert lines[2].split(" | ")[3].strip() == "-"
    assert lines[3].split(" | ")[3].strip() == "82.00 ± 2.83 †"


def test_rows_that_differ_in_more_than_the_fusion_are_named(records):
    for record in records[:3]:
        record["row_config"] = {"fusion": {}, "train": {"lr": 0.2}}
        record["config"] = record["config"] | {"train": {"lr": 0.2}}
    assert "text also differs in train.lr." in render(summarise(records), "md")


def test_what_rows_do_not_read_is_said_once(records):
    for record in records[:3]:
        record["row_config"] = {"fusion": {}, "modalities": ["audio", "text"]}
    text = render(summarise(records), "md")
    assert "Rows that do not read every modality: text: audio, text." in text
    assert "also differs" not in text


def test_json_and_tex_hold_only_what_a_rerun_reproduces(records):
    first = summarise(records, command="python -m experiments.ablate --workdir=/home/me")
    for record in records:
        record["clock"] = {"train_seconds": 99.9}
    second = summarise(records)
    for format in ("json", "tex"):
        assert render(first, format) == render(second, format)
    assert render(first, "md") != render(second, "md")
    assert "Command: python -m experiments.ablate" in render(first, "md")


def test_json_is_whole(records):
    content = json.loads(render(summarise(records), "json"))
    row = content["rows"][1]
    assert row["values"]["accuracy"] == {"0": 0.8, "1": 0.81, "2": 0.85}
    assert row["metrics"]["accuracy"]["n"] == 3 and row["seeds"]["done"] == [0, 1, 2]
    assert content["references"][0]["values"] == {"accuracy": 0.98}


def test_csv_holds_full_numbers(records):
    lines = list(csv.DictReader(io.StringIO(render(summarise(records), "csv"))))
    assert [line["method"] for line in lines] == [*SCORES, "Bayes optimum (text+image)", *FLOORS]
    assert float(lines[1]["accuracy_mean"]) == pytest.approx(0.82, abs=1e-15)
    assert lines[0]["difference_mean"] == "" and float(lines[1]["difference_n"]) == 3
    assert lines[3]["kind"] == "reference" and lines[3]["accuracy_mean"] == "0.98"
    assert float(lines[0]["train_seconds"]) == pytest.approx(13.3)


FLOORS = ["majority class (of the test labels)", "chance (uniform guess)"]
UGLY = r"a_b & 50% $x$ #1 {c} ~d^ \e <f> |g| * `h` [i](j) " + '"k"'


def test_escapes_in_markdown(records):
    records += [make_record(UGLY, s, 0.5) for s in range(3)]
    line = next(x for x in render(summarise(records), "md").splitlines() if "50%" in x)
    assert len(re.findall(r"(?<!\\)\|", line)) == 11  # ten cells
    assert "&lt;f>" in line and "&amp;" in line and "]\\(" in line and "a_b" in line
    assert escape_markdown("_x_ y\nz") == r"\_x\_ y z"


def test_escapes_in_tex():
    escaped = escape_tex(UGLY)
    bare = re.sub(r"\\[&%$#_{}]|\\text\w+\{\}", "", escaped)
    assert not set(bare) & set("&%$#_{}~^\\<>|")
    assert escape_tex("±Δ") == r"$\pm$$\Delta$"


def _document(text):
    packages = r"\usepackage[T1]{fontenc}\usepackage{booktabs}\usepackage{textcomp}"
    return (
        rf"\documentclass{{article}}{packages}\begin{{document}}" + f"\n{text}\n\\end{{document}}\n"
    )


def test_tex_is_balanced(records):
    records += [make_record(UGLY, s, 0.5) for s in range(3)]
    text = render(summarise(records), "tex")
    bare = re.sub(r"\\[&%$#_{}\\]", "", text)
    assert bare.count("{") == bare.count("}") and bare.count("$") % 2 == 0
    assert (
        re.findall(r"\\begin\{(\w+)\}", text) == re.findall(r"\\end\{(\w+)\}", text) == ["tabular"]
    )
    assert [text.count(rule) for rule in ("\\toprule", "\\midrule", "\\bottomrule")] == [1, 2, 1]
    columns = re.search(r"\{tabular\}\{(l r*|lr*)\}", text).group(1)
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(body) == 8  # header, four rows, a bound and two floors
    assert {len(re.findall(r"(?<!\\)&", line)) for line in body} == {len(columns) - 1}


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="needs pdflatex")
def test_tex_compiles(records, tmp_path):
    records += [make_record(name, s, 0.5) for s in range(3) for name in (UGLY, "[x] y")]
    (tmp_path / "t.tex").write_text(_document(render(summarise(records), "tex")), encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, timeout=50)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
