"""How often something happened: a share and what it says of the true rate."""

from __future__ import annotations

from scipy.special import betaincinv


def clopper_pearson(hits: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Returns the exact interval of a binomial rate (Clopper, Pearson 1934) from ``hits`` of ``n``.

    Ends are quantiles of Beta(hits, n - hits + 1) and Beta(hits + 1, n - hits); it covers at least
    as often as ``level`` says.
    """
    if not 0 <= hits <= n or n < 1:
        raise ValueError(f"hits must lie between 0 and n >= 1, not {hits} of {n}")
    tail = (1 - level) / 2
    low = float(betaincinv(hits, n - hits + 1, tail)) if hits else 0.0
    high = float(betaincinv(hits + 1, n - hits, 1 - tail)) if hits < n else 1.0
    return low, high
