"""The objectives of a row inside its training step: all that the step knows of them.

Losses that look over a batch look over the whole batch, gathered from all devices, so that a row
is trained in the same way on one device and on eight.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmfuse.fusion.base import Array
from mmfuse.model import FusionModel, modalities_read
from mmfuse.objectives.base import Objective, Seen
from mmfuse.tasks import Task
from mmfuse.transforms import Transform
from mmfuse.transforms.apply import places

PARAMS = "objectives"  # where their parameters are, beside those of the model
LOSS = "objective/"  # in front of the names of their losses
# Numbers of their own keys: apart from the transforms' 2**30 and the initial parameters' 2**31.
STREAM, NOISE = 2**29, 2**28


@dataclasses.dataclass(frozen=True)
class Objectives:
    """Named objectives, in the order of the config; without any, nothing is done."""

    named: tuple[tuple[str, Objective], ...] = ()
    steps_per_epoch: int = 1

    def __bool__(self) -> bool:
        return bool(self.named)

    @property
    def shipped(self) -> bool:
        """Whether all their code is in this package."""
        return all(type(one).__module__.startswith("mmfuse.") for _, one in self.named)

    def transforms(self, modalities: tuple[str, ...]) -> tuple[Transform, ...]:
        """What they do to the training examples of a row that reads these modalities."""
        return tuple(each for _, one in self.named for each in one.transforms(modalities))

    def init(self, model: FusionModel, task: Task, params: dict, batch: dict, key: Array) -> tuple:
        """(parameters with theirs beside them, what they keep, losses or their shapes by name).

        ``batch`` is one like those to come; ``params`` are the model's, the same with objectives as
        without.
        """
        batch, states = counted(batch), self._states(model)
        seen = _see(model, task, params, batch, key=key)
        own = {}
        for one, name, mine, keys in self._each(seen, states, key):
            made = one.init({"params": keys, "dropout": keys}, mine).get("params", {})
            own |= {name: made} if made else {}
        params = dict(params) | ({PARAMS: own} if own else {})
        forward = lambda p: self.forward(model, task, p, states, batch, batch, key)[1]  # noqa: E731
        return params, states, jax.eval_shape(forward, params)

    def _states(self, model: FusionModel) -> dict[str, Any]:
        reads = modalities_read(model.fusion, tuple(model.encoders))
        return {name: jax.tree.map(_strong, one.begin(reads)) for name, one in self.named}

    def _each(self, seen: Seen, states: dict, key: Array) -> Iterator[tuple]:
        """(objective, name, what it sees, key) of each."""
        for place, (name, one) in enumerate(self.named):
            own = jax.random.fold_in(key, STREAM + place)
            yield one, name, dataclasses.replace(seen, state=states[name]), own

    def learned(self, batch: dict) -> dict:
        """The batch (leaves [B, ...]) without what is held out, which becomes like padding."""
        for _, one in self.named:
            held = one.held_out(batch["index"])
            if held is not None:
                masks = {m: x & ~_as_wide(held, x) for m, x in batch["masks"].items()}
                weight = jnp.where(held, 0, batch["weight"])
                batch = batch | {"masks": masks, "weight": weight}
        return batch

    def forward(
        self,
        model: FusionModel,
        task: Task,
        params: dict,
        states: dict,
        batch: dict,
        whole: dict,
        key: Array,
        *,
        smoothing: float = 0.0,
        axis_name: str | None = None,
    ) -> tuple[Array, dict, dict]:
        """(output, losses by name, sums of each objective) of a batch in training.

        ``whole`` is the batch with what is held out.
        """
        own = params.get(PARAMS, {})
        seen = _see(model, task, params, batch, whole, key=key, smoothing=smoothing,
                    axis_name=axis_name)  # fmt: skip
        losses, sums = dict(seen.fused.losses), {}
        for one, name, mine, keys in self._each(seen, states, key):
            told = one.apply({"params": own.get(name, {})}, mine, rngs={"dropout": keys})
            sums[name] = told.sums
            if told.loss is not None:
                losses[LOSS + name] = jnp.where(batch["weight"] > 0, told.loss, 0)
        return seen.output, losses, sums

    def after(
        self, grads: Any, sums: dict, states: dict, step: Array, key: Array
    ) -> tuple[Any, dict]:
        """The gradient as it is to be used, and what they keep after this step."""
        states = dict(states)
        ends = (step + 1) % self.steps_per_epoch == 0
        for place, (name, one) in enumerate(self.named):
            grads = one.modulate(grads, sums[name], jax.random.fold_in(key, NOISE + place))
            states[name] = one.update(states[name], sums[name], epoch_ends=ends)
        return grads, states


NONE = Objectives()


def on_model(change: Callable[[Any], Any], params: dict) -> dict:
    """``params`` with those of the model changed; what objectives have beside them stays."""
    model = {name: tree for name, tree in params.items() if name != PARAMS}
    return change(model) | {name: params[name] for name in params if name == PARAMS}


def counted(batch: dict) -> dict:
    """The batch (or its shapes) as one of training, in which every example counts."""
    size = jax.tree.leaves(batch["label"])[0].shape[0]
    return batch | {"weight": np.ones(size, np.float32), "index": np.zeros(size, np.int32)}


def _strong(x: Any) -> Array:
    """An array whose dtype is settled: a weak one would be compiled twice."""
    return jnp.asarray(x, jnp.asarray(x).dtype)


def _as_wide(flag: Array, like: Array) -> Array:
    return flag.reshape(flag.shape + (1,) * (like.ndim - flag.ndim))


def _see(
    model: FusionModel,
    task: Task,
    params: dict,
    batch: dict,
    whole: dict | None = None,
    *,
    key: Array | None = None,
    smoothing: float = 0.0,
    axis_name: str | None = None,
) -> Seen:
    """What the model makes of a batch; with a key as in training, without as in evaluation."""
    train, frozen = key is not None, jax.lax.stop_gradient(params)
    how = {"train": train, "rngs": {"dropout": key} if train else None}
    apply = functools.partial(model.apply, {"params": params}, **how)
    given = batch.get("given")
    tokens, masks = apply(batch["inputs"], batch["masks"], method="encode")
    output, fused = apply(tokens, masks, given, method="fuse")

    def fuse(tokens: dict, masks: dict) -> Array:
        evaluated = {"train": False, "method": "fuse"}
        return model.apply({"params": frozen}, tokens, masks, given, **evaluated)[0]

    def everyone(tree: Any) -> Any:
        return tree if axis_name is None else jax.lax.all_gather(tree, axis_name, tiled=True)

    place = places(len(batch["weight"]), axis_name)
    return Seen(
        model=model,
        batch=batch,
        tokens=tokens,
        masks=masks,
        fused=fused,
        output=output,
        loss=lambda output: _example_loss(task, output, batch, smoothing),
        everyone=everyone,
        mine=lambda x: jnp.take(x, place, axis=0),
        fuse=fuse,
        measured=lambda: _see(model, task, frozen, whole or batch, axis_name=axis_name),
    )


def _example_loss(task: Task, output: Array, batch: dict, smoothing: float) -> Array:
    """The task's loss of every example [B]; of one that was mixed of two, by their shares."""
    loss = task.loss(output, batch["label"], smoothing=smoothing)
    if "mixed" not in batch:
        return loss
    share, other = batch["mixed"]["share"], batch["mixed"]["label"]
    return share * loss + (1 - share) * task.loss(output, other, smoothing=smoothing)
