"""Generating sequences, words or sound, with teacher forcing."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from mmfuse.data.text import PADDING
from mmfuse.decoders import (
    LSTMSound,
    LSTMWords,
    RecurrentSound,
    TransformerSound,
    TransformerWords,
)
from mmfuse.errors import RowError
from mmfuse.tasks.base import Columns, Sums, Task, masked, mean_where, whole_numbers


@dataclasses.dataclass(frozen=True)
class Words(Task):
    """A text: logits [B, T, V], label int [B, T], the ids of its words, behind its end 0.

    A text ends with the id ``end``, which is among its words; what is fixed by the language alone,
    such as a speaker's name in front, belongs into the input.
    """

    vocabulary: int
    end: int = 1
    metrics: ClassVar = {"perplexity": False, "word_accuracy": True, "exact": True}
    heads: ClassVar = {"lstm": LSTMWords, "transformer": TransformerWords}

    def sizes(self) -> dict:
        return {"vocabulary": self.vocabulary}

    def labels(self, columns: Columns) -> np.ndarray:
        ids = whole_numbers(columns, self.vocabulary)
        there = ids != PADDING
        wrong = ~there[:, 0] | (there[:, 1:] & ~there[:, :-1]).any(axis=1)
        if wrong.any():
            problem = f"a text must have a word, and {PADDING} only behind its last one"
            raise RowError(int(np.argmax(wrong)), problem)
        return ids

    def given(self, columns: Columns) -> dict[str, np.ndarray]:
        return {"previous": late(np.array(columns["label"], np.int32))}

    def loss(self, output: jax.Array, label: jax.Array, *, smoothing: float = 0.0) -> jax.Array:
        """``-log p(text)``, the sum over its words; of a smoothed word, see classification."""
        log_p = jax.nn.log_softmax(output)
        right = jnp.take_along_axis(log_p, label[..., None], axis=-1)[..., 0]
        each = -((1 - smoothing) * right + smoothing * jnp.mean(log_p, axis=-1))
        return jnp.sum(jnp.where(label != PADDING, each, 0), axis=-1)

    def sums(self, output: jax.Array, label: jax.Array, weight: jax.Array) -> Sums:
        """Sums of ``-log p(text)``, of words, and of words that the highest logit tells."""
        kept, there = self.kept_output(output, label), label != PADDING
        hits = jnp.sum(there & (jnp.argmax(output, axis=-1) == label), axis=-1)
        return {name: weight @ x for name, x in (kept | {"hits": hits}).items()}

    def scores(self, sums: Mapping[str, np.ndarray]) -> dict:
        """Perplexity, ``exp`` of the mean ``-log p`` of a word, ends counted; share of hits.

        ``exact`` is the share of texts that greedy decoding says as they are. It needs no decoding:
        that is so exactly where every word is the most probable one behind the true ones before it.
        """
        words, each = float(sums["words"]), float(sums["nll"]) / float(sums["words"])
        perplexity = math.exp(each) if each < 700 else math.inf  # the largest float64 is near e^709
        return {
            "perplexity": perplexity,
            "word_accuracy": float(sums["hits"]) / words,
            "exact": float(sums["exact"]) / float(sums["count"]),
        }

    def kept_output(self, output: jax.Array, label: jax.Array) -> dict[str, jax.Array]:
        """``-log p(text)``, the number of its words, and whether it is said; not the logits."""
        there = label != PADDING
        said = 1 + jnp.argmax(output[..., PADDING + 1 :], axis=-1)  # padding is never said
        exact = jnp.all(~there | (said == label), axis=-1)
        found = {"words": jnp.sum(there, axis=-1), "exact": exact}
        return {"nll": self.loss(output, label)} | {
            name: x.astype(output.dtype) for name, x in found.items()
        }


@dataclasses.dataclass(frozen=True)
class Sound(Task):
    """Frames, of log-mel bands for one: prediction [B, T, F], label ``{"value", "mask" [B, T]}``.

    ``shape`` is (T, F). In the dataset, ``label`` holds the frames and ``label_mask`` [T] which are
    there. They should be standardised: the frame in front of the first is zeros.
    """

    shape: Sequence[int]
    metrics: ClassVar = {"rmse": False, "nll": False}
    heads: ClassVar = {
        "lstm": LSTMSound,
        "transformer": TransformerSound,
        "recurrent": RecurrentSound,
    }

    def sizes(self) -> dict:
        return {"bands": self.shape[1]}

    def labels(self, columns: Columns) -> dict[str, np.ndarray]:
        return masked(columns, tuple(self.shape), tuple(self.shape[:1]))

    def given(self, columns: Columns) -> dict[str, np.ndarray]:
        return {"previous": late(self.labels(columns)["value"])}

    def loss(self, output: jax.Array, label: dict, *, smoothing: float = 0.0) -> jax.Array:
        """The mean squared error over the bands of all frames that are there; 0 without any."""
        del smoothing
        return mean_where(jnp.mean(jnp.square(output - label["value"]), axis=-1), label["mask"])

    def sums(self, output: jax.Array, label: dict, weight: jax.Array) -> Sums:
        """Sums of the squared errors of frames, and of frames."""
        frames = jnp.sum(label["mask"], axis=-1).astype(output.dtype)
        return {"square": weight @ (self.loss(output, label) * frames), "frames": weight @ frames}

    def scores(self, sums: Mapping[str, np.ndarray]) -> dict:
        """Root mean squared error over the bands of all frames, with teacher forcing, and ``nll``.

        That is ``-log p`` of one value under a normal law round the prediction, whose variance is
        the mean squared error of the very split that is scored: ``log(2 pi e mse) / 2``. The
        variance is fitted to what it is judged by, so this is no likelihood of unseen data. It
        grows with the RMSE alone, and orders rows and epochs as that does.
        """
        frames = float(sums["frames"])
        mse = float(sums["square"]) / frames if frames else None
        nll = math.log(2 * math.pi * math.e * mse) / 2 if mse else None
        return {"rmse": None if mse is None else mse**0.5, "nll": nll}

    def kept_output(self, output: jax.Array, label: dict) -> dict[str, jax.Array]:
        """The mean squared error, not the frames."""
        return {"square": self.loss(output, label)}

    def kept_label(self, label: dict) -> dict[str, np.ndarray]:
        return {"frames": np.sum(label["mask"], axis=-1)}


def late(x: Any) -> Any:
    """``x`` [B, T, ...], of numpy or jax, one step later: zeros first, without its last step."""
    of = jnp if isinstance(x, jax.Array) else np
    return of.concatenate([of.zeros_like(x[:, :1]), x[:, :-1]], axis=1)
