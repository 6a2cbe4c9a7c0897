"""A linear model with dropout, small enough to derive its training by hand, and data for it."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from mmfuse.fusion import Fused
from mmfuse.tasks import make_task
from mmfuse.train import Program

N, WIDTH, CLASSES = 20, 5, 3


class Linear(nn.Module):
    """With ``auxiliary``, half the cross-entropy by label and a fifth of the squares are added."""

    outputs: int = CLASSES
    dropout: float = 0.0
    auxiliary: bool = False

    @nn.compact
    def __call__(self, inputs, masks, *, train):
        x = inputs["x"] * masks["x"]
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        z = nn.Dense(self.outputs, name="affine")(x)
        losses = {}
        if self.auxiliary and train:
            there = masks["x"][:, 0]
            losses = {
                "own": -0.5 * jax.nn.log_softmax(z),
                "size": 0.2 * jnp.sum(z**2, axis=-1),
                "present": jnp.broadcast_to(jnp.sum(there), there.shape).astype(jnp.float32),
            }
        return z, Fused(z[:, None, None], masks["x"][:, :, None], losses=losses)


def make(
    optimizer=None,
    *,
    task="classification",
    dropout=0.0,
    smoothing=0.0,
    auxiliary=False,
    **transforms,
) -> Program:
    """By default plain gradient descent: unlike Adam it shows a gradient of the wrong size."""
    outputs = CLASSES if task == "classification" else 1
    task = make_task({"task": task, "classes": CLASSES})
    model = Linear(outputs, dropout, auxiliary)
    return Program(model, optimizer or optax.sgd(0.5), task, smoothing, **transforms)


def data(task="classification", n=N):
    rng = np.random.default_rng(0)
    label = rng.integers(CLASSES, size=n).astype(np.int32)
    if task == "regression":
        label = rng.normal(size=n).astype(np.float32)
    return {
        "inputs": {"x": rng.normal(size=(n, WIDTH)).astype(np.float32)},
        "masks": {"x": np.ones((n, 1), bool)},
        "label": label,
    }


def orders(seeds, steps=4, batch=8, n=N):
    """[steps, R, B] as in an epoch, with a last batch that is not full."""
    out = np.full((steps, len(seeds), batch), -1, np.int32)
    for lane, seed in enumerate(seeds):
        rng = np.random.default_rng(seed)
        for step in range(steps):
            size = batch if step < steps - 1 else batch - 3
            out[step, lane, :size] = rng.permutation(n)[:size]
    return out


def start(program, seeds, batch=None):
    batch = batch or data()
    one = jax.tree.map(lambda x: x[:1], batch)
    return program.init(np.array(seeds, np.uint32), one, axis_name=None)
