"""Models whose answers are known by hand, as finished rows; and a tiny trained workdir."""

import functools
import os
from pathlib import Path
from types import SimpleNamespace

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax

from experiments import ablate, cli
from mmfuse.decoders import PooledHead
from mmfuse.fusion import Fused
from mmfuse.fusion.base import flatten, masked_mean
from mmfuse.model import FusionModel
from mmfuse.restored import Finished
from mmfuse.tasks import Classification
from mmfuse.train import Program

N, SEEDS = 40, (3, 5)
CLASSES = Classification(2)
CONFIG = """
from tests import tiny

def get_config():
    config = tiny.config(epochs=1)
    del config.rows["concat"]
    config.rows["attends"] = {"fusion": {"name": "crossmodal", "features": 8, "heads": 2}}
    config.baseline = "attends"
    return config
"""


class Product(nn.Module):
    """The logits of a label that is the sign of a product: +-scale a b. It ignores ``c``."""

    @nn.compact
    def __call__(self, inputs, masks, *, train):
        scale = self.param("scale", nn.initializers.ones, ())
        z = scale * inputs["a"][:, 0] * inputs["b"][:, 0]
        z = jnp.stack([-z, z], axis=-1)
        return z, Fused(z[:, None, None], masks["a"][:, :, None])


class Itself(nn.Module):
    """Frames are the tokens."""

    @nn.compact
    def __call__(self, x, mask, *, train):
        return jnp.where(mask[..., None], x, 0)[:, :, None], mask[:, :, None]


class Peak(nn.Module):
    """Attends to where the first feature is large, and returns the weighted sum of all."""

    told: bool = True

    @nn.compact
    def __call__(self, tokens, masks, *, train):
        scale = self.param("scale", nn.initializers.ones, ())
        x, mask = flatten(tokens["x"]), flatten(masks["x"])
        score = jnp.where(mask, x[..., 0] * scale, -1e9)
        a = jnp.where(mask, jnp.exp(score - score.max(-1, keepdims=True)), 0)
        a = a / jnp.maximum(a.sum(-1, keepdims=True), 1e-9)
        maps = {"x<-x": jnp.repeat(a[:, None], x.shape[1], axis=1)} if self.told else {}
        s = jnp.einsum("bn,bnd->bd", a, x)
        return Fused(s[:, None, None], mask.any(1)[:, None, None], maps)


class Total(nn.Module):
    """The sum of all tokens that are there."""

    @nn.compact
    def __call__(self, tokens, masks, *, train):
        x = jnp.where(masks["x"][..., None], tokens["x"], 0).sum((1, 2))
        return Fused(x[:, None, None], masks["x"].any((1, 2))[:, None, None])


class Sum(nn.Module):
    """The masked mean of all tokens: a linear method."""

    @nn.compact
    def __call__(self, tokens, masks, *, train):
        return Fused(masked_mean(tokens["x"], masks["x"], (1, 2))[:, None, None],
                     masks["x"].any((1, 2))[:, None, None])  # fmt: skip


def product_data():
    """Batches of 16 in which the label is the sign of a b; the last one is not full."""
    rng = np.random.default_rng(0)
    columns = {m: rng.normal(size=(N, 1)).astype(np.float32) for m in "abc"}
    label = (columns["a"] * columns["b"] > 0)[:, 0].astype(np.int32)
    return batches(columns, {m: np.ones((N, 1), bool) for m in "abc"}, label, 16)


def frames_data(steps=6):
    """One large frame an example, which carries the label; the others are small noise."""
    rng = np.random.default_rng(1)
    label = rng.integers(2, size=N).astype(np.int32)
    x = rng.normal(size=(N, steps, 2)).astype(np.float32) * 0.1
    mask = np.arange(steps) < rng.integers(3, steps + 1, size=N)[:, None]
    place = rng.integers(mask.sum(1))
    x[np.arange(N), place, 0] = 8
    x[np.arange(N), place, 1] = 2 * label - 1
    return batches({"x": x}, {"x": mask}, label, 20)


def batches(inputs, masks, label, size):
    out = []
    for start in range(0, len(label), size):
        index = np.minimum(np.arange(start, start + size), len(label) - 1).astype(np.int32)
        taken = [{m: x[index] for m, x in of.items()} for of in (inputs, masks)]
        batch = {"inputs": taken[0], "masks": taken[1], "label": label[index]}
        weight = (np.arange(start, start + size) < len(label)).astype(np.float32)
        out.append(batch | {"weight": weight, "index": index})
    return out


def finished(model, params, reads, name="a row", task=CLASSES):
    """A row of two seeds with the same parameters."""
    program = Program(model, optax.sgd(0.1), task, 0.0)
    row = SimpleNamespace(name=name)
    built = SimpleNamespace(model=model, program=program, row=row, reads=reads)
    stacked = {k: _twice(v) for k, v in params.items()}
    return Finished(built, SEEDS, stacked, ({}, {}))


def _twice(leaf):
    if isinstance(leaf, dict):
        return {k: _twice(v) for k, v in leaf.items()}
    return np.stack([np.asarray(leaf, np.float32)] * 2)


def peak(told=True):
    """A row that attends; the head reads the second feature alone."""
    model = FusionModel({"x": Itself()}, Peak(told), PooledHead(2))
    kernel = np.array([[0, 0], [-1, 1]], np.float32)
    head = {"affine": {"kernel": kernel, "bias": np.zeros(2, np.float32)}}
    return finished(model, {"fusion": {"scale": np.float32(1)}, "head": head}, ("x",))


@functools.cache
def trained(folder: str, data_dir: str) -> str:
    """A workdir of two rows, two seeds, one epoch."""
    path = Path(folder)
    path.mkdir(parents=True)
    (path / "rows.py").write_text(CONFIG)
    before, cli.use_compilation_cache = cli.use_compilation_cache, lambda: None
    try:
        arguments = [f"--config={path / 'rows.py'}", f"--workdir={path / 'work'}"]
        assert ablate.main([*arguments, f"--data_dir={data_dir}"]) == 0
    finally:
        cli.use_compilation_cache = before
    return os.fspath(path / "work")
