"""A Markov chain of digits, shown through noisy channels: its draws and its exact answers.

The next digit is three further on with probability ``by_three``, one further with ``by_one``, and
each of the other eight with an equal share of the rest (all modulo ten). Every column of the
transition table also sums to 1, so that every digit is as frequent as any other. Each modality
shows the digit, or with the probability of its error one of the nine others, all equally likely;
the errors of the modalities are independent.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mmfuse.data.helpdesk_factors import MODALITIES

DIGITS = 10
THREE, ONE = 3, 1  # how far the chain goes


def transitions(by_three: float, by_one: float) -> np.ndarray:
    """``P(next | digit)``, [10, 10], row = digit."""
    place = np.arange(DIGITS)
    table = np.full((DIGITS, DIGITS), (1 - by_three - by_one) / (DIGITS - 2))
    table[place, (place + THREE) % DIGITS] = by_three
    table[place, (place + ONE) % DIGITS] = by_one
    return table


def channel(error: float) -> np.ndarray:
    """``P(shown | digit)``, [10, 10], row = digit."""
    return np.where(np.eye(DIGITS, dtype=bool), 1 - error, error / (DIGITS - 1))


def joint(chain: np.ndarray, errors: Mapping[str, float]) -> np.ndarray:
    """``P(next, audio, image, text)``, [10, 10, 10, 10]: the sum over the digit that is shown."""
    shown = [channel(errors[name]) for name in MODALITIES]
    return np.einsum("dy,da,di,dt->yait", chain, *shown, optimize=True) / DIGITS


def walk(chain: np.ndarray, steps: int, rng: np.random.Generator) -> np.ndarray:
    """A stream of ``steps`` digits, int64; the first is uniform."""
    ends, uniform = np.cumsum(chain, axis=1), rng.random(steps)
    digits = np.empty(steps, np.int64)
    digits[0] = int(uniform[0] * DIGITS)
    for step in range(1, steps):
        place = np.searchsorted(ends[digits[step - 1]], uniform[step], side="right")
        digits[step] = min(int(place), DIGITS - 1)  # a row may sum to a little less than 1
    return digits


def corrupted(digits: np.ndarray, error: float, rng: np.random.Generator) -> np.ndarray:
    """The digits as one modality shows them."""
    wrong = rng.random(len(digits)) < error
    other = (digits + 1 + (rng.random(len(digits)) * (DIGITS - 1)).astype(int)) % DIGITS
    return np.where(wrong, other, digits)


def posterior(table: np.ndarray, shown: Mapping[str, np.ndarray]) -> np.ndarray:
    """``P(next | what all modalities show)`` of N steps, [N, 10], from the joint table."""
    found = table[:, *(shown[name] for name in MODALITIES)].T
    return found / found.sum(axis=1, keepdims=True)
