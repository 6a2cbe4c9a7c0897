"""How numbers are printed."""

import pytest

from mmfuse.cells import count, flops, mean_sd, number, seconds
from mmfuse.measures import measure
from mmfuse.stats import summary


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (999, "999"), (1000, "1.00 k"), (1234567, "1.23 M"), (12.3e9, "12.3 G"),
     (999.6e3, "1.00 M"), (345e12, "345 T"), (2e18, "2,000,000 T"), (9.999e6, "10.0 M"),
     (None, "-")],
)  # fmt: skip
def test_flops(value, text):
    assert flops(value) == text


def test_other_numbers():
    accuracy = measure("accuracy")
    assert (count(1234567), count(None), seconds(12.34), seconds(None)) == (
        "1,234,567",
        "-",
        "12.3 s",
        "-",
    )
    assert number(-1e-9, accuracy) == "0.00" and number(None, accuracy) == "-"
    assert (
        mean_sd(summary([0.5]), accuracy, 1) == "50.00" and mean_sd(summary([]), accuracy, 2) == "-"
    )
    assert measure("something").title == "something"
