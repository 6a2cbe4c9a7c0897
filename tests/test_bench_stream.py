"""The figures that show a stream: how long the device waits, how memory grows."""

import re

import pytest

from experiments import bench_stream
from mmfuse.errors import InputError

CONFIG = """
from tests import tiny

def get_config():
    return tiny.config()
"""


def test_waiting_is_what_lies_between_the_dispatches():
    assert bench_stream.waiting([(0, 2), (2, 4), (5, 6), (5.5, 8)]) == pytest.approx(1 / 8)
    assert bench_stream.waiting([(1, 2)]) == 0


def test_slope():
    assert bench_stream.slope([0, 1, 2, 3], [5, 8, 11, 14]) == pytest.approx(3)


def test_memory_that_is_used_shows():
    before = bench_stream.resident_bytes()
    block = bytearray(b"x" * 64_000_000)
    assert bench_stream.resident_bytes() - before > 50_000_000
    assert bench_stream.peak_bytes() >= len(block)


def test_a_small_stream(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(CONFIG)
    flags = [f"--config={tmp_path / 'mine.py'}", "--rows=concat", f"--data_dir={tmp_path}"]
    flags += ["--gigabytes=0.0001", "--seconds=0.01", "--config.train.steps_per_dispatch=1"]
    assert bench_stream.main(flags) == 0
    said = capsys.readouterr().out
    assert re.search(r"row concat, 2 seeds, batch 16, .*together 100 kB", said)
    assert re.search(r"the device waited \d+\.\d\d% of the time", said)


def test_bad_flags(tmp_path):
    (tmp_path / "mine.py").write_text(CONFIG)
    config = f"--config={tmp_path / 'mine.py'}"
    for flags, said in (
        (["--gigabytes=-1"], "--gigabytes must be > 0, got -1.0"),
        (["--seconds=nan"], "--seconds must be > 0, got nan"),
        (["--rows=nothing"], "matches no row; there are: concat, text only"),
    ):
        with pytest.raises(InputError, match=said):
            bench_stream.main([config, *flags])
