"""``python -m experiments.compare``: several workdirs, without jax."""

import csv
import io
import json
import subprocess
import sys

import numpy as np
import pytest

from experiments.compare import main
from mmfuse.stats.several import iqm, ranking
from mmfuse.workdir import open_workdir
from tests.records import SCORES, make_record


def _workdir(folder, name, scores, metric="accuracy"):
    identity = {"name": name, "seeds": [0, 1, 2], "metric": metric, "rows": dict.fromkeys(scores)}
    with open_workdir(folder, identity, baseline="concat") as workdir:
        for row, values in scores.items():
            for seed, value in enumerate(values):
                workdir.write_record(make_record(row, seed, value))
    return f"--workdir={folder}"


@pytest.fixture
def workdirs(tmp_path):
    shifted = {row: [x - 0.2 * ("cross" in row) for x in xs] for row, xs in SCORES.items()}
    more = SCORES | {"late": (0.1, 0.2, 0.3)}
    made = {"first": SCORES, "second": shifted, "third_x": more}
    return [_workdir(tmp_path / name, name, scores) for name, scores in made.items()]


def _run(arguments, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["compare", *arguments])
    code = main()
    return code, *capsys.readouterr()


def test_formats_say_the_same(workdirs, capsys, monkeypatch):
    texts = {}
    for format in ("md", "csv", "json"):
        code, texts[format], _ = _run([*workdirs, f"--format={format}"], capsys, monkeypatch)
        assert code == 0
    content = json.loads(texts["json"])
    means = {row: np.mean(xs) for row, xs in SCORES.items()}
    second = means | {"cross_attention": means["cross_attention"] - 0.2}
    wanted = ranking({r: [means[r], second[r], means[r]] for r in SCORES}, [True] * 3)
    assert content["ranking"]["ranks"] == pytest.approx(wanted.ranks)
    assert content["ranking"]["names"] == list(wanted.names)
    assert content["ranking"]["critical"] == pytest.approx(wanted.critical)
    lines = list(csv.DictReader(io.StringIO(texts["csv"])))
    rows = [[c.strip() for c in x.strip("|").split("|")] for x in texts["md"].splitlines()[2:5]]
    for line, row, entry in zip(lines, rows, content["rows"], strict=True):
        assert line["method"] == row[0] == entry["method"]
        assert row[1] == f"{float(line['mean_rank']):.2f}" and entry["mean_rank"] == float(
            line["mean_rank"]
        )
        assert row[2].startswith(f"{100 * float(line['first accuracy']):.2f} ± ")
        assert row[5].startswith(f"{100 * float(line['iqm']):.2f} [")
    runs = [SCORES["text"]] * 3
    assert float(lines[-1]["iqm"]) == pytest.approx(iqm(runs))
    assert "Left out, as not every data set has them with all seeds: late." in texts["md"]
    assert "Friedman's test, level 0.05" in texts["md"]


def test_other_metrics_have_ranks_but_no_common_mean(tmp_path, workdirs, capsys, monkeypatch):
    extra = _workdir(tmp_path / "loss", "loss", SCORES, metric="loss")
    code, out, _ = _run([*workdirs[:1], extra], capsys, monkeypatch)
    # Loss is one minus accuracy and less is better: the same order on both.
    assert code == 0 and "IQM" not in out and "Loss ↓" in out
    assert out.splitlines()[2].startswith("| cross_attention |      1.00 |")


def test_runs_without_jax_and_writes(workdirs, tmp_path):
    code = "import sys; from experiments.compare import main; sys.argv[1:] = {}; code = main();"
    code += "assert 'jax' not in sys.modules; sys.exit(code)"
    arguments = [*workdirs, f"--into={tmp_path / 'out.md'}"]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code.format(arguments)],
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    page = (tmp_path / "out.md").read_text()
    assert page.startswith("# comparison\n\n<!-- table comparison -->\n\n| Method")
    assert page.endswith("<!-- /table -->\n")


@pytest.mark.parametrize(
    ("pick", "more", "said"),
    [
        (1, [], "at least twice"),
        (2, ["--format=cvs"], "unknown format 'cvs'; did you mean 'csv'?"),
        (2, ["--workdri=x"], "unexpected argument '--workdri=x'; did you mean '--workdir'?"),
        (2, ["--workdir=nowhere"], "no such workdir: 'nowhere'"),
        (0, [], "--workdir"),
    ],
)
def test_mistakes_are_told_in_one_line(workdirs, pick, more, said, capsys, monkeypatch):
    code, out, err = _run([*workdirs[:pick], *more], capsys, monkeypatch)
    assert code == 2 and out == "" and said in err and err.count("\n") == 1


def test_a_data_set_counts_once(workdirs, tmp_path, capsys, monkeypatch):
    code, _, err = _run([workdirs[0], workdirs[0]], capsys, monkeypatch)
    assert code == 2 and "a data set counts once" in err
    scores = {"late": (0.1, 0.2, 0.3), "text": (0.5, 0.6, 0.7)}
    other = _workdir(tmp_path / "other", "other", scores)
    code, _, err = _run([workdirs[0], other], capsys, monkeypatch)
    assert code == 2 and "share 1 finished row(s)" in err


def test_a_row_whose_seeds_have_not_all_finished_is_left_out(
    workdirs, tmp_path, capsys, monkeypatch
):
    other = _workdir(tmp_path / "other", "other", SCORES | {"text": (0.99,)})
    code, out, _ = _run([workdirs[0], other], capsys, monkeypatch)
    assert code == 0 and "Left out, as not every data set has them with all seeds: text." in out
    assert "| text" not in out
