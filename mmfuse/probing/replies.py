"""How varied the texts are that a finished row generates: distinct-n, and how long they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from mmfuse import decoding
from mmfuse.data.text import PADDING
from mmfuse.restored import Finished
from mmfuse.tasks.sequences import Words

TOP_P = 0.9  # the nucleus of drawn replies
WIDTH = 4  # of the beam
DRAWN, SEARCHED = f"nucleus {TOP_P:g}", f"beam {WIDTH}"


def replies(row: Finished, batches: Sequence[dict]) -> list[dict[str, np.ndarray]]:
    """Of each seed ``{"greedy": ids [N, T], "beam 4": ..., "nucleus 0.9": ...}``.

    Padding examples are left out.
    """
    model, task = row.built.model, row.built.program.task

    @jax.jit
    def generate(params: Any, batch: dict) -> dict[str, jax.Array]:
        size, length = batch["label"].shape
        score = decoding.scorer(model, params, batch)
        key = jax.random.fold_in(jax.random.key(0), batch["index"][0])
        return {
            "greedy": decoding.greedy(score, size, length, end=task.end),
            SEARCHED: decoding.searched(model, params, batch, length, WIDTH, end=task.end),
            DRAWN: decoding.sample(score, size, length, key, end=task.end, top_p=TOP_P),
        }

    found, order = [], ("greedy", SEARCHED, DRAWN)  # compiled programs sort by name
    for lane in range(len(row.seeds)):
        params = jax.tree.map(lambda x, lane=lane: x[lane], row.params)
        parts = [jax.device_get(generate(params, batch)) for batch in batches]
        found.append({how: _real([part[how] for part in parts], batches) for how in order})
    return found


def true_texts(batches: Sequence[dict]) -> np.ndarray:
    """What was said, ids [N, T]."""
    return _real([batch["label"] for batch in batches], batches)


def variety(texts: np.ndarray, task: Words) -> dict[str, float | None]:
    """distinct-1 and distinct-2 of all texts together, and the mean number of their words."""
    words = (texts != PADDING) & (texts != task.end)
    found = {f"distinct-{n}": decoding.distinct(texts, n, end=task.end) for n in (1, 2)}
    return found | {"words": float(words.sum(1).mean())}


def _real(parts: Sequence[np.ndarray], batches: Sequence[dict]) -> np.ndarray:
    return np.concatenate([x[b["weight"] > 0] for x, b in zip(parts, batches, strict=True)])
