"""How the steps of an epoch are shared out over dispatches of one length."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def split_epoch(steps: int, limit: int) -> tuple[int, int]:
    """(dispatches, steps per dispatch) of an epoch: all dispatches have the same length."""
    dispatches = -(-steps // limit)
    return dispatches, -(-steps // dispatches)


def chunk_orders(
    epoch_order: Callable[[int, int], np.ndarray], seeds, epoch: int, limit: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The (order [k, R, B], live [k]) of every dispatch of an epoch, for ``train_chunk``."""
    order = np.stack([epoch_order(seed, epoch) for seed in seeds], axis=1)
    dispatches, length = split_epoch(len(order), limit)
    live = np.arange(dispatches * length) < len(order)
    fill = [(0, dispatches * length - len(order)), (0, 0), (0, 0)]
    order = np.pad(order, fill, constant_values=-1)
    return list(zip(np.split(order, dispatches), np.split(live, dispatches), strict=True))
