"""The one error a user can cause, and how its message names the nearest allowed choice."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input: one line that says what, where, what is allowed, and the nearest match.

    The commands in ``experiments`` print it as ``error: ...`` and exit with 2, without a traceback.
    """


class RowError(InputError):
    """Bad input in one row of a column, told where the rows have no names yet.

    ``row`` is its number; whoever knows the ids puts them behind the message.
    """

    def __init__(self, row: int, problem: str):
        super().__init__(problem)
        self.row = row


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Returns ``"; did you mean 'x'?"`` for the closest allowed name, or an empty string."""
    close = difflib.get_close_matches(str(name), list(allowed), n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else ""


def listed(names: Iterable[str]) -> str:
    """Returns ``"; there are: a, b"``, or an empty string for no names."""
    names = list(names)
    return f"; there are: {', '.join(names)}" if names else ""


class ReportError(InputError):
    """Many mistakes at once: the message is one line of summary, ``lines`` has one for each."""

    def __init__(self, summary: str, lines: Iterable[str]):
        super().__init__(summary)
        self.lines = tuple(lines)
