"""Ticks, axes and marks of the SVG writer."""

import itertools
import math

import pytest

from mmfuse.report.svg import (
    SIZE,
    Axis,
    Plot,
    log_ticks,
    quantity,
    shortened,
    spanning,
    text_width,
    ticks,
)  # fmt: skip
from tests.report.pages import Page


@pytest.mark.parametrize(
    ("low", "high", "count", "wanted"),
    [
        (0, 1, 5, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 1, 4, [0, 0.25, 0.5, 0.75, 1]),
        (56.3, 94.2, 4, [60, 70, 80, 90]),
        (-1.1, 1.6, 3, [-1, 0, 1]),
        (0.0299, 0.0301, 2, [0.0299, 0.03, 0.0301]),
        (-1e-17, 0.3, 3, [0, 0.1, 0.2, 0.3]),
        (3, 3, 5, [3]),
        (0, 7e9, 4, [0, 2e9, 4e9, 6e9]),
    ],
)
def test_ticks(low, high, count, wanted):
    assert ticks(low, high, count) == pytest.approx(wanted, abs=1e-15)
    assert all(math.copysign(1, tick) > 0 for tick in ticks(low, high, count) if tick == 0)


@pytest.mark.parametrize(
    ("low", "high", "count", "wanted"),
    [
        (900, 120e3, 8, [1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5]),
        (900, 120e3, 5, [1e3, 3e3, 1e4, 3e4, 1e5]),
        (900, 120e3, 4, [1e3, 1e4, 1e5]),
        (1, 1e12, 5, [1, 1e3, 1e6, 1e9, 1e12]),
        (1.08e6, 1.33e6, 5, [1.1e6, 1.15e6, 1.2e6, 1.25e6, 1.3e6]),
    ],
)
def test_log_ticks(low, high, count, wanted):
    assert log_ticks(low, high, count) == pytest.approx(wanted)


def test_ticks_are_few_round_and_inside_for_any_range():
    for exponent in range(-12, 13, 3):
        for width in (1, 1.37, 2.2, 4.9, 7.7, 9.99):
            low, high = 3.3 * 10.0**exponent, (3.3 + width) * 10.0**exponent
            found = ticks(low, high, 5)
            assert 2 <= len(found) <= 6
            assert all(low * (1 - 1e-9) <= tick <= high * (1 + 1e-9) for tick in found)


def test_whole_ticks():
    assert Axis(0.9, 3.1, whole=True).ticks == [1, 2, 3]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.25, "0.25"), (0, "0"), (20_000, "20 k"), (1_500_000, "1.5 M"), (-0.5, "−0.5"),
     (2e9, "2 G"), (1e12, "1 T"), (999, "999"), (1e-5, "1e−05")],
)  # fmt: skip
def test_quantity(value, text):
    assert quantity(value) == text


def test_axis_places_values():
    axis = Axis(10, 20, start=100, end=0)
    assert [axis(v) for v in (10, 15, 20)] == [100, 50, 0]
    log = Axis(1, 100, log=True, start=0, end=200)
    assert [log(v) for v in (1, 10, 100)] == [0, 100, 200]
    assert Axis(3, 3, start=0, end=10)(3) == 5


def test_spanning_holds_every_value_and_never_has_no_width():
    axis = spanning([1, 5, 3])
    assert axis.low < 1 and axis.high > 5
    for only in ([0.0], [7.0, 7.0]):
        assert spanning(only).low < only[0] < spanning(only).high
    log = spanning([10, 1000], log=True)
    assert 0 < log.low < 10 and log.high > 1000


def test_text_width_and_shortening():
    assert text_width("汉字") == 2 * SIZE > text_width("ab")
    assert shortened("short", 100) == "short"
    cut = shortened("a very long name of a method", 80)
    assert cut.endswith("…") and text_width(cut) <= 80 and not cut[:-1].endswith(" ")


def test_plot_is_titled_and_its_labels_do_not_overlap():
    plot = Plot(
        330, 200, spanning([1e3, 5e6], "FLOPs", log=True, count=4), spanning([0.1, 0.9], "y")
    )
    plot.line([(1e3, 0.1), (5e6, 0.9)], "s1")
    plot.dot(50, 50, "accent", title="<b>")
    page = Page(plot.svg("A <title>", "what & why"))
    assert page.said("title") == ["A <title>", "<b>"] and page.said("desc") == ["what & why"]
    across = [(float(a["x"]), text) for (_, text), a in zip(
        [t for t in page.texts if t[0] == "text"], page.all("text"), strict=True)
        if "tick middle" in a["class"]]  # fmt: skip
    ends = [(x - text_width(text) / 2, x + text_width(text) / 2) for x, text in across]
    assert all(a[1] < b[0] for a, b in itertools.pairwise(ends))
    assert "nan" not in plot.svg("", "") and "inf" not in plot.svg("", "")
