"""What a person sees while rows train: a bar on a terminal, a few plain lines elsewhere.

All of it goes to stderr, so that stdout holds the table and nothing else.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, TextIO


class Estimate:
    """How much is done, and how long the rest will take.

    A unit is one row and group of seeds. Time spent compiling is left out of the speed: the first
    rows of a launch compile, and later ones may find their program in the cache.

    Args:
      clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self.clock = clock
        self.total = self.before = self.finished = 0
        self.share = 0.0  # of the current unit
        self.began, self.compiling = clock(), 0.0

    def start(self, total: int, done: int) -> None:
        """Begins with ``done`` of ``total`` units finished by an earlier launch."""
        self.total, self.before, self.finished = total, done, done
        self.began = self.clock()

    def seconds_left(self) -> float | None:
        """Returns the expected training time of what is left, or None before anything is done."""
        done = self.finished - self.before + self.share
        if done <= 0:
            return None
        busy = max(self.clock() - self.began - self.compiling, 0.0)
        return busy / done * (self.total - self.finished - self.share)


class Progress:
    """Reports on the rows of an ablation; a context manager.

    Args:
      stream: where to write.
      plain: True for lines, False for a bar; by default lines unless ``stream`` is a terminal.
      every: without a terminal, the least seconds between two lines about the same row.
      clock: seconds that never go back.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        plain: bool | None = None,
        every: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.stream = sys.stderr if stream is None else stream
        self.estimate, self.every, self.clock = Estimate(clock), every, clock
        self.said = clock()
        self.name, self.epochs = "", 1
        plain = not self.stream.isatty() if plain is None else plain
        self.bar = None if plain else _Bar(self.stream)

    def __enter__(self) -> Progress:
        if self.bar:
            self.bar.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar:
            self.bar.live.stop()

    def start(self, total: int, done: int = 0) -> None:
        """Says how many units there are, and how many an earlier launch has finished."""
        self.estimate.start(total, done)
        if done:
            self._print(f"{done} of {total} finished before")

    def row(self, name: str, epochs: int) -> None:
        """Begins a unit of at most ``epochs`` epochs; it compiles first."""
        self.name, self.epochs, self.estimate.share = name, max(epochs, 1), 0.0
        self.said = self.clock()
        self._show("compiling")

    def compiled(self, seconds: float) -> None:
        """Says how long compiling took."""
        self.estimate.compiling += seconds
        self._show("training")

    def epoch(self, done: int, text: str = "") -> None:
        """Says that ``done`` epochs of the unit are over; ``text`` may hold a score."""
        self.estimate.share = min(done / self.epochs, 1.0)
        now = f"epoch {done}/{self.epochs}" + (f", {text}" if text else "")
        self._show(now)
        if not self.bar and self.clock() - self.said >= self.every:
            self.said = self.clock()
            self._print(f"{self.name}: {now}{self._left()}")

    def finish_row(self, text: str) -> None:
        """Ends the unit; ``text`` is its result, and stays on the screen."""
        self.estimate.finished += 1
        self.estimate.share = 0.0
        self._print(f"{text}{self._left()}")
        self._show("done")

    def _left(self) -> str:
        left = self.estimate.seconds_left()
        return "" if not left else f" ({duration(left)} left, compiling aside)"

    def _show(self, now: str) -> None:
        if self.bar:
            self.bar.show(self.estimate, f"{self.name}: {now}{self._left()}")

    def _print(self, text: str) -> None:
        line = f"[{self.estimate.finished}/{self.estimate.total}] {text}"
        if self.bar:
            self.bar.print(line)
        else:
            print(line, file=self.stream, flush=True)


class _Bar:
    """A bar by ``rich``; it is drawn on events only, so no thread runs beside the training."""

    def __init__(self, stream: TextIO):
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Live

        # Names of rows are text, never markup.
        text = TextColumn("{task.description}", markup=False)
        columns: list[Any] = [BarColumn(bar_width=30), MofNCompleteColumn(), text]
        console = Console(file=stream, highlight=False)
        self.live = Live(*columns, console=console, auto_refresh=False, transient=True)
        self.task = self.live.add_task("", total=None)

    def show(self, estimate: Estimate, text: str) -> None:
        self.live.update(
            self.task, total=estimate.total, completed=estimate.finished, description=text,
            refresh=True,
        )  # fmt: skip

    def print(self, line: str) -> None:
        self.live.console.print(line, markup=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """Returns ``45 s``, ``12 min`` or ``3 h 05 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
