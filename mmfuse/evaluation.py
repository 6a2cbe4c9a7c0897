"""What a model's output is worth: the forward pass, the loss, and the metric sums of a batch.

Pure functions of a model and a task. Training minimises the loss that is summed here, and adds what
it needs besides; an evaluation is the sums alone.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmfuse import optim
from mmfuse.model import model_inputs
from mmfuse.parallel import over_devices
from mmfuse.tasks import AUXILIARY, Sums, Task
from mmfuse.transforms import Transform
from mmfuse.transforms.apply import EVALUATION, apply


def forward(
    model: nn.Module, params: Any, batch: dict, key: jax.Array | None = None
) -> tuple[jax.Array, dict]:
    """The output [B, ...] and the auxiliary losses; with a key, as in training (dropout on)."""
    train = key is not None
    rngs = {"dropout": key} if train else None
    output, fused = model.apply({"params": params}, *model_inputs(batch), train=train, rngs=rngs)
    return output, fused.losses


def score(
    task: Task, output: jax.Array, losses: dict, batch: dict, smoothing: float = 0.0
) -> tuple[jax.Array, Sums]:
    """Summed loss and metric sums of the model's output for a batch.

    An example that was mixed of two counts as its two labels, each with its share.
    """
    label, weight = batch["label"], batch["weight"]
    if "mixed" not in batch:
        return _score_labels(task, output, losses, label, weight, smoothing)
    own, other = weight * batch["mixed"]["share"], batch["mixed"]["label"]
    parts = [(label, own), (other, weight - own)]
    scored = [_score_labels(task, output, losses, *part, smoothing) for part in parts]
    return jax.tree.map(jnp.add, *scored)


def _score_labels(
    task: Task,
    output: jax.Array,
    losses: dict,
    label: Any,
    weight: jax.Array,
    smoothing: float,
) -> tuple[jax.Array, Sums]:
    """Sums over examples with these labels and weights [B].

    The loss that is minimised is the task's plus all auxiliary ones; each has its own sum.
    """
    loss = jnp.sum(task.loss(output, label, smoothing=smoothing) * weight)
    auxiliary = {
        f"{AUXILIARY}{name}": jnp.sum(optim.auxiliary(value, label) * weight)
        for name, value in sorted(losses.items())
    }
    sums = task.sums(output, label, weight)
    sums |= {"loss": loss, "count": jnp.sum(weight)} | auxiliary
    return sum(auxiliary.values(), loss), sums


def zero_sums(task: Task, output: jax.Array, losses: dict, batch: dict) -> Sums:
    """Empty metric sums, for outputs, auxiliary losses and batches like these."""
    examples = jax.tree.leaves(batch["label"])[0].shape[:1]
    batch = batch | {"weight": jax.ShapeDtypeStruct(examples, jnp.float32)}
    shapes = jax.eval_shape(lambda o, a, b: score(task, o, a, b)[1], output, losses, batch)
    return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)


def evaluate(
    model: nn.Module,
    task: Task,
    params: Any,
    batch: dict,
    *,
    transforms: tuple[Transform, ...],
    axis_name: str | None,
) -> tuple[Sums, Any]:
    """Metric sums of one batch (leaves [B, ...]) for ``params`` [R, ...], and what is kept.

    That is what the task keeps of the outputs, leaves [R, B, ...].

    ``batch["index"]`` int32 [B], each example's place in its split, keys the transforms.
    """
    if transforms:
        key = jax.random.key(EVALUATION)
        batch = apply(transforms, key, batch, batch["index"], axis_name=axis_name)

    def one(replica):
        output, losses = forward(model, replica, batch)
        sums = score(task, output, losses, batch)[1]
        return sums, task.kept_output(output, batch["label"])

    sums, outputs = jax.vmap(one)(params)
    if axis_name is not None:
        outputs = jax.lax.all_gather(outputs, axis_name, axis=1, tiled=True)
    return over_devices(sums, axis_name), outputs
