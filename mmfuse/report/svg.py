"""A small writer of plots as SVG: axes with tidy ticks, and marks that are coloured by CSS class.

Sizes are CSS pixels at the width that the plot is drawn for. Nothing has a colour of its own, so a
plot follows the light or dark of its page.
"""

from __future__ import annotations

import dataclasses
import math
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from mmfuse.markup import Html, joined, tag

SIZE = 12  # of text; the style sheet says the same
LINE = 18  # from one line of text to the next
DESK, PHONE = 880, 330  # widths that a plot is drawn for


def text_width(text: str) -> float:
    """About how wide text is drawn; on the safe side for the usual sans-serif faces."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return SIZE * (0.58 * (len(text) - wide) + wide)


def shortened(text: str, width: float) -> str:
    """The text, or as much of it as fits with an ellipsis."""
    if text_width(text) <= width:
        return text
    while text and text_width(text + "…") > width:
        text = text[:-1]
    return text.rstrip() + "…"


def ticks(low: float, high: float, count: int) -> list[float]:
    """At most ``count`` + 1 multiples of 1, 2, 2.5 or 5 times a power of ten within the range."""
    if not high > low:
        return [low]
    power = 10.0 ** math.floor(math.log10((high - low) / count))
    steps = (factor * power for factor in (1, 2, 2.5, 5, 10, 20))
    step = next(step for step in steps if (high - low) / step <= count)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{i * step:.12g}") + 0.0 for i in range(first, last + 1)]


def log_ticks(low: float, high: float, count: int) -> list[float]:
    """The densest of 1-2-5, 1-3 and whole decades within the range that gives at most ``count``.

    A range too narrow for two of them has the ticks of a linear axis.
    """
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found: list[float] = []
    for factors in ((1, 2, 5), (1, 3), (1,)):
        found = [f * 10.0**d for d in decades for f in factors if low <= f * 10.0**d <= high]
        if len(found) <= count:
            break
    step = max(1, math.ceil(len(found) / count))
    return found[::step] if len(found) > 1 else ticks(low, high, count)


def quantity(value: float) -> str:
    """``20 k``, ``1.5 M``, ``0.25``: no more digits than the value has, at most four."""
    for power, letter in ((12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if abs(value) >= 10**power:
            return f"{value / 10**power:.4g} {letter}"
    return f"{value:.4g}".replace("-", "−")


@dataclasses.dataclass(frozen=True)
class Axis:
    """A range of values that is laid on ``start`` to ``end`` in pixels.

    Attributes:
      low, high: the values at ``start`` and ``end``.
      title: what the numbers are, with their unit.
      log: whether equal factors are equally far apart.
      count: about how many ticks there is room for.
      whole: whether only whole numbers are written.
    """

    low: float
    high: float
    title: str = ""
    log: bool = False
    count: int = 5
    whole: bool = False
    start: float = 0
    end: float = 1

    def __call__(self, value: float) -> float:
        """The place of a value in pixels, rounded to a tenth."""
        low, high, value = map(math.log10 if self.log else float, (self.low, self.high, value))
        share = (value - low) / (high - low) if high > low else 0.5
        return round(self.start + share * (self.end - self.start), 1)

    @property
    def ticks(self) -> list[float]:
        """The values that are written at the axis."""
        found = (log_ticks if self.log else ticks)(self.low, self.high, self.count)
        return [tick for tick in found if tick == round(tick)] if self.whole else found


def spanning(values: Iterable[float], title: str = "", *, log: bool = False, **more: Any) -> Axis:
    """An axis that holds all values with a margin of 4 %, at least a tiny range."""
    low, high = (f(values := list(values)) for f in (min, max))
    if log:
        margin = max((high / low) ** 0.06, 1.1)
        return Axis(low / margin, high * margin, title, log=True, **more)
    margin = 0.04 * (high - low) or max(abs(high) * 0.02, 1e-3)
    return Axis(low - margin, high + margin, title, **more)


class Plot:
    """Marks inside two axes; :meth:`svg` gives the picture.

    Args:
      width, height: of the whole picture.
      x, y: axes; their pixels are set here, y upwards. ``y`` without ticks: see ``rows``.
      left, right, top: room beside the area, by default what the ticks of y need.
    """

    def __init__(
        self,
        width: float,
        height: float,
        x: Axis,
        y: Axis | None = None,
        *,
        left: float | None = None,
        right: float = 10,
        top: float = 8,
    ):
        if left is None:
            widest = max(text_width(quantity(tick)) for tick in y.ticks)
            left = 12 + widest + (LINE if y.title else 0)
        bottom = height - LINE - 4 - (LINE if x.title else 0)
        self.width, self.height, self.marks = width, height, []
        self.x = dataclasses.replace(x, start=left, end=width - right)
        self.y = dataclasses.replace(y or Axis(0, 1), start=bottom, end=top)
        self._axes(y is not None)

    def add(self, name: str, *children: Any, **attributes: Any) -> None:
        """Adds an element as it is."""
        self.marks.append(tag(name, *children, **attributes))

    def text(self, x: float, y: float, text: str, class_: str = "", **more: Any) -> None:
        """Adds text in pixels, its middle line at y; class ``end`` or ``middle`` anchors it."""
        self.add("text", text, x=round(x, 1), y=round(y + SIZE * 0.35, 1), class_=class_, **more)

    def line(self, points: Sequence[tuple[float, float]], class_: str) -> None:
        """Adds a line through points, in values."""
        self.add("path", d="M" + "L".join(self._pairs(points)), class_=f"line {class_}")

    def band(self, low: Sequence[tuple], high: Sequence[tuple], class_: str) -> None:
        """Adds the area between two lines over the same x, in values."""
        outline = [*self._pairs(low), *reversed(self._pairs(high))]
        self.add("path", d="M" + "L".join(outline) + "Z", class_=f"band {class_}")

    def dot(self, x: float, y: float, class_: str, shape: str = "circle", title: str = "") -> None:
        """Adds a mark at a point, in pixels, that says ``title`` when it is pointed at."""
        told = [tag("title", title)] if title else []
        self.add("g", tag("path", d=shape_path(shape, x, y), class_=f"dot {class_}"), *told)

    def rule(self, x1: float, y1: float, x2: float, y2: float, class_: str = "grid-line") -> None:
        """Adds a straight line, in pixels."""
        x1, y1, x2, y2 = (round(v, 1) for v in (x1, y1, x2, y2))
        self.add("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)

    def svg(self, title: str, description: str, class_: str = "") -> Html:
        """The picture with its title and description, which a screen reader speaks."""
        return picture(self.width, self.height, title, description, *self.marks, class_=class_)

    def _pairs(self, points: Sequence[tuple[float, float]]) -> list[str]:
        return [f"{self.x(x)} {self.y(y)}" for x, y in points]

    def _axes(self, with_y: bool) -> None:
        x, y = self.x, self.y
        for tick in x.ticks:
            self.rule(x(tick), y.start, x(tick), y.end)
            self.text(x(tick), y.start + 4 + LINE / 2, quantity(tick), "tick middle")
        if x.title:
            middle = (x.start + x.end) / 2
            middle = min(middle, self.width - text_width(x.title) / 2)
            self.text(middle, self.height - LINE / 2, x.title, "axis middle")
        if not with_y:
            return
        for tick in y.ticks:
            self.rule(x.start, y(tick), x.end, y(tick))
            self.text(x.start - 6, y(tick), quantity(tick), "tick end")
        if y.title:
            middle = round((y.start + y.end) / 2, 1)
            turned = f"rotate(-90 {SIZE / 2} {middle})"
            self.text(SIZE / 2, middle, y.title, "axis middle", transform=turned)


def both(draw: Callable[[int], Plot], title: str, description: str) -> Html:
    """The plot as wide screens and paper show it, and as phones do."""
    return joined(
        draw(width).svg(title, description, class_)
        for width, class_ in ((DESK, "desk"), (PHONE, "phone"))
    )


def picture(
    width: float, height: float, title: str, description: str, *marks: Any, class_: str = ""
) -> Html:
    """An ``<svg>`` that scales down with its page, named for a screen reader."""
    return tag(
        "svg", tag("title", title), tag("desc", description), *marks,
        role="img", class_=f"plot {class_}".strip(),
        viewBox=f"0 0 {width:g} {height:g}", width=f"{width:g}", height=f"{height:g}",
    )  # fmt: skip


def shape_path(shape: str, x: float, y: float) -> str:
    """The path of a mark round (x, y): circle, square, diamond, triangle, down or cross."""
    x, y = round(x, 1), round(y, 1)
    return {
        "circle": f"M{x - 4:.1f} {y}a4 4 0 1 0 8 0a4 4 0 1 0 -8 0Z",
        "square": f"M{x - 3.5:.1f} {y - 3.5:.1f}h7v7h-7Z",
        "diamond": f"M{x} {y - 5:.1f}l5 5l-5 5l-5 -5Z",
        "triangle": f"M{x} {y - 5:.1f}l5 9h-10Z",
        "down": f"M{x} {y + 5:.1f}l5 -9h-10Z",
        "cross": f"M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8",
    }[shape]
