"""What an objective sees, made by hand; and a small program that is trained with objectives."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from mmfuse.decoders import PooledHead
from mmfuse.encoders import build_encoder
from mmfuse.fusion import build_fusion
from mmfuse.fusion.base import Fused
from mmfuse.model import FusionModel
from mmfuse.objectives import Objective, Seen, Told, build_objectives
from mmfuse.tasks import Classification
from mmfuse.tasks.classification import cross_entropy
from mmfuse.train import Program
from tests.reference import ORDER, B, make_batch

CLASSES, N, BATCH = 3, 40, 16
LABEL = np.array([2, 0, 1, 1], np.int32)
FUSION = {"name": "concat", "features": 6, "hidden": 6}
FAST = {"xla_backend_optimization_level": 0}  # compiling is most of the time here


class Measured(Objective):
    """A loss of what the model evaluates to, which has no gradient."""

    @nn.compact
    def __call__(self, seen):
        return Told(jnp.sum(seen.measured().output ** 2, axis=-1))


def seen(**changed) -> Seen:
    """Of one device: three encoded modalities, partly absent, and vectors as their input."""
    tokens, masks = make_batch()
    rng = np.random.default_rng(1)
    batch = {
        "inputs": {m: rng.standard_normal((B, 4), np.float32) for m in ORDER},
        "masks": {m: masks[m].any((1, 2))[:, None] for m in ORDER},
        "label": LABEL,
        "weight": np.ones(B, np.float32),
        "index": np.arange(B, dtype=np.int32),
    }
    fused = Fused(rng.standard_normal((B, 1, 1, 5), np.float32), np.ones((B, 1, 1), bool))
    head = PooledHead(CLASSES)
    made = Seen(
        model=FusionModel({m: build_encoder("mlp", features=4) for m in ORDER}, None, head),
        batch=batch,
        tokens=tokens,
        masks=masks,
        fused=fused,
        output=rng.standard_normal((B, CLASSES), np.float32),
        loss=lambda output: cross_entropy(output, LABEL),
        everyone=lambda tree: tree,
        mine=lambda x: x,
        fuse=None,
        measured=None,
    )
    return dataclasses.replace(made, **changed)


def told(objective, what, key=0):
    """(what it tells, its parameters in float64), no parameter at zero."""
    rngs = {"params": jax.random.key(key), "dropout": jax.random.key(key)}
    params = jax.jit(lambda: objective.init(rngs, what).get("params", {}), compiler_options=FAST)()
    params = jax.tree.map(
        lambda x: x + 0.1 * np.cos(np.arange(x.size)).reshape(x.shape).astype(x.dtype), params
    )
    found = jax.jit(
        lambda p: objective.apply({"params": p}, what, rngs=rngs), compiler_options=FAST
    )(params)
    return jax.device_get(found), jax.tree.map(lambda x: np.asarray(x, float), params)


def model(fusion=None) -> FusionModel:
    fields = dict(fusion or FUSION)
    encoders = {m: build_encoder("mlp", features=5, hidden=6) for m in ("sound", "words")}
    return FusionModel(encoders, build_fusion(fields.pop("name"), **fields), PooledHead(CLASSES))


def program(entries=None, fusion=None, steps_per_epoch=3, **fields) -> Program:
    """Plain gradient descent, whose step is the gradient itself."""
    objectives = build_objectives(entries or {}, "row 'x'", steps_per_epoch)
    task = Classification(CLASSES)
    return Program(model(fusion), optax.sgd(0.5), task, objectives=objectives, **fields)


def data(seed=0) -> dict:
    """Vectors of two modalities; in each, every fourth example or so is absent."""
    rng = np.random.default_rng(seed)
    inputs = {m: rng.standard_normal((N, w), np.float32) for m, w in (("sound", 5), ("words", 4))}
    masks = {m: rng.random((N, 1)) < 0.75 for m in inputs}
    inputs = {m: np.where(masks[m], x, 0) for m, x in inputs.items()}
    label = rng.integers(CLASSES, size=N).astype(np.int32)
    return {"inputs": inputs, "masks": masks, "label": label}


def order(steps=3, seeds=(0,)) -> np.ndarray:
    """[steps, R, B]; the last batch has padding."""
    found = [np.random.default_rng(s).permutation(N)[: steps * BATCH - 8] for s in seeds]
    padded = [np.pad(o, (0, 8 + 0 * s), constant_values=-1) for s, o in zip(seeds, found)]  # noqa: B905
    return np.stack([o.reshape(steps, BATCH) for o in padded], axis=1).astype(np.int32)


def starting(made: Program):
    one = jax.tree.map(lambda x: x[:1], data())
    return jax.jit(lambda s: made.init(s, one, axis_name=None), compiler_options=FAST)


def start(made: Program):
    return starting(made)(np.zeros(1, np.uint32))


def compiled(made: Program):
    return jax.jit(lambda *args: made.train_chunk(*args, axis_name=None), compiler_options=FAST)


def trained(made: Program, steps=2, given=None, state=None):
    """The state after so many steps from the start."""
    places = order()[:steps]
    run = compiled(made)
    return jax.device_get(run(state or start(made), given or data(), places, np.ones(steps, bool)))


def forward(made: Program, params, batch):
    """The output for one replica's parameters, as the program evaluates."""
    inputs = jax.tree.map(jnp.asarray, (batch["inputs"], batch["masks"]))
    run = jax.jit(lambda p, *i: made.model.apply({"params": p}, *i, train=False)[0])
    return run(params, *inputs)
