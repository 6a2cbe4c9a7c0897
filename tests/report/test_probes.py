"""Figures of probes against the files that they were read from."""

import csv
import io

import pytest

from experiments.report import parse, source
from mmfuse.report import explain, probes
from tests.report.pages import UGLY, Page, make_workdir, value, write_probes


@pytest.fixture
def probed(tmp_path):
    path = make_workdir(tmp_path / "w")
    write_probes(path)
    return source(str(path), parse([f"--workdir={path}"]))


def _lines(figure):
    return list(csv.DictReader(io.StringIO(figure.csv())))


def test_modalities(probed):
    figure = probes.modality_figure(probed.table, probed.probes["modalities"], "")
    lines = _lines(figure)
    assert [line["method"] for line in lines] == ["concat"] * 4 + [UGLY] * 4
    assert {line["change"] for line in lines} == {"removed", "shuffled"}
    for line in lines:
        assert float(line["score"]) == pytest.approx(0.52)
        assert float(line["difference_mean"]) == pytest.approx(-0.31)
        assert float(line["difference_low"]) == pytest.approx(-0.31 - 4.302653 * 0.01 / 3**0.5)
    page = Page(figure.picture)
    assert page.said("caption") == ["Change of Accuracy in points: input removed",
                                    "Change of Accuracy in points: input shuffled"]  # fmt: skip
    assert page.said("td")[:3] == ["82.00", "-31.00 [-33.48, -28.52]", "-31.00 [-33.48, -28.52]"]


def test_intervals_of_what_is_no_percentage(probed):
    content = probed.probes["modalities"] | {"metric": "mae"}
    for row in content["rows"].values():
        for point in row["points"]:
            point["difference"] = {"n": 3, "mean": 0.12, "sd": 0.03, "low": 0.05, "high": 0.19}
    page = Page(probes.modality_figure(probed.table, content, "").picture)
    assert page.said("td")[1] == "+0.120 [+0.050, +0.190]"


def test_curves_leave_out_what_is_undefined(probed):
    figures = list(probes.curve_figures(probed.table, probed.probes["missing"], "p-"))
    assert [figure.name for figure in figures] == ["p-modality", "p-steps"]
    lines = [x for x in _lines(figures[0]) if x["method"] == UGLY and x["modality"] == "text"]
    assert [(x["x"], x["n"]) for x in lines] == [("0", "3"), ("0.5", "2"), ("1", "0")]
    assert float(lines[1]["mean"]) == pytest.approx(0.65) and lines[2]["mean"] == ""
    paths = [a for a in Page(figures[0].picture).all("path") if a["class"] == "line s2"]
    drawn = [a["d"].count("L") for a in paths if not a["d"].startswith("M0 6")]  # but the key
    assert drawn == [1, 1]  # two points a row: the third has no score
    (noise,) = probes.curve_figures(probed.table, probed.probes["noise"], "")
    assert noise.name == "noise" and "against SNR (dB)" in noise.caption


def test_areas_are_columns_of_a_table(probed):
    (figure,) = probes.curve_figures(probed.table, probed.probes["noise"], "")
    page = Page(figure.picture)
    assert page.said("caption") == ["Accuracy (%), mean height over SNR (dB)"]
    assert page.said("th") == ["Method", "image", "text", "concat", UGLY]
    assert page.said("td") == ["82.00 [75.43, 88.57]"] * 4  # 0.8, 0.81, 0.85: sd 2.65, t 4.303


def test_a_modality_keeps_its_colour_and_mark_where_others_are_not_read(probed):
    content = probed.probes["noise"]
    content["rows"]["concat"]["curves"] = content["rows"]["concat"]["curves"][1:]  # text alone
    (figure,) = probes.curve_figures(probed.table, content, "")
    first = figure.picture.split('class="grid"')[1].split("</svg>")[0]
    assert "line s2" in first and "line s1" not in first
    assert "h7v7h-7Z" in first and "a4 4" not in first  # squares, no circles


def test_nothing_defined_is_no_figure(probed):
    content = probed.probes["noise"]
    for row in content["rows"].values():
        for curve in row["curves"]:
            curve["points"] = [value(None)] * 3
    assert list(probes.curve_figures(probed.table, content, "")) == []


def test_latency_in_milliseconds(probed):
    content = probed.probes["latency"]
    here = ("cpu", 2)
    assert probes.latencies(probed.table, content, "at_one") == {here: {"concat": 2.0, UGLY: 4.0}}
    assert probes.latencies(probed.table, content, "at_best") == {}
    content["rows"][UGLY] |= {"device": "NVIDIA H100", "cores": 16}  # no rival on a machine
    found = probes.latencies(probed.table, content, "at_one")
    assert found == {here: {"concat": 2.0}, ("NVIDIA H100", 16): {UGLY: 4.0}}


def test_attention(probed):
    parts = explain.attention(probed.table, probed.probes["attention"])
    page = Page("".join(parts))
    assert page.said("td")[:7] == [
        "attention", "25 %", "82.00", "41.00", "71.00", "+30.33 [+28.90, +31.77]", "faithful",
    ]  # fmt: skip
    assert "none is corrected for the number of lines." in page.said("caption")[0]
    assert page.said("p").count("Largest: parcel 0.75, <b>my</b> 0.25") == 2
    assert page.said("p").count("Largest: my -0.5, parcel 0.5") == 2
    words = [(a["class"], a["style"]) for a in page.all("span")][:4]
    # A third of the largest weight is a third of the strongest tint, 60 %.
    assert words == [("word", "--w:20%"), ("word", "--w:60%"), ("word", "--w:60%"),
                     ("word for", "--w:60%")]  # fmt: skip
    assert "2 single maps and heads" in page.said("summary")  # one head, one matrix
    shares = [text for text in page.said("td") if text in ("60.0", "40.0", "2.0")]
    assert shares == ["60.0", "40.0", "2.0"] * 2


def test_rows_that_the_table_lacks_are_left_out(probed):
    content = probed.probes["noise"]
    content["rows"]["gone"] = content["rows"]["concat"]
    assert list(probes.known(probed.table, content)) == ["concat", UGLY]
