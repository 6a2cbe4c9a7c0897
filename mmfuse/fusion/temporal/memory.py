"""One LSTM a modality, and a memory for what happens between them, step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmfuse.fusion.base import Fused, dense, names, one_token
from mmfuse.fusion.temporal.alignment import aligned, counted_steps
from mmfuse.recurrent import _bias_init, _recurrent_init, lstm_step

Array = jax.Array
Arrays = dict[str, Array]
Init = nn.initializers.Initializer


def stacked(init: Init) -> Init:
    """``init`` for each entry of the first axis, with a key of its own."""

    def make(key: Array, shape: tuple[int, ...], dtype=jnp.float32) -> Array:
        return jnp.stack([init(k, shape[1:], dtype) for k in jax.random.split(key, shape[0])])

    return make


class System(nn.Module):
    """The parameters of a system of LSTMs, one a modality, all of ``hidden`` units.

    They run on one time axis, so that all of them are one scan: the products with the inputs are
    done here, once for all steps, and those with the states are one batched product a step.
    """

    hidden: int

    @nn.compact
    def __call__(self, steps: Arrays) -> tuple[Array, Array]:
        """``{m: [B, T, D_m]}`` -> what they add to the gates, float32 ``[T, M, B, 4H]``, and
        ``U [M, H, 4H]``, with which the states do.
        """
        width, drives = 4 * self.hidden, []
        for m in names(steps):
            x = steps[m]
            kernel = self.param(f"input_{m}", nn.initializers.lecun_normal(), (x.shape[-1], width))
            drives.append(jnp.swapaxes(x, 0, 1) @ kernel.astype(x.dtype))
        count = len(drives)
        bias = self.param("bias", stacked(_bias_init), (count, width))
        u = self.param("recurrent", stacked(_recurrent_init), (count, self.hidden, width))
        drive = jnp.stack(drives, axis=1).astype(jnp.float32) + bias[None, :, None]
        return drive, u.astype(x.dtype)


def product(x: Array, kernel: Array) -> Array:
    """``[M, B, I], [M, I, O] -> [M, B, O]`` in the dtype of the kernel, returned in float32."""
    return jnp.einsum("mbi,mio->mbo", x.astype(kernel.dtype), kernel).astype(jnp.float32)


def kept(new: tuple, old: tuple, mask: Array) -> tuple:
    """``new`` where ``mask`` is True, ``old`` elsewhere."""
    return jax.tree.map(lambda a, b: jnp.where(mask, a, b), new, old)


class Views:
    """The aligned steps of all modalities, and when each of them and any of them counts.

    A view counts where its modality has the step and the step counts at all (``counted_steps``).
    """

    def __init__(self, tokens: Arrays, masks: Arrays):
        length = max(x.shape[1] for x in tokens.values())
        self.steps, there = aligned(tokens, masks, length)
        self.order = names(tokens)
        self.valid = counted_steps(tokens, there)
        self.there = jnp.stack([there[m] & self.valid for m in self.order])  # [M, B, T]
        self.present = jnp.any(self.there, axis=2).T  # [B, M]
        self.dtype = self.steps[self.order[0]].dtype

    def scanned(self) -> tuple[Array, Array]:
        """Masks for a scan over time: of each view ``[T, M, B, 1]``, of the step ``[T, B, 1]``."""
        return jnp.moveaxis(self.there, 2, 0)[..., None], self.valid.T[..., None]

    def finish(self, last: Array, memory: Array, features: int, weights: Arrays) -> Fused:
        """``W [h_1; ..; h_M; memory] + b`` from ``last [M, B, H]`` and ``memory [B, N]``."""
        rows = jnp.moveaxis(last, 0, 1).reshape(last.shape[1], -1)
        joint = jnp.concatenate([rows, memory], axis=-1).astype(self.dtype)
        f = dense(features, joint, "out")(joint)
        return one_token(f, jnp.any(self.valid, axis=1), weights)


def run_system(views: Views, hidden: int) -> tuple[Array, Array]:
    """The delta memories ``[c_m,t-1; c_mt]`` as ``[B, T, M, 2H]``, and the last ``h [M, B, H]``."""
    drive, u = System(hidden, name="system")(views.steps)

    def step(state: tuple[Array, Array], at: tuple[Array, Array]):
        drive_t, mask_t = at
        new = kept(lstm_step(state, drive_t + product(state[1], u)), state, mask_t)
        return new, jnp.concatenate([state[0], new[0]], axis=-1)

    zero = jnp.zeros((*drive.shape[1:3], hidden), jnp.float32)
    (_, last), delta = jax.lax.scan(step, (zero, zero), (drive, views.scanned()[0]))
    return jnp.transpose(delta, (2, 0, 1, 3)).astype(views.dtype), last


def network(x: Array, width: int, features: int, name: str) -> Array:
    """``W_2 relu(W_1 x + b_1) + b_2`` with ``width`` hidden units."""
    h = nn.relu(dense(width, x, f"{name}_hidden")(x))
    return dense(features, h, name)(h)


class GatedMemory(nn.Module):
    """The multi-view gated memory of MFN: ``u_t = k_t * u_(t-1) + w_t * tanh(D_u(x_t))``.

    ``[k; w]_t = sigmoid(D_k(x_t); D_w(x_t))`` keep and write; every D is a network with one hidden
    layer of ``width``. With ``recall`` those of the gates read ``[x_t; u_(t-1)]``.

    Attributes:
      width: of the memory, and of the hidden layers.
      recall: whether the gates see the memory.
    """

    width: int
    recall: bool

    @nn.compact
    def __call__(self, x: Array, mask: Array) -> Array:
        """``x [B, T, D], mask [T, B, 1]`` (as a scan needs it) -> the last u ``[B, width]``."""
        n, dtype = self.width, x.dtype
        x = jnp.swapaxes(x, 0, 1)
        content = jnp.tanh(network(x, n, n, "content"))
        hidden = dense(2 * n, x, "gates_hidden")(x)  # The two networks side by side.
        init = nn.initializers.lecun_normal(batch_axis=0)
        kernel = self.param("gates", init, (2, n, n)).astype(dtype)
        bias = self.param("gates_bias", nn.initializers.zeros, (2, n))
        if self.recall:
            init = nn.initializers.lecun_normal()
            recall = self.param("recall", init, (n, 2 * n)).astype(dtype)

        def gates(hidden: Array) -> Array:
            """``[.., 2 width] -> [.., 2, width]``."""
            h = nn.relu(hidden).reshape(*hidden.shape[:-1], 2, n)
            y = jnp.einsum("...gi,gij->...gj", h, kernel).astype(jnp.float32)
            return nn.sigmoid(y + jnp.expand_dims(bias, tuple(range(y.ndim - 2))))

        def step(u: Array, at: tuple[Array, Array, Array]):
            content_t, control, mask_t = at
            if self.recall:
                control = gates(control + u.astype(dtype) @ recall)
            new = control[:, 0] * u + control[:, 1] * content_t
            return jnp.where(mask_t, new, u), None

        control = hidden if self.recall else gates(hidden)
        zero = jnp.zeros((x.shape[1], n), jnp.float32)
        u, _ = jax.lax.scan(step, zero, (content.astype(jnp.float32), control, mask))
        return u


class MFN(nn.Module):
    """Memory fusion network (Zadeh et al. 2018, arXiv:1802.00927).

    ``f = W [h_1T; ..; h_MT; u_T] + b, u_t = k_t * u_(t-1) + w_t * tanh(D_u(x_t))``. A system of
    LSTMs, one a modality, runs over aligned steps; ``c_t = [c_1t; ..; c_Mt]`` are their cells. The
    delta-memory attention ``a_t = softmax(D_a([c_(t-1); c_t]))``, over all entries of both, makes
    ``x_t = a_t * [c_(t-1); c_t]``; the gates of the memory are ``k_t = sigmoid(D_k(x_t))`` and
    ``w_t = sigmoid(D_w(x_t))``. Every D has one hidden layer of ``width``, u has ``width`` numbers.

    Steps are aligned and counted as in ``EarlyLSTM``; an LSTM keeps its state where its modality
    has no step, and the memory where nothing has. Entries of an absent modality have attention 0.

    The gates read ``x_t`` as in the paper; with ``recall`` they read ``[x_t; u_(t-1)]``, as in the
    authors' code and MMSA's, which costs a product a step.

    Differs from the paper: LSTMs of one width; the layers after ``[h; u]`` are one affine map and
    the head; no dropout.

    Limits: sees time and products, so both; modalities meet only through the cells at steps t - 1
    and t, so what happens far apart in time must first be remembered by an LSTM.

    Cost: O(T (hidden (D + M hidden) + width (M hidden + width))) time,
    O(T (M hidden + width)) memory per example, ``T = max_m T_m``, ``D = sum_m D_m``.

    Shapes: ``{m: [B, T_m, S_m, D_m]} -> [B, 1, 1, features]``; weights ``{m: [B, T, 2 hidden]}``,
    the attention to ``[c_m,t-1; c_mt]``.
    """

    needs_time: ClassVar[bool] = True

    features: int
    hidden: int
    width: int
    recall: bool = False

    @nn.compact
    def __call__(self, tokens: Arrays, masks: Arrays, *, train: bool) -> Fused:
        """See the class."""
        del train
        views = Views(tokens, masks)
        delta, last = run_system(views, self.hidden)
        flat = delta.reshape(*delta.shape[:2], -1)
        scores = network(flat, self.width, flat.shape[-1], "attention").astype(jnp.float32)
        there = jnp.repeat(views.present, delta.shape[-1], axis=1)[:, None]
        a = jax.nn.softmax(scores, where=there, axis=-1).astype(flat.dtype)
        memory = GatedMemory(self.width, self.recall, name="memory")
        u = memory(a * flat, views.scanned()[1])
        shown = jnp.where(views.valid[..., None], a, 0).reshape(delta.shape)
        weights = {m: shown[:, :, i] for i, m in enumerate(views.order)}
        return views.finish(last, u, self.features, weights)


class MARN(nn.Module):
    """Multi-attention recurrent network (Zadeh et al. 2018, arXiv:1802.00923).

    ``f = W [h_1T; ..; h_MT; z_T] + b, z_t = tanh(G [s_1t; ..; s_Mt] + g)``. One hybrid LSTM a
    modality has z in its gates, ``[i f g o]_mt = W_m x_mt + U_m h_m,t-1 + V_m z_(t-1) + b_m``. The
    multi-attention block makes z: ``a_kt = softmax(A_k h_t + a_k)`` over all entries of
    ``h_t = [h_1t; ..; h_Mt]``, K = ``heads`` times, and
    ``s_mt = relu(C_m [a_1t * h_t; ..; a_Kt * h_t]_m + c_m)``, the part of modality m. ``s_m`` and z
    have ``width`` numbers.

    Steps are aligned and counted as in ``EarlyLSTM``; an LSTM keeps its state where its modality
    has no step, and z where nothing has. Entries of an absent modality have attention 0.

    Differs from the paper: LSTMs of one width; A, C_m and G have one layer each, where the paper
    searches for their depth. The authors' code has one softmax over all heads together; here each
    has its own, as in the paper.

    Limits: sees time and products, so both; what the modalities found together at one step enters
    every later step of each.

    Cost: O(T (hidden (D + M hidden + M width) + K (M hidden)^2 + K M hidden width + M width^2))
    time, O(T K M hidden) memory per example, ``T = max_m T_m``, ``D = sum_m D_m``. All of it but
    the product with the inputs is sequential, so this is the slowest of the recurrent methods.

    Shapes: ``{m: [B, T_m, S_m, D_m]} -> [B, 1, 1, features]``; weights ``{m: [B, T, K]}``, each
    head's attention to the modality.
    """

    needs_time: ClassVar[bool] = True
    HEADED: ClassVar[str] = ""  # each head is as wide as all of the state
    features: int
    hidden: int
    width: int
    heads: int = 4

    @nn.compact
    def __call__(self, tokens: Arrays, masks: Arrays, *, train: bool) -> Fused:
        """See the class."""
        del train
        views = Views(tokens, masks)
        drive, u = System(self.hidden, name="system")(views.steps)
        count, batch = drive.shape[1:3]
        init = nn.initializers.lecun_normal(batch_axis=0)
        shape = (count, self.width, 4 * self.hidden)
        v = self.param("hybrid", init, shape).astype(views.dtype)
        block = self._block(count, views)

        def step(state: tuple, at: tuple[Array, Array, Array]):
            (lstm, z), (drive_t, mask_t, valid_t) = state, at
            hybrid = jnp.einsum("bi,mio->mbo", z.astype(v.dtype), v).astype(jnp.float32)
            gates = drive_t + product(lstm[1], u) + hybrid
            lstm = kept(lstm_step(lstm, gates), lstm, mask_t)
            new, attention = block(lstm[1])
            return (lstm, jnp.where(valid_t, new, z)), jnp.where(valid_t[None], attention, 0)

        zero = jnp.zeros((count, batch, self.hidden), jnp.float32)
        z = jnp.zeros((batch, self.width), jnp.float32)
        state, shown = jax.lax.scan(step, ((zero, zero), z), (drive, *views.scanned()))
        shown = jnp.transpose(shown, (1, 2, 0, 3)).astype(views.dtype)
        weights = {m: shown[i] for i, m in enumerate(views.order)}
        return views.finish(state[0][1], state[1], self.features, weights)

    def _block(self, count: int, views: Views) -> Callable[[Array], tuple[Array, Array]]:
        """The multi-attention block: ``h [M, B, H] -> z [B, width]``, attention ``[M, B, K]``."""
        init, zeros = nn.initializers.lecun_normal(), nn.initializers.zeros
        rows, n, heads = count * self.hidden, self.width, self.heads
        attend = self.param("attention", init, (rows, heads * rows)).astype(views.dtype)
        attend_bias = self.param("attention_bias", zeros, (heads * rows,))
        init = nn.initializers.lecun_normal(batch_axis=0)
        reduce = self.param("reduce", init, (count, heads * self.hidden, n)).astype(views.dtype)
        reduce_bias = self.param("reduce_bias", zeros, (count, n))
        init = nn.initializers.lecun_normal()
        join = self.param("join", init, (count * n, n)).astype(views.dtype)
        join_bias = self.param("join_bias", zeros, (n,))
        there = jnp.repeat(views.present, self.hidden, axis=1)[:, None]

        def block(h: Array) -> tuple[Array, Array]:
            flat = jnp.moveaxis(h, 0, 1).reshape(h.shape[1], rows)
            scores = (flat.astype(attend.dtype) @ attend).astype(jnp.float32) + attend_bias[None]
            a = jax.nn.softmax(scores.reshape(-1, heads, rows), where=there, axis=-1)
            parts = (a * flat[:, None]).reshape(-1, heads, count, self.hidden)
            parts = jnp.transpose(parts, (2, 0, 1, 3)).reshape(count, h.shape[1], -1)
            s = nn.relu(product(parts, reduce) + reduce_bias[:, None])
            s = jnp.moveaxis(s, 0, 1).reshape(h.shape[1], -1)
            z = jnp.tanh((s.astype(join.dtype) @ join).astype(jnp.float32) + join_bias[None])
            shares = jnp.sum(a.reshape(-1, heads, count, self.hidden), axis=-1)
            return z, jnp.transpose(shares, (2, 0, 1))

        return block
