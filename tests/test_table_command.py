"""``python -m experiments.table``: from records alone, without jax, one line for every mistake."""

import subprocess
import sys

import pytest

from experiments.table import main
from mmfuse.tables import FORMATS, render, summarise
from mmfuse.workdir import open_workdir
from tests.records import SCORES, all_records


@pytest.fixture
def records():
    return all_records()


def _command(*arguments):
    code = (
        f"import sys; from experiments.table import main; sys.argv[1:] = {[*map(str, arguments)]};"
        "code = main(); assert 'jax' not in sys.modules and 'numpy' in sys.modules; sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, check=False
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.fixture
def workdir(tmp_path, records):
    identity = {"seeds": [0, 1, 2], "metric": "accuracy", "rows": {row: {} for row in SCORES}}
    with open_workdir(tmp_path / "w", identity, baseline="concat", command="make it") as workdir:
        for record in records:
            workdir.write_record(record)
    return tmp_path / "w"


def test_command_renders_without_jax(workdir, records):
    for format in FORMATS:
        code, out, err = _command(f"--workdir={workdir}", f"--format={format}")
        wanted = summarise(records, baseline="concat", rows=list(SCORES), command="make it")
        assert (code, out, err) == (0, render(wanted, format), "")
    code, out, _ = _command("--workdir", workdir, "--baseline=text", "--metric=f1_macro")
    assert code == 0 and out.startswith("| Method") and "Δ text" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--format=mdd"], "unknown format 'mdd'; did you mean 'md'?"),
        (["--baseline=txt"], "no baseline row 'txt'; did you mean 'text'?"),
        (["--metric=acuracy"], "no metric 'acuracy'; did you mean 'accuracy'?"),
        (["--basline=text"], "unexpected argument '--basline=text'; did you mean '--baseline'?"),
        (["format=md"], "unexpected argument 'format=md'; did you mean '--format'?"),
        (["--workdir=nowhere"], "no such workdir: 'nowhere'"),
        (["--workdir"], "expected one argument"),
    ],
)
def test_command_says_what_is_wrong_in_one_line(workdir, arguments, said, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["table", f"--workdir={workdir}", *arguments])
    assert main() == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("error: ") and said in captured.err
    assert captured.err.count("\n") == 1


def test_command_without_records(tmp_path, capsys, monkeypatch):
    with open_workdir(tmp_path, {"rows": {"a": {}}}):
        pass
    monkeypatch.setattr(sys, "argv", ["table", f"--workdir={tmp_path}"])
    assert main() == 2 and "no finished run yet" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["table"])
    assert main() == 2 and "--workdir" in capsys.readouterr().err


def test_a_page_gets_the_table_in_its_place_or_is_made(tmp_path, records, capsys, monkeypatch):
    identity = {"name": "tiny", "seeds": [0, 1, 2], "rows": {row: {} for row in SCORES}}
    with open_workdir(tmp_path / "w", identity, baseline="concat", command="make it") as workdir:
        for record in records:
            workdir.write_record(record)
    table = render(summarise(records, baseline="concat", command="make it"), "md").strip()

    def into(page):
        arguments = [f"--workdir={tmp_path / 'w'}", f"--into={page}"]
        monkeypatch.setattr(sys, "argv", ["table", *arguments])
        return main()

    new, old, bare = (tmp_path / name for name in ("new.md", "old.md", "bare.md"))
    place = "<!-- table tiny -->\n{}<!-- /table -->"
    old.write_text("before\n" + place.format("stale\n") + "\nafter\n")
    bare.write_text("no place\n")
    for _ in range(2):  # the second time it replaces what it wrote
        assert [into(new), into(old)] == [0, 0]
        written = place.format(f"\n{table}\n\n")
        assert new.read_text() == f"# tiny\n\n{written}\n"
        assert old.read_text() == f"before\n{written}\nafter\n"
    assert into(bare) == 2
    assert bare.read_text() == "no place\n"
    out, err = capsys.readouterr()
    assert out == ""
    assert "has no place for the table: <!-- table tiny -->" in err
