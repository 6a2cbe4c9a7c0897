"""Whole reports: what they show, what they say is absent, and that they are well formed."""

import base64
import json

import pytest

from experiments.report import parse, source
from mmfuse.report.build import report
from mmfuse.report.probes import KINDS
from tests.records import make_record
from tests.report.pages import UGLY, check_page, curve, make_workdir, report_records, write_probes


def _report(*paths):
    options = parse([f"--workdir={path}" for path in paths])
    return report([source(str(path), options) for path in paths], "report_csv")


def _titles(page, level="h2"):
    return [text for tag, text in page.texts if tag == level]


def test_report_of_one_workdir(tmp_path):
    text, figures = _report(make_workdir(tmp_path / "w"))
    page = check_page(text)
    assert _titles(page) == ["Table", "Differences", "Cost", "Learning curves", "Confusions",
                             "Configs", "Provenance", "Not measured"]  # fmt: skip
    assert [f.name for f in figures] == ["forest", "pareto-parameters", "pareto-memory",
                                         "pareto-train-time", "curves-accuracy", "curves-loss",
                                         "confusion"]  # fmt: skip
    folded = text.split("<summary>The cost of training</summary>")[1].split("</section>")[0]
    assert "pareto-memory.csv" in folded and "pareto-parameters.csv" not in folded
    memory, time = ([line[:2] for line in figures[i].rows] for i in (2, 3))
    assert memory[0] == ("text", 1000) and dict(memory)[UGLY] == 4000
    assert dict(time)[UGLY] == pytest.approx(4 * 13.3)  # the mean of 12.3, 13.3, 14.3 seconds
    assert "<script>alert" not in text and UGLY in page.said("th")
    said = " ".join(page.said())
    for wanted in ("python -m experiments.ablate --config=<tiny>", "0123456789abcdef", "f" * 64,
                   "jax 0.10.2", "2 x cpu", "valid accuracy", "12 openings logged: 12 for 'score'",
                   "0, 1, 2", "fusion.name = cross_attention"):  # fmt: skip
        assert wanted in said, wanted
    for kind in sorted({*KINDS} - {"samples"}):
        assert f"python -m experiments.probe --workdir={tmp_path / 'w'} --what={kind}" in said


def test_a_task_that_has_no_attention_is_told_of_no_command_for_it(tmp_path):
    records = report_records()
    for record in records:
        record["data"]["card"] = {"task": "ranking"}
    said = " ".join(check_page(_report(make_workdir(tmp_path / "w", records=records))[0]).said())
    assert "--what=latency" in said and "--what=attention" not in said
    assert "--what=samples" not in said


def test_a_task_that_generates_is_told_how_to_get_samples(tmp_path):
    records = report_records()
    for record in records:
        record["data"]["card"] = {"task": "words"}
    said = " ".join(check_page(_report(make_workdir(tmp_path / "w", records=records))[0]).said())
    assert "--what=samples" in said and "--what=attention" not in said


def test_samples_are_seen_beside_what_is_true_and_can_be_played(tmp_path):
    write_probes(make_workdir(tmp_path / "w"))
    page = check_page(_report(tmp_path / "w")[0])
    said = page.said()
    assert "Samples" in _titles(page) and f"{UGLY}: 2 samples, seed 0" in page.said("summary")
    for wanted in ("valid-<7>", "<i>my</i> parcel", "true: 5, read as 3", "generated, read as 5",
                   "(nothing)"):  # fmt: skip
        assert said.count(wanted) == 4, wanted  # two rows, two samples each
    heard = [a for a in page.all("audio") if a["src"] == "data:audio/wav;base64,UklG"]
    assert len(heard) == 8 and all("controls" in a and a["aria-label"] for a in heard)
    policy = next(
        a["content"] for a in page.all("meta") if "content" in a and "none" in a["content"]
    )
    assert "media-src data:" in policy
    opened = [a for a in page.all("details") if "open" in a]
    assert len(opened) == 1, "of the first row"


def test_every_figure_is_on_the_page_with_its_csv(tmp_path):
    text, figures = _report(make_workdir(tmp_path / "w"))
    links = {a["download"]: a["href"] for a in check_page(text).all("a") if "download" in a}
    assert set(links) == {f"{figure.name}.csv" for figure in figures}
    for figure in figures:
        content = base64.b64decode(links[f"{figure.name}.csv"].partition("base64,")[2]).decode()
        assert content == figure.csv() and len(content.splitlines()) == 1 + len(figure.rows)


def test_report_with_probes(tmp_path):
    path = make_workdir(tmp_path / "w")
    write_probes(path)
    text, figures = _report(path)
    page = check_page(text)
    assert "Not measured" not in _titles(page)
    assert {"Does it use every modality?", "Robustness", "Attention"} <= set(_titles(page))
    assert {"modalities", "noise", "modality", "steps", "pareto-latency-at_one"} <= {
        figure.name for figure in figures
    }
    said = " ".join(page.said())
    assert "-31.00 [-33.48, -28.52]" in said  # -30 -31 -32: 4.3027 * 1 / sqrt(3) = 2.48
    assert "<b>my</b>" in said and "faithful" in said and "alert(1)" not in page.said("script")[0]
    assert page.all("img")[0]["alt"] == "the <picture>"
    assert "14 openings logged: 2 for 'probe', 12 for 'score'" in said


def test_every_opening_counts_once(tmp_path):
    """A group of two seeds that was killed and opened the split again; a row probed by two files.

    The older log of a row has no times: there, an opening that is named twice was made twice.
    """
    records = report_records()
    for record in records[:2]:
        record["test_opening"] = {"run": "text, seeds 0, 1", "purpose": "score"}
        record["clock"]["test_openings"] = ["T1", "T2"]
    path = make_workdir(tmp_path / "w", records=records)
    write_probes(path, rows=("concat",))
    for kind in ("noise", "missing"):
        file = path / "probes" / f"{kind}.json"
        content = json.loads(file.read_text())
        content["rows"]["concat"]["openings"] = [{"run": "concat", "purpose": "curves"}] * 2
        file.write_text(json.dumps(content))
    said = " ".join(check_page(_report(path)[0]).said())
    assert "16 openings logged: 2 for 'curves', 2 for 'probe', 12 for 'score'" in said


def test_a_row_that_was_trained_again_since_it_was_probed_is_left_out(tmp_path):
    records = report_records()
    changed = next(r for r in records if r["row"] == "concat" and r["seed"] == 1)
    changed["params_sha256"] = "other"
    path = make_workdir(tmp_path / "w", records=records)
    write_probes(path)
    text, figures = _report(path)
    whats = "modalities, noise, missing, attention, samples, latency"
    assert f"not those of the records any more: concat ({whats}). Probe again." in " ".join(
        check_page(text).said("p")
    )
    shown = {line[0] for f in figures if f.name in ("modalities", "noise") for line in f.rows}
    assert shown == {UGLY}
    assert "14 openings logged" in text  # that the split was opened for it stays true


def test_report_over_several_workdirs(tmp_path):
    names = ["tiny & <b>", "another"]
    text, figures = _report(*(make_workdir(tmp_path / n[:4], name=n) for n in names))
    page = check_page(text)
    assert _titles(page) == ["Across tables", *names]
    assert len({figure.name for figure in figures}) == len(figures)
    assert {"ranks", "tiny-b-forest", "another-forest"} <= {figure.name for figure in figures}


def test_one_data_set_does_not_count_twice(tmp_path):
    text, figures = _report(*(make_workdir(tmp_path / f"w{i}") for i in range(2)))
    assert "Two tables have one name" in " ".join(check_page(text).said("p"))
    assert len({figure.name for figure in figures}) == len(figures) == 14


def test_report_of_regression_without_curves_or_reference(tmp_path):
    changed = {"primary": "mae", "reference": [], "reference_row": None, "flops_per_example": None}
    records = [
        make_record(row, seed, 0.5, **changed,
                    metrics={"valid": {}, "test": {"mae": x + seed / 10, "loss": 0.1}})
        for row, x in (("concat", 1.0), ("b", 0.5)) for seed in range(3)
    ]  # fmt: skip
    text, figures = _report(make_workdir(tmp_path / "w", records=records))
    page = check_page(text)
    assert "further to the left is better" in " ".join(page.said("figcaption"))
    assert [f.name for f in figures] == ["forest"]


@pytest.mark.parametrize("status", ["failed", "diverged"])
def test_report_of_runs_that_did_not_finish(tmp_path, status):
    records = report_records()
    for record in records[:3] + records[4:5]:
        record.update(status=status, metrics={}, curves={}, selected=None)
    text, _ = _report(make_workdir(tmp_path / "w", records=records))
    page = check_page(text)
    assert [a for a in page.all("span") if a.get("class") == "warn"]
    assert f"2/3, 1 {status}" in page.said("td")


def test_report_of_one_row_and_one_seed(tmp_path):
    records = [make_record("concat", 0, 0.5, curves={"train": curve(0, 1), "valid": curve(0, 1)})]
    text, figures = _report(make_workdir(tmp_path / "w", records=records))
    check_page(text)
    assert [f.name for f in figures] == ["curves-accuracy", "curves-loss", "confusion"]


def test_ten_rows_of_five_seeds_and_77_classes_stay_small(tmp_path):
    matrix = [[(i * j + i + j) % 7 for i in range(77)] for j in range(77)]
    records = [
        make_record("concat" if row == 0 else f"row {row}", seed, 0.5 + row / 100,
                    curves={"train": curve(0.1, 0.9, 40), "valid": curve(0.1, 0.8, 40)})
        for row in range(10) for seed in range(5)
    ]  # fmt: skip
    for record in records:
        record["metrics"]["test"]["confusion"] = matrix
    text, _ = _report(make_workdir(tmp_path / "w", records=records))
    assert len(text.encode()) < 5e6


def test_same_bytes_again(tmp_path):
    path = make_workdir(tmp_path / "w")
    write_probes(path)
    assert _report(path)[0] == _report(path)[0]
