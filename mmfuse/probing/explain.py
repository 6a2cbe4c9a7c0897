"""What a finished run looks at: attention per token, integrated gradients, and deleted tokens.

Units are the tokens that the fusion gets, ``N = T * S`` a modality, in all three: attention weighs
them, gradients are attributed to them, and deletion masks them. So methods with and without
attention are compared on the same units, whatever the encoder is.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmfuse.errors import InputError
from mmfuse.fusion.base import flatten
from mmfuse.tasks import Classification, Regression, Task

NODES = 32  # of the quadrature of integrated gradients
Array = jax.Array


def attention_maps(
    weights: dict[str, Array], masks: dict[str, Array]
) -> dict[str, tuple[str, Array]]:
    """The maps over the tokens of one modality: ``{name: (that modality, [B, H, Q, N])}``.

    ``weights`` are ``Fused.weights``, ``masks`` the token masks ``[B, T, S]``. A map without heads
    gets one; rows of queries that are masked are zero. Gates, and maps over anything but all tokens
    of a modality (latents, streams), are left out.
    """
    found = {}
    for name, weight in weights.items():
        query, arrow, key = name.partition("<-")
        if not arrow or key not in masks or weight.ndim < 2:
            continue
        batch, tokens = masks[key].shape[0], masks[key][0].size
        if weight.shape[-1] != tokens or weight.shape[0] != batch:
            continue
        queries = weight.shape[-2] if weight.ndim > 2 else 1
        a = weight.reshape(batch, -1, queries, tokens)
        asked = jnp.ones((batch, queries), bool)
        if query in masks and masks[query][0].size == queries:
            asked = flatten(masks[query])
        found[name] = (key, jnp.where(asked[:, None, :, None], a, 0))
    return found


def received(maps: dict[str, tuple[str, Array]]) -> dict[str, Array]:
    """The attention that every token gets, ``{modality: [B, N]}``, for modalities with a map.

    The mean over the rows of all maps over that modality that are not empty (heads, real queries):
    it adds up to 1, or is zero where nobody looks.
    """
    by_modality: dict[str, list[Array]] = {}
    for key, a in maps.values():
        by_modality.setdefault(key, []).append(a.reshape(a.shape[0], -1, a.shape[-1]))
    out = {}
    for key, parts in by_modality.items():
        rows = jnp.concatenate(parts, axis=1)
        live = jnp.sum(jnp.any(rows > 0, axis=-1), axis=1)
        out[key] = jnp.sum(rows, axis=1) / jnp.maximum(live, 1)[:, None]
    return out


def integrated_gradients(
    function: Any, tokens: dict[str, Array], nodes: int = NODES
) -> dict[str, Array]:
    """``IG_i = x_i * integral_0^1 df/dx_i (a x) da``, summed over features: ``{modality: [B, N]}``.

    The baseline is zero tokens. Gauss-Legendre quadrature with ``nodes`` nodes, none of them at an
    end, so that a function without a derivative at zero does no harm. The sum over all tokens is
    ``f(x) - f(0)`` up to the error of the quadrature (completeness). Sundararajan et al. 2017,
    arXiv:1703.01365, equation 1.

    Args:
      function: ``{modality: [B, T, S, D]} -> [B]``, each entry of its own example alone.
      tokens: where it is explained.
      nodes: of the quadrature.
    """
    points, shares = np.polynomial.legendre.leggauss(nodes)
    points, shares = (points + 1) / 2, shares / 2
    slope = jax.grad(lambda at: jnp.sum(function(at)))

    def add(total, node):
        at, share = node
        gradient = slope(jax.tree.map(lambda x: x * at.astype(x.dtype), tokens))
        return jax.tree.map(lambda t, g: t + share.astype(t.dtype) * g, total, gradient), None

    nodes = (jnp.asarray(points, jnp.float32), jnp.asarray(shares, jnp.float32))
    mean, _ = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, tokens), nodes)
    return {m: flatten(jnp.sum(x * mean[m], axis=-1)) for m, x in tokens.items()}


def explainable(task: Task) -> bool:
    """Whether an example has one score that can be explained: that of its class, or its number."""
    return isinstance(task, Classification | Regression)


def explain(model: nn.Module, task: Task, params: Any, batch: dict, few: int) -> dict[str, Any]:
    """Everything that is told of one replica's look at a batch (leaves [B, ...]).

    Returns a dict with ``attention`` and ``gradients`` {modality: [B, N]}, ``masks`` {modality: [B,
    N]}, ``explained`` and ``baseline`` [B] (the output that is explained, at x and at zero tokens:
    the logit of the predicted class, or the prediction), ``output`` [B, C], and for the first
    ``few`` examples ``maps`` {name: [few, H, Q, N]} and ``shape`` {modality: bool [few, T, S]}.

    Raises:
      InputError: the task is not :func:`explainable`.
    """
    inputs, masks = batch["inputs"], batch["masks"]
    tokens, there = model.apply({"params": params}, inputs, masks, train=False, method="encode")

    def fuse(at):
        given = batch.get("given")
        return model.apply({"params": params}, at, there, given, train=False, method="fuse")

    output, fused = fuse(tokens)
    if not explainable(task):
        raise InputError("this task has no single score of an example that could be explained")
    chosen = jnp.argmax(output, axis=-1)
    if not isinstance(task, Classification):
        chosen = jnp.zeros_like(chosen)

    def explained(at):
        return jnp.take_along_axis(fuse(at)[0], chosen[:, None], axis=-1)[:, 0]

    maps = attention_maps(fused.weights, there)
    return {
        "attention": received(maps),
        "gradients": integrated_gradients(explained, tokens),
        "masks": {m: flatten(mask) for m, mask in there.items()},
        "explained": explained(tokens),
        "baseline": explained(jax.tree.map(jnp.zeros_like, tokens)),
        "output": output,
        "maps": {name: a[:few] for name, (_, a) in maps.items()},
        "shape": {m: mask[:few] for m, mask in there.items()},
    }


def without_tokens(model: nn.Module, params: Any, batch: dict, kept: dict[str, Array]) -> tuple:
    """(output, losses) of one replica when only the tokens ``kept`` {modality: [B, N]} are there.

    A deleted token is masked and zero: the encoders still saw it, the fusion does not.
    """
    inputs, masks = batch["inputs"], batch["masks"]
    tokens, there = model.apply({"params": params}, inputs, masks, train=False, method="encode")
    there = {m: mask & kept[m].reshape(mask.shape) for m, mask in there.items()}
    tokens = {m: jnp.where(there[m][..., None], x, 0).astype(x.dtype) for m, x in tokens.items()}
    given = batch.get("given")
    output, fused = model.apply(
        {"params": params}, tokens, there, given, train=False, method="fuse"
    )
    return output, fused.losses
