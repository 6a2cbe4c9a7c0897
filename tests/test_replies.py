"""The command ``replies`` on a fabricated dialogue set: from training to the table."""

import re
import sys

import numpy as np
import pytest

from experiments import ablate, cli, replies
from mmfuse.data import raw
from mmfuse.probing.replies import variety
from mmfuse.tasks.sequences import Words
from tests import stream_files

CONFIG = """
from configs import dialogue

def get_config():
    config = dialogue.get_config("generation")
    config.rows = {"concat": config.rows["concat"]}
    config.seeds, config.parallel.devices = (0, 1), 1
    config.data.builder.update(min_count=1, length=5)
    config.data.preprocess.dialogue.update(length=6, min_count=1)
    config.train.update(epochs=1, batch=4, eval_batch=16)
    return config
"""


def test_variety_by_hand():
    texts = np.array([[4, 5, 4, 1], [4, 5, 1, 0]])
    found = variety(texts, Words(vocabulary=6, end=1))
    assert found == {"distinct-1": 2 / 5, "distinct-2": 2 / 3, "words": 5 / 2}


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    monkeypatch.delenv(raw.ENVIRONMENT, raising=False)
    stream_files.write_dialogues(tmp_path / "raw")
    stream_files.trust(tmp_path / "raw", monkeypatch)
    monkeypatch.setattr(cli, "use_compilation_cache", lambda: None)

    def call(command, *arguments):
        given = [f"--workdir={tmp_path / 'work'}", f"--data_dir={tmp_path / 'data'}"]
        given.append(f"--raw_data={tmp_path / 'raw'}")
        monkeypatch.setattr(sys, "argv", ["command", *given, *arguments])
        with pytest.raises(SystemExit) as caught:
            cli.run_command(command.main)
        return caught.value.code, *capsys.readouterr()

    return call


def test_replies_of_a_finished_row_and_what_is_refused(run, tmp_path):
    code, _, err = run(replies)
    assert code == 2 and err.count("\n") == 1
    (tmp_path / "config.py").write_text(CONFIG)
    code, _, err = run(ablate, f"--config={tmp_path / 'config.py'}")
    assert code == 0, err
    code, out, err = run(replies, "--examples=9")
    assert code == 0, err
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.splitlines()]
    lines = [cells for cells in lines if len(cells) == 5][2:]
    assert [cells[:2] for cells in lines] == [
        ["true", ""], ["concat", "greedy"], ["concat", "beam 4"], ["concat", "nucleus 0.9"]
    ]  # fmt: skip
    assert "Of 9 validation examples" in out
    assert lines[0][4] == "4.000"  # as the turns were fabricated
    number = r"\d\.\d{3}"
    for cells in lines[1:]:  # one epoch teaches little: both seeds may say nothing at all
        assert all(re.fullmatch(f"-|{number}( ± {number})?", cell) for cell in cells[2:])
    assert run(replies, "--examples=0")[1:] == (
        "", "error: --examples must be at least 1, got 0\n"
    )  # fmt: skip
