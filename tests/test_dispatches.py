"""Dispatches of one length, that together hold the order of an epoch."""

import numpy as np
import pytest

from mmfuse.data.loader import epoch_order
from mmfuse.dispatches import chunk_orders, split_epoch


@pytest.mark.parametrize(("steps", "limit"), [(7, 3), (7, 7), (7, 200), (6, 3), (1, 1), (201, 200)])
def test_an_epoch_is_split_into_equal_dispatches(steps, limit):
    dispatches, length = split_epoch(steps, limit)
    assert length <= limit
    assert steps <= dispatches * length < steps + dispatches
    order = lambda seed, epoch: epoch_order(seed, epoch, steps * 4 - 1, 4)  # noqa: E731
    chunks = chunk_orders(order, (5, 6), 2, limit)
    assert [(o.shape, live.shape) for o, live in chunks] == [
        ((length, 2, 4), (length,))
    ] * dispatches
    whole = np.concatenate([o for o, _ in chunks])
    alive = np.concatenate([live for _, live in chunks])
    assert alive.tolist() == [True] * steps + [False] * (len(whole) - steps)
    np.testing.assert_array_equal(whole[:steps, 0], order(5, 2))
    np.testing.assert_array_equal(whole[:steps, 1], order(6, 2))
    assert (whole[steps:] == -1).all()
