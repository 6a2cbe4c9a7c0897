"""The files of ``onecommon``: one line is what one of two people saw, heard, said and chose."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np

from mmfuse.data import safe
from mmfuse.errors import InputError

DOTS, VALUES = 7, 4  # x, y, size, colour
YOU, THEM = "YOU", "THEM"
END, CHOOSE = "<eos>", "<selection>"
LINE = re.compile(
    r"<input> (.*) </input> <dialogue> (.*) </dialogue> <output> (\S+) </output>", re.ASCII
)
SLACK = 0.01  # dots at the rim lie a little outside the unit circle
Turn = tuple[str, str]  # who, and the words


@dataclasses.dataclass(frozen=True)
class Side:
    """One side of a dialogue.

    Attributes:
      name: of this side: the split and its line, from 0.
      dialogue: of the dialogue, which both sides share.
      view: float32 [7, 4]: x and y of each dot in the unit circle, y downwards; size and colour in
        -1..1, -1 the smallest and the darkest.
      turns: who spoke and what, in order.
      target: the dot that YOU chose, 0 to 6.
      first: whether it is the first of the dialogue's sides in the file.
      success: whether both chose the same dot; False where the other side is not there.
    """

    name: str
    dialogue: str
    view: np.ndarray
    turns: tuple[Turn, ...]
    target: int
    first: bool = True
    success: bool = False


def read(path: Path, split: str, *, paired: bool) -> list[Side]:
    """Reads the sides of a split.

    Args:
      path: the file.
      split: its name, for the names of sides.
      paired: whether both sides of each dialogue are there, one behind the other.

    Raises:
      InputError: a line of another form, with its number; lines that should be two sides of one
        dialogue and are not.
    """
    lines = safe.read_text(path).removesuffix("\n").split("\n")
    sides = [_parse(line, f"{split}-{i}", f"{path}, line {i + 1}") for i, line in enumerate(lines)]
    if not paired:
        return sides
    if len(sides) % 2:
        raise InputError(f"{path}: {len(sides)} lines; expected two for each dialogue")
    pairs = zip(sides[::2], sides[1::2], strict=True)
    return [side for number, pair in enumerate(pairs) for side in _joined(pair, number, path)]


def _joined(pair: tuple[Side, Side], number: int, path: Path) -> tuple[Side, Side]:
    """Both sides, knowing of each other.

    The same dot lies elsewhere in the other view, but has the same size and colour there.
    """
    one, other = pair
    swapped = tuple((YOU if who == THEM else THEM, words) for who, words in one.turns)
    if other.turns != swapped:
        raise InputError(
            f"{path}, line {2 * number + 2}: not the other side of the dialogue of the line before"
        )
    success = np.array_equal(one.view[one.target, 2:], other.view[other.target, 2:])
    shared = {"dialogue": one.dialogue, "success": success}
    return (
        dataclasses.replace(one, **shared),
        dataclasses.replace(other, first=False, **shared),
    )


def _parse(line: str, name: str, where: str) -> Side:
    found = LINE.fullmatch(line.strip())
    if not found:
        raise InputError(
            f"{where}: expected <input> ... </input> <dialogue> ... </dialogue> <output> ... "
            "</output>"
        )
    view, target = _view(found[1], where), found[3]
    if target not in map(str, range(DOTS)):
        raise InputError(f"{where}: output '{target}'; expected a dot, 0 to {DOTS - 1}")
    return Side(name, name, view, _turns(found[2], where), int(target))


def _view(text: str, where: str) -> np.ndarray:
    words = text.split()
    try:
        values = np.array([float(word) for word in words])
    except ValueError as error:
        raise InputError(f"{where}: input: {error}") from error
    if len(values) != DOTS * VALUES:
        raise InputError(f"{where}: {len(values)} numbers; expected {DOTS} dots of {VALUES}")
    if not (np.abs(values) <= 1 + SLACK).all():  # NaN as well
        raise InputError(f"{where}: numbers must lie in -1..1")
    return values.reshape(DOTS, VALUES).astype(np.float32)


def _turns(text: str, where: str) -> tuple[Turn, ...]:
    if not text.endswith(CHOOSE):
        raise InputError(f"{where}: the dialogue must end with {CHOOSE}")
    *turns, rest = text.removesuffix(CHOOSE).split(END)
    pairs = [turn.strip().partition(": ") for turn in turns]
    wrong = [who for who, _, words in pairs if who not in (YOU, THEM) or not words]
    if wrong or rest.strip() or not pairs:
        raise InputError(
            f"{where}: every turn must be '{YOU}: words {END}' or '{THEM}: words {END}'"
        )
    return tuple((who, words) for who, _, words in pairs)
