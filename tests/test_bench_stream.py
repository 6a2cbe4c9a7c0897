"""The figures that show a stream: how long the device waits, how memory grows."""

import re

import numpy as np
import pytest
import scipy.signal
import scipy.stats

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


def test_a_straight_line_has_its_slope_and_no_doubt():
    found = bench_stream.trend(np.arange(100), 5 + 3 * np.arange(100))
    assert (found.rate, found.low, found.high) == pytest.approx((3, 3, 3))
    assert bench_stream.trend(range(100), [7] * 100).high == 0


def test_the_interval_is_that_of_scipy():
    """Where every reading is a part of its own."""
    y = np.random.default_rng(0).normal(size=bench_stream.BLOCKS)
    found = bench_stream.trend(np.repeat(np.arange(len(y)), 2), np.repeat(y, 2))
    fit = scipy.stats.linregress(np.arange(len(y)), y)
    half = scipy.stats.t.ppf(0.975, len(y) - 2) * fit.stderr
    assert (found.low, found.high) == pytest.approx((fit.slope - half, fit.slope + half))


def test_the_interval_holds_the_true_slope_as_often_as_it_says():
    """Readings that resemble their neighbours, as memory does: 0.9 of each is in the next."""
    rng, inside = np.random.default_rng(0), 0
    for _ in range(400):
        noise = scipy.signal.lfilter([1], [1, -0.9], rng.normal(size=600))
        found = bench_stream.trend(np.arange(600), noise + 0.02 * np.arange(600))
        inside += found.low < 0.02 < found.high
    assert 0.90 < inside / 400 < 0.98


def test_too_few_readings_tell_no_slope():
    assert bench_stream.trend(range(23), range(23)) is None
    assert bench_stream.trend(range(24), range(24)) is not None


def test_memory_that_is_used_shows():
    before = bench_stream.resident_bytes()
    block = bytearray(b"x" * 64_000_000)
    assert bench_stream.resident_bytes() - before > 50_000_000
    assert bench_stream.peak_bytes() >= len(block)


def test_a_small_stream(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(CONFIG)
    flags = [f"--config={tmp_path / 'mine.py'}", "--rows=concat", f"--data_dir={tmp_path}"]
    flags += ["--gigabytes=0.0001", "--seconds=0.01", "--config.train.steps_per_dispatch=1"]
    flags += [f"--into={tmp_path / 'page.md'}"]
    assert bench_stream.main(flags) == 0
    said = capsys.readouterr().out
    assert re.search(r"Row concat, 2 seeds, batch 16, ", said)
    assert re.search(r"together 100 kB", said)
    assert re.search(r"The device waited \d+\.\d\d% of the time", said)
    page = (tmp_path / "page.md").read_text()
    assert "bench_stream --config=" in page
    assert "--data_dir" not in page
    assert all(f"- {line}" in page for line in said.splitlines())
    dispatches = int(re.search(r"in (\d+) dispatches", said)[1])
    unknown = f"cannot be told from {dispatches - dispatches // 4} dispatches"
    assert unknown in said or "95 % interval" in said


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
