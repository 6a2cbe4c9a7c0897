"""``python -m experiments.report``: without jax, its files, one line for every mistake."""

import subprocess
import sys

import pytest

from experiments.report import main
from tests.report.pages import check_page, make_workdir, write_probes


@pytest.fixture
def workdir(tmp_path):
    return make_workdir(tmp_path / "w")


def _main(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["report", *map(str, arguments)])
    return main()


def test_writes_the_page_and_its_csv_without_jax(workdir):
    code = (
        f"import sys; from experiments.report import main; sys.argv[1:] = ['--workdir={workdir}'];"
        "code = main(); assert 'jax' not in sys.modules; sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, check=False
    )
    page = workdir / "report.html"
    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, f"{page}\n", b"")
    check_page(page.read_text())
    files = {path.name for path in (workdir / "report_csv").iterdir()}
    assert files == {"forest.csv", "pareto-parameters.csv", "pareto-memory.csv",
                     "pareto-train-time.csv", "curves-accuracy.csv", "curves-loss.csv",
                     "confusion.csv"}  # fmt: skip
    assert (workdir / "report_csv" / "forest.csv").read_text().startswith("method,difference_n,")


def test_out_baseline_and_metric(workdir, tmp_path, monkeypatch, capsys):
    out = tmp_path / "there" / "a.html"
    assert _main(monkeypatch, f"--workdir={workdir}", f"--out={out}", "--baseline=text",
                 "--metric=f1_macro") == 0  # fmt: skip
    page = check_page(out.read_text())
    assert "Macro-F1: difference to text" in page.said("h3") and (out.parent / "a_csv").is_dir()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--workdir={w}", "--workdir={w}/"], "is given twice"),
        (["--workdir={w}", "--out={w}/a.pdf"], "give a name that ends in .html"),
        (["--workdir={w}", "--basline=text"], "did you mean '--baseline'?"),
        (["--workdir={w}", "--baseline=txt"], "no baseline row 'txt'; did you mean 'text'?"),
        (["--workdir={w}", "--metric=acuracy"], "did you mean 'accuracy'?"),
        (["--workdir={w}/nowhere"], "no such workdir"),
        (["--workdir={w}/runs"], "is not an mmfuse workdir"),
        ([], "--workdir"),
    ],
)
def test_mistakes(workdir, monkeypatch, capsys, arguments, said):
    assert _main(monkeypatch, *(a.format(w=workdir) for a in arguments)) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("error: ") and said in captured.err
    assert captured.err.count("\n") == 1
    assert not (workdir / "report.html").exists()


@pytest.mark.parametrize("content", ["{", "[]", '{"rows": []}', '{"format": 1, "rows": []}'])
def test_damaged_probes(workdir, monkeypatch, capsys, content):
    write_probes(workdir)
    (workdir / "probes" / "noise.json").write_text(content)
    assert _main(monkeypatch, f"--workdir={workdir}") == 2
    said = capsys.readouterr().err
    assert "noise.json' is damaged (" in said and "); remove it and probe again" in said


def test_something_in_the_way(workdir, monkeypatch, capsys):
    (workdir / "report_csv").write_text("mine")
    assert _main(monkeypatch, f"--workdir={workdir}") == 2
    assert "in the way" in capsys.readouterr().err
    assert (workdir / "report_csv").read_text() == "mine"
