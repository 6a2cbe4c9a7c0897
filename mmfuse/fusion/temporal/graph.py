"""A graph of all sets of modalities in front of a memory (Graph-MFN)."""

from __future__ import annotations

import itertools
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmfuse.errors import InputError
from mmfuse.fusion.base import Fused, dense
from mmfuse.fusion.temporal.memory import GatedMemory, Views, network, run_system

Array = jax.Array
Arrays = dict[str, Array]


def proper_subsets(members: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The non-empty proper subsets, small ones first."""
    sizes = range(1, len(members))
    return [s for r in sizes for s in itertools.combinations(members, r)]


class FusionGraph(nn.Module):
    """The dynamic fusion graph of Graph-MFN over single vertices ``[B, T, M, 2H]``.

    Attributes:
      width: of every vertex.
      largest: the largest set of modalities that has a vertex.
    """

    width: int
    largest: int

    @nn.compact
    def __call__(self, delta: Array, present: Array) -> tuple[Array, dict[tuple[int, ...], Array]]:
        """The output vertex ``[B, T, width]``, and the efficacy ``[B, T]`` of each set for it."""
        if self.largest < 1:
            raise InputError(f"graph_mfn: largest={self.largest} must be at least 1")
        count, n = delta.shape[2], self.width
        levels = [list(itertools.combinations(range(count), r))
                  for r in range(1, min(count, self.largest) + 1)]  # fmt: skip
        sets = [s for level in levels for s in level]
        edges = [len(proper_subsets(s)) for s in sets[count:]]
        flat = delta.reshape(*delta.shape[:2], -1)
        total = sum(edges) + len(sets)
        alphas = nn.sigmoid(network(flat, n, total, "efficacy"))
        there = jnp.stack([jnp.all(present[:, np.array(s)], axis=1) for s in sets], axis=1)
        vertices, used = self._layer(delta[:, :, :, None], "single"), 0
        for level in levels[1:]:
            subsets = np.array([[sets.index(s) for s in proper_subsets(v)] for v in level])
            alpha = alphas[..., used : used + subsets.size]
            alpha = alpha.reshape(*alpha.shape[:2], *subsets.shape)
            made = self._layer(vertices[:, :, subsets] * alpha[..., None], f"sets_{len(level[0])}")
            vertices = jnp.concatenate([vertices, made], axis=2)
            used += subsets.size
        # A set of modalities that are all there reads no other: masking the last edges is enough.
        alpha = jnp.where(there[:, None], alphas[..., used:], 0)
        joint = (vertices * alpha[..., None]).reshape(*flat.shape[:2], -1)
        out = nn.relu(dense(n, joint, "top")(joint))
        return out, {s: alpha[..., i] for i, s in enumerate(sets)}

    def _layer(self, x: Array, name: str) -> Array:
        """``relu(sum_ei x_vei W_veio + b_vo)``: ``[B, T, V, E, I] -> [B, T, V, width]``."""
        init = nn.initializers.lecun_normal(in_axis=(1, 2), out_axis=3, batch_axis=0)
        kernel = self.param(name, init, (*x.shape[2:], self.width)).astype(x.dtype)
        bias = self.param(f"{name}_bias", nn.initializers.zeros, (x.shape[2], self.width))
        y = jnp.einsum("btvei,veio->btvo", x, kernel)
        return nn.relu(y + bias.astype(x.dtype)[None, None])


class GraphMFN(nn.Module):
    """Graph memory fusion network (Zadeh et al. 2018, ACL, doi:10.18653/v1/P18-1208).

    ``f = W [h_1T; ..; h_MT; u_T] + b, u_t = k_t * u_(t-1) + w_t * tanh(D_u(g_t))``: MFN with the
    dynamic fusion graph's output ``g_t`` in place of the attended cells. The graph has a vertex for
    every set A of modalities: ``v_A = relu(D_A [alpha_BA v_B for all proper subsets B of A])``,
    single ones ``v_m = relu(D_m [c_m,t-1; c_mt])``, and the output
    ``g = relu(D_g [alpha_Ag v_A for all A])``. The efficacies, one for each edge, are
    ``alpha = sigmoid(D_alpha([c_(t-1); c_t]))``; they show which sets the memory listens to.

    A vertex with an absent modality has efficacy 0 for the output. Sets have up to ``largest``
    modalities: up to three, the paper's number, that is all of them; beyond, their number is
    O(M^3) instead of 2^M. Steps, LSTMs, gates and ``recall`` are those of ``MFN``.

    Differs from the paper: all vertices have one ``width``, so cells pass a layer first; one layer
    a vertex. MMSA's code reads ``[h_(t-1); h_t]`` in place of the cells and has efficacies without
    a sigmoid.

    Limits: sees time and products, so both; as in ``MFN``, modalities meet through the states at
    steps t - 1 and t.

    Cost: O(T (hidden (D + M hidden) + E width^2)) time, O(T (M hidden + E width)) memory per
    example, with E edges, 19 for three modalities; ``T = max_m T_m``, ``D = sum_m D_m``.

    Shapes: ``{m: [B, T_m, S_m, D_m]} -> [B, 1, 1, features]``; weights ``m``, ``m+n``, ..
    ``[B, T]``, the efficacy of each vertex for the output.

    Raises:
      InputError: ``largest`` is less than 1.
    """

    needs_time: ClassVar[bool] = True

    features: int
    hidden: int
    width: int
    largest: int = 3
    recall: bool = False

    @nn.compact
    def __call__(self, tokens: Arrays, masks: Arrays, *, train: bool) -> Fused:
        """See the class."""
        del train
        views = Views(tokens, masks)
        delta, last = run_system(views, self.hidden)
        g, efficacies = FusionGraph(self.width, self.largest, name="graph")(delta, views.present)
        u = GatedMemory(self.width, self.recall, name="memory")(g, views.scanned()[1])
        weights = {
            "+".join(views.order[i] for i in members): jnp.where(views.valid, alpha, 0)
            for members, alpha in efficacies.items()
        }
        return views.finish(last, u, self.features, weights)
