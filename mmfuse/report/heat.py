"""Heat maps: cells of one colour, in a few shades."""

from __future__ import annotations

import numpy as np

from mmfuse.markup import Html, tag

LEVELS = 10


def heat(part: np.ndarray, left: float, top: float, wide: float, tall: float) -> list[Html]:
    """Cells ``wide`` x ``tall`` pixels of values [rows, columns] in 0..1, the first at (left, top).

    One path a shade: the cells of 77 classes are thousands, and a path takes few bytes for each.
    """
    level = np.ceil(part * LEVELS - 0.25).astype(int).clip(0, LEVELS)
    marks = []
    for shade in range(1, LEVELS + 1):
        cells = [
            f"M{left + j * wide:.1f} {top + i * tall:.1f}h{wide:.2f}v{tall:.2f}h-{wide:.2f}Z"
            for i, j in np.argwhere(level == shade)
        ]
        if cells:
            marks.append(tag("path", d="".join(cells), class_="cell", fill_opacity=shade / LEVELS))
    return marks
