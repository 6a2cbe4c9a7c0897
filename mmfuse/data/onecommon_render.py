"""Drawing a view of ``onecommon``: grey discs on white."""

from __future__ import annotations

import numpy as np

SIDE = 64  # pixels
CIRCLE = 200  # the radius of the view in the units of its dots' radii
WHITE, GREY, CONTRAST = 255, 128, 75


def render(view: np.ndarray) -> np.ndarray:
    """A view [7, 4] as uint8 [64, 64, 1].

    The picture is the square round the unit circle, y downwards. A dot of size s and colour c is a
    disc with a radius of (10 + 3 s) / 200 of the circle's and the grey 128 + 75 c: with these, the
    values are whole pixels and whole greys of the interface that the dialogues were held in. At 64
    pixels a disc has a radius of 1.1 to 2.1, so the share of a pixel that it covers matters:
    ``clip(radius - distance + 1/2, 0, 1)``. Where discs overlap, the darker counts.
    """
    half = SIDE / 2
    centre = (np.arange(SIDE) + 0.5 - half) / half
    picture = np.full((SIDE, SIDE), float(WHITE))
    for x, y, size, colour in np.asarray(view, float):
        distance = half * np.hypot(centre[None] - x, centre[:, None] - y)
        covered = np.clip(half * (10 + 3 * size) / CIRCLE - distance + 0.5, 0, 1)
        dot = WHITE - covered * (WHITE - GREY - CONTRAST * colour)
        picture = np.minimum(picture, dot)
    return np.rint(picture).astype(np.uint8)[..., None]
