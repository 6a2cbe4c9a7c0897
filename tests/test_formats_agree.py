"""Markdown, CSV, LaTeX, JSON and HTML of one table say the same numbers."""

import csv
import dataclasses
import html
import io
import json
import re

import numpy as np
import pytest

from mmfuse.cells import p_value
from mmfuse.published import beside
from mmfuse.summary import summarise
from mmfuse.tables import FORMATS, render
from tests.records import all_records, make_record

CONDITIONS = {"features": "raw", "split": "s", "protocol": "p"}


def _said(row, seed):
    rng = np.random.default_rng(seed + len(row))
    return {"output": rng.normal(size=(40, 2)).astype(np.float32), "label": np.arange(40) % 2}


@pytest.fixture(scope="module")
def texts():
    records = all_records()
    records += [make_record("noisy_row", s, x) for s, x in enumerate((0.55, 0.70, 0.62))]
    records += [make_record("flat", s, 0.7, status="done" if s else "failed") for s in range(3)]
    for record in records[-2:]:
        record["metrics"]["test"]["confusion"] = [[0, 3], [0, 7]]
    records[-3]["metrics"] = {}
    table = summarise(records, predictions=_said)
    entry = {"method": "concat", "metric": "accuracy", "value": 0.84, "conditions": CONDITIONS,
             "source": "x"}  # fmt: skip
    other = entry | {"conditions": CONDITIONS | {"split": "t"}, "method": "text", "value": 0.5}
    table = dataclasses.replace(table, published=beside(table, [entry, other], CONDITIONS))
    return {format: render(table, format) for format in FORMATS}


def _markdown(text):
    """All tables of a page: lists of rows of plain cells."""
    tables = [[]]
    for line in text.splitlines():
        if not line.startswith("|"):
            tables.append([])
            continue
        cells = [cell.strip().strip("*") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not all(set(cell) <= set("-:—") and cell for cell in cells):
            tables[-1].append(cells)
    return [table for table in tables if table]


def _tex(text):
    plain = [(r"$-$", "-"), (r"$\pm$", "±"), (r"$\Delta$", "Δ"), (r"\textless{}", "<"),
             (r"\textdagger{}", "†"), (r"\S{}", "§")]  # fmt: skip
    for code, character in plain:
        text = text.replace(code, character)
    text = re.sub(r"\\([%_])", r"\1", re.sub(r"\\textbf\{([^}]*)\}", r"\1", text))
    tables = re.findall(r"\\begin\{tabular\}.*?\\end\{tabular\}", text, re.DOTALL)
    lines = [[x for x in table.splitlines() if x.endswith(r"\\")] for table in tables]
    return [[[c.strip() for c in x.removesuffix(r"\\").split(" & ")] for x in t] for t in lines]


def test_markdown_and_tex_have_the_same_cells(texts):
    md, tex = _markdown(texts["md"]), _tex(texts["tex"])
    assert [row[:-1] for row in md[0]] == tex[0]  # LaTeX has no clock
    assert md[1] == tex[1] and len(md) == len(tex) == 2
    assert len(md[0]) == 1 + 5 + 3 and len(md[1]) == 3
    assert len(md[0][0]) <= 12


def test_markdown_and_html_have_the_same_cells_and_notes(texts):
    tables = re.findall(r"<table.*?</table>", texts["html"], re.DOTALL)
    shown = []
    for table in tables:
        lines = re.findall(r"<tr.*?</tr>", table, re.DOTALL)
        shown.append([
            [_plain(cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", line, re.DOTALL)]
            for line in lines
        ])  # fmt: skip
    md = [[[_plain(cell) for cell in line] for line in table] for table in _markdown(texts["md"])]
    assert shown == md and len(md) == 2
    notes = [x.removeprefix("- ") for x in texts["md"].splitlines() if x.startswith("- ")]
    items = re.findall(r"<li>(.*?)</li>", texts["html"], re.DOTALL)
    assert [_plain(x) for x in items] == [_plain(x) for x in notes]


def _plain(text):
    text = html.unescape(re.sub(r"<.*?>", "", text)).replace("\xa0", " ")
    return text.replace("\\", "").strip()


def test_csv_and_json_have_the_same_numbers(texts):
    lines = list(csv.DictReader(io.StringIO(texts["csv"])))
    content = json.loads(texts["json"])

    def same(text, value):
        return text == "" if value is None else text == str(value)

    for line, row in zip(lines, content["rows"], strict=False):
        assert line["method"] == row["name"] and line["group"] == row["group"]
        for name, found in (*row["metrics"].items(), ("difference", row["difference"])):
            for part in ("mean", "sd", "n", "low", "high"):
                assert same(line[f"{name}_{part}"], found and found[part])
        for key, value in (row["comparison"] or {}).items():
            assert same(line[f"difference_{key}"], value)
        for key, value in (row["items"] or {}).items():
            if f"items_{key}" in line:
                assert same(line[f"items_{key}"], value)
        assert same(line["noise_error"], row["noise"] and row["noise"]["error"])
        assert line["collapsed"] == str(len(row["collapsed"]))
        assert same(line["parameters"], row["parameters"])
    below = content["references"] + content["floors"] + [
        {"name": p["method"], "values": {p["metric"]: p["value"]}} for p in content["published"]
    ]  # fmt: skip
    for line, entry in zip(lines[len(content["rows"]) :], below, strict=True):
        assert line["method"] == entry["name"]
        assert all(line[f"{m}_mean"] == str(v) for m, v in entry["values"].items())
    for line, entry in zip(lines[-2:], content["published"], strict=True):
        assert same(line["published_difference"], entry["difference"])
        assert same(line["published_inside"], entry["inside"])
        assert line["published_unlike"] == "; ".join(entry["unlike"])


def test_markdown_prints_what_json_holds(texts):
    content, (table, below) = json.loads(texts["json"]), _markdown(texts["md"])
    columns = table[0]
    at = {title: i for i, title in enumerate(columns)}
    for row, cells in zip(content["rows"], table[1:], strict=False):
        for title, name in (("Accuracy (%)", "accuracy"), ("Macro-F1 (%)", "f1_macro")):
            found = row["metrics"][name]
            assert cells[at[title]].startswith(
                f"{100 * found['mean']:.2f} ± {100 * found['sd']:.2f}"
            )
        if row["name"] == content["baseline"]:
            assert cells[at["Δ text"]] == "baseline" and cells[at["Difference"]] == ""
            continue
        d, c = row["difference"], row["comparison"]
        wanted = f"{100 * d['mean']:+.2f}"
        if d["low"] is not None:
            wanted += f" [{100 * d['low']:+.2f}, {100 * d['high']:+.2f}]"
        assert cells[at["Δ text"]] == wanted
        verdict = "not tested"
        if c["holm"] is not None:
            word = "significant" if c["holm"] <= 0.05 else "not significant"
            verdict = f"{word} ({p_value(c['holm'])}, g = {c['effect']:+.2f})"
        assert cells[at["Difference"]] == verdict
    for entry, cells in zip(content["floors"], table[-2:], strict=True):
        assert cells[:2] == [entry["name"], f"{100 * entry['values']['accuracy']:.2f}"]
    for entry, cells in zip(content["published"], below[1:], strict=True):
        figures = [f"{100 * entry[key]:.2f}" for key in ("value", "ours")]
        assert cells[2:4] == figures
        assert cells[4].startswith(f"{100 * entry['difference']:+.2f}")
    for note in content["notes"]:
        assert " ".join(note.split()[:4]).replace("_", "") in texts["md"].replace("_", "")
