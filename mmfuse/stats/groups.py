"""Groups of rows that cannot be told apart, as letters: rows that share one do not differ."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence

from mmfuse.stats.differences import LEVEL, Comparison, compare, corrected

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def pairs(
    rows: Mapping[str, Mapping[int, float]], level: float = LEVEL
) -> dict[tuple[str, str], Comparison]:
    """Compares every row with every other one, paired by seed, corrected over all pairs."""
    names = list(itertools.combinations(rows, 2))
    found = [compare(rows[a], rows[b], len(names), level) for a, b in names]
    return dict(zip(names, corrected(found, level), strict=True))


def cliques(names: Sequence[str], differ: Collection[tuple[str, str]]) -> list[tuple[str, ...]]:
    """Returns the largest groups in which no pair differs, in the order of the names.

    The compact letter display by insertion and absorption (Piepho 2004): a group that holds a pair
    which differs is split in two, each without one of them; a group inside another is dropped.
    """
    groups = [frozenset(names)]
    for a, b in differ:
        split = [g - {x} for g in groups if {a, b} <= g for x in (a, b)]
        kept = [g for g in groups if not {a, b} <= g]
        for group in sorted(split, key=len, reverse=True):
            if not any(group <= other for other in kept):
                kept.append(group)
        groups = kept
    place = {name: i for i, name in enumerate(names)}
    ordered = [tuple(sorted(group, key=place.get)) for group in groups]
    return sorted(ordered, key=lambda group: [place[name] for name in group])


def letters(names: Sequence[str], differ: Collection[tuple[str, str]]) -> dict[str, str]:
    """Returns ``{name: "ab"}``: two names share a letter exactly if they do not differ.

    Args:
      names: in the order of the letters, best first.
      differ: the pairs that differ.
    """
    groups = cliques(names, differ)
    shown = {name: [] for name in names}
    for i, group in enumerate(groups):
        for name in group:
            shown[name].append(_letter(i))
    apart = "" if len(groups) <= len(LETTERS) else " "
    return {name: apart.join(found) for name, found in shown.items()}


def _letter(i: int) -> str:
    """Returns a, b, ... z, a1, b1, ..."""
    turn, place = divmod(i, len(LETTERS))
    return LETTERS[place] + (str(turn) if turn else "")
