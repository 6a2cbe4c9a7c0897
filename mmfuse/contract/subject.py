"""What the contract kit looks at: a fusion, a generic batch for it, and its compiled step."""

from __future__ import annotations

import dataclasses
import inspect
import traceback
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.errors import ScopeParamNotFoundError

from mmfuse.errors import InputError
from mmfuse.fusion.base import Fused, masked_mean

Tree = dict[str, jax.Array] | dict[str, np.ndarray]
NAMES = ("text", "image", "audio", "video", "features", "pose")
# Unequal T, S and D, one modality without time and one with both axes, so that no shape fits twice.
SHAPES = ((5, 1, 6), (1, 4, 7), (3, 2, 5), (4, 1, 3), (1, 1, 4), (2, 3, 5))
BATCH = 3


@dataclasses.dataclass(frozen=True)
class Failure:
    """One broken rule: the name of the check, and one line with the cause and what was expected."""

    check: str
    message: str

    def __str__(self) -> str:
        return f"{self.check}: {self.message}"


class Subject:
    """A fusion, generic batches for it, and its compiled step. All that comes out is numpy."""

    def __init__(
        self, fusion: nn.Module, modalities: int | tuple[str, ...], seed: int, steps: int = 1
    ):
        names = NAMES[:modalities] if isinstance(modalities, int) else tuple(modalities)
        shapes = {m: SHAPES[i % len(SHAPES)] for i, m in enumerate(names)}
        reads = fusion.reads(names) if hasattr(fusion, "reads") else names
        self.fusion, self.seed, self._names = fusion, seed, names
        self.has_single = any(shapes[m][:2] == (1, 1) for m in reads) and steps == 1
        single = (BATCH, steps, 1)
        self.shapes = {
            m: (*(single if shapes[m][:2] == (1, 1) else (BATCH, *shapes[m][:2])), shapes[m][2])
            for m in sorted(reads)
        }
        self.masks = {m: _mask(*shape[1:3]) for m, shape in self.shapes.items()}
        self.structure, self.others = self._init(0)
        self.count = sum(x.size for x in jax.tree.leaves(self.structure))
        self._step = jax.jit(self._run)
        self._params: dict[int, dict] = {}

    def longer(self) -> Subject:
        """The same with two steps where a modality has a single token."""
        return Subject(self.fusion, self._names, self.seed, steps=2)

    def batch(self, draw: int, fill: float = 0.0) -> tuple[Tree, Tree]:
        """Tokens and masks; masked tokens hold zeros, or noise of size ``fill``."""
        rng, tokens = np.random.default_rng([self.seed, draw]), {}
        for m, shape in self.shapes.items():
            real, noise = rng.standard_normal((2, *shape), np.float32)
            tokens[m] = np.where(self.masks[m][..., None], real, np.float32(fill) * noise)
        return tokens, dict(self.masks)

    def params(self, draw: int = 0) -> dict:
        """Fresh parameters, the same ones for the same draw."""
        if draw not in self._params:
            self._params[draw] = self._init(draw)[0]
        return self._params[draw]

    def _init(self, draw: int) -> tuple[dict, list[str]]:
        """Initial parameters, and the names of any other collections.

        Only the initialisers are computed, the fusion itself is traced: a whole compiled ``init``
        would take longer than all the checks.
        """
        key = jax.random.fold_in(jax.random.key(self.seed), draw)
        made = {}

        def init(tokens: Tree, masks: Tree) -> None:
            with jax.ensure_compile_time_eval():
                made.update(self.fusion.init(key, tokens, masks, train=False))

        jax.eval_shape(init, *self.batch(draw))
        others = [name for name in made if name != "params"]
        return jax.device_get(made.get("params", {})), others

    def apply(self, params: dict, tokens: Tree, masks: Tree, *, train: bool = True) -> Fused:
        """The fusion; in training with dropout from one fixed key, of a kind that compiles fast."""
        rngs = {"dropout": jax.random.key(self.seed, impl="unsafe_rbg")} if train else {}
        return self.fusion.apply({"params": params}, tokens, masks, train=train, rngs=rngs)

    def reversed(self, params: dict, tokens: Tree, masks: Tree) -> Fused:
        """``apply`` on dicts in reversed order (under jit a dict arrives sorted)."""
        order = sorted(tokens, reverse=True)
        return self.apply(params, {m: tokens[m] for m in order}, {m: masks[m] for m in order})

    def run(self, params: dict, tokens: Tree, masks: Tree) -> tuple[Fused, tuple[dict, Tree]]:
        """A training step's output, and the gradients with respect to parameters and tokens."""
        return jax.device_get(self._step(params, tokens, masks))

    def _run(self, params: dict, tokens: Tree, masks: Tree) -> tuple[Fused, tuple[dict, Tree]]:
        def loss(params: dict, tokens: Tree) -> tuple[jax.Array, Fused]:
            fused = self.apply(params, tokens, masks, train=True)
            f = masked_mean(fused.tokens, fused.mask, axis=(1, 2))
            direction = np.random.default_rng(self.seed).standard_normal(f.shape, np.float32)
            return jnp.sum(f * direction) + sum(map(jnp.sum, fused.losses.values())), fused

        (_, fused), grads = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(params, tokens)
        return fused, grads


def _mask(t: int, s: int) -> np.ndarray:
    """``[B, T, S]``: one full example, one that starts with a gap, one that ends early."""
    mask = np.ones((BATCH, t * s), bool)
    if t * s > 1:
        mask[1, 0] = mask[2, -(t * s // 2) :] = False
    return mask.reshape(BATCH, t, s)


def raised(check: str, error: Exception, fusion: nn.Module) -> Failure:
    """An exception as a failure; those of tracing are named, with the line that caused them."""
    if isinstance(error, InputError):
        return Failure(check, str(error))
    where = _culprit(error, fusion)
    if isinstance(error, jax.errors.JAXTypeError | jax.errors.JAXIndexError):
        advice = "Python branches on, or converts, a traced value; use jnp.where or masks"
        return Failure("jit", f"{where}{advice} ({type(error).__name__})")
    reason = " ".join(str(error).split())[:200]
    if isinstance(error, ScopeParamNotFoundError):
        missing = reason.partition(" (http")[0].rstrip(".")
        advice = "make the same parameters with train=True and with train=False"
        return Failure("registered", f"{where}{missing}; {advice}")
    return Failure(check, f"{where}raised {type(error).__name__}: {reason}")


def _culprit(error: Exception, fusion: nn.Module) -> str:
    """``"file.py:12: "``, the last line of the fusion's own file that the error passed through."""
    files = {inspect.getsourcefile(c) for c in type(fusion).__mro__ if issubclass(c, nn.Module)}
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if f.filename in files - {inspect.getsourcefile(nn.Module)}]
    return f"{Path(own[-1].filename).name}:{own[-1].lineno}: " if own else ""
