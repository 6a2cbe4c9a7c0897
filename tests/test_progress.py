"""Progress with a fake clock: what is said, when, and what the estimate leaves out."""

import io
import sys

import pytest

from mmfuse.progress import Estimate, Progress, duration


class Clock:
    """Time that passes when told."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


def _run(progress, clock, rows=2):
    with progress:
        progress.start(rows)
        for name in ("concat", "t[f]n")[:rows]:
            progress.row(name, 4)
            clock.now += 7.0
            progress.compiled(7.0)
            for epoch in range(1, 5):
                clock.now += 10.0
                progress.epoch(epoch, f"valid 0.{epoch}")
            progress.finish_row(f"{name}: test 0.9")


def test_lines_without_a_terminal():
    clock, stream = Clock(), io.StringIO()
    _run(Progress(stream, every=25.0, clock=clock), clock)
    assert stream.getvalue().splitlines() == [
        "[0/2] concat: epoch 2/4, valid 0.2 (60 s left, compiling aside)",
        "[1/2] concat: test 0.9 (40 s left, compiling aside)",
        "[1/2] t[f]n: epoch 2/4, valid 0.2 (20 s left, compiling aside)",
        "[2/2] t[f]n: test 0.9",
    ]


def test_lines_are_not_many():
    clock, stream = Clock(), io.StringIO()
    progress = Progress(stream, every=30.0, clock=clock)
    progress.start(1)
    progress.row("a", 1000)
    for epoch in range(1000):
        clock.now += 0.1
        progress.epoch(epoch + 1)
    assert len(stream.getvalue().splitlines()) == 3


def test_estimate_leaves_compiling_and_earlier_launches_out():
    clock = Clock()
    estimate = Estimate(clock)
    assert estimate.seconds_left() is None
    estimate.start(total=10, done=6)
    assert estimate.seconds_left() is None
    clock.now += 50.0
    estimate.compiling += 30.0
    estimate.finished, estimate.share = 7, 0.25  # 1.25 units in 20 s, 2.75 units left
    assert estimate.seconds_left() == pytest.approx(20 / 1.25 * 2.75)


def test_resumed_launch_says_so():
    stream = io.StringIO()
    progress = Progress(stream, clock=Clock())
    progress.start(5, done=3)
    assert stream.getvalue() == "[3/5] 3 of 5 finished before\n"


def test_bar_on_a_terminal():
    clock, stream = Clock(), Terminal()
    _run(Progress(stream, clock=clock), clock)
    text = stream.getvalue()
    assert "[1/2] concat: test 0.9 (40 s left" in text
    assert "t[f]n: epoch 2/4, valid 0.2 (20 s left" in text  # brackets are no markup
    assert "compiling" in text and "0/2" in text


def test_bar_is_taken_down_when_training_fails():
    stream = Terminal()
    with pytest.raises(KeyError), Progress(stream) as progress:
        progress.start(1)
        raise KeyError
    assert not progress.bar.live.live.is_started


def test_stderr_is_the_default(capsys):
    progress = Progress()
    assert progress.stream is sys.stderr
    progress.start(2, done=1)
    captured = capsys.readouterr()
    assert captured.out == "" and "1 of 2" in captured.err


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (89, "89 s"), (91, "2 min"), (3000, "50 min"), (3 * 3600 + 290, "3 h 05 min")],
)
def test_duration(seconds, text):
    assert duration(seconds) == text
