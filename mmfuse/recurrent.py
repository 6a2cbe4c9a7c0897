"""A masked LSTM: one matrix product for the whole input, then a scan over time."""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

Array = jax.Array
State = tuple[Array, Array]


def lstm_step(state: State, gates: Array) -> State:
    """``(c, h), [B, 4F] pre-activations in the order i, f, g, o -> the next (c, h)``, ``[B, F]``.

    ``c' = sigmoid(f) c + sigmoid(i) tanh(g)``, ``h' = sigmoid(o) tanh(c')``.
    """
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    c = nn.sigmoid(f) * state[0] + nn.sigmoid(i) * jnp.tanh(g)
    return c, nn.sigmoid(o) * jnp.tanh(c)


def _masked_step(state: State, gates: Array, mask: Array) -> State:
    """``lstm_step`` where ``mask [B, 1]`` is True; elsewhere the state stays."""
    return jax.tree.map(lambda a, b: jnp.where(mask, a, b), lstm_step(state, gates), state)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def lstm_scan(drive: Array, w: Array, mask: Array, reverse: bool) -> State:
    """Runs ``lstm_step`` over time from a zero state, with gates ``drive_t + h_(t-1) w``.

    The gradient is written out, because the one JAX derives adds up that of ``w`` step by step:
    here it is one product over all steps, which takes a fifth off the time on a CPU.

    Args:
      drive: float32 ``[T, B, 4F]``, what the input contributes to the gates.
      w: ``[F, 4F]``; the product with it is computed in its dtype.
      mask: bool ``[T, B, 1]``.
      reverse: from the last step to the first.

    Returns:
      ``h [T, B, F]`` after each step, and the last one ``[B, F]``.
    """
    return _scan_forward(drive, w, mask, reverse)[0]


def _scan_forward(drive: Array, w: Array, mask: Array, reverse: bool):
    def step(state: State, at: tuple[Array, Array]):
        drive_t, mask_t = at
        gates = drive_t + (state[1].astype(w.dtype) @ w).astype(jnp.float32)
        new = _masked_step(state, gates, mask_t)
        return new, (new[1], state, gates)

    zero = jnp.zeros((drive.shape[1], w.shape[0]), jnp.float32)
    # Unrolling makes this slower on a CPU, and far slower to compile.
    (_, last), (h, before, gates) = jax.lax.scan(step, (zero, zero), (drive, mask), reverse=reverse)
    return (h, last), (before, gates, w, mask)


def _scan_backward(reverse: bool, saved: tuple, cotangent: State):
    before, gates, w, mask = saved
    dh, dlast = cotangent

    def step(state: State, at: tuple):
        dh_t, before_t, gates_t, mask_t = at
        _, pull = jax.vjp(partial(_masked_step, mask=mask_t), before_t, gates_t)
        (dc, dh_before), dgates = pull((state[0], state[1] + dh_t))
        through = (dgates.astype(w.dtype) @ w.T).astype(jnp.float32)
        return (dc, dh_before + through), dgates

    start = (jnp.zeros_like(dlast), dlast)
    _, dgates = jax.lax.scan(step, start, (dh, before, gates, mask), reverse=not reverse)
    dw = jnp.einsum("tbf,tbg->fg", before[1].astype(w.dtype), dgates.astype(w.dtype))
    return dgates, dw, None


lstm_scan.defvjp(_scan_forward, _scan_backward)


def _recurrent_init(key: Array, shape: tuple[int, int], dtype=jnp.float32) -> Array:
    """One orthogonal matrix a gate."""
    make = nn.initializers.orthogonal()
    parts = [make(k, (shape[0], shape[1] // 4), dtype) for k in jax.random.split(key, 4)]
    return jnp.concatenate(parts, axis=1)


def _bias_init(key: Array, shape: tuple[int], dtype=jnp.float32) -> Array:
    """Zero, but one for the forget gate, so that it starts open."""
    del key
    return jnp.zeros(shape, dtype).at[shape[0] // 4 : shape[0] // 2].set(1)


class LSTM(nn.Module):
    """Long short-term memory over masked steps (Hochreiter & Schmidhuber 1997; forget gate of Gers
    et al. 2000, its bias starting at one after Jozefowicz et al. 2015).

    ``[i f g o]_t = W_x x_t + W_h h_(t-1) + b``, then ``lstm_step``. A masked step leaves the state
    as it was, so that padding, in front, behind or as a hole, changes nothing. The product with
    ``W_x`` needs no state and is done once for all steps. The state is kept in float32.

    Attributes:
      features: F, the width of the state.
      reverse: run from the last step to the first; outputs stay at their own steps.
    """

    features: int
    reverse: bool = False

    @nn.compact
    def __call__(self, x: Array, mask: Array) -> tuple[Array, Array]:
        """``x [B, T, D], mask bool [B, T] -> outputs [B, T, F] (zero where masked), last [B, F]``.

        ``last`` is the hidden state after the last step that is not masked (zero if there is none).
        """
        width, dtype = 4 * self.features, x.dtype
        w_x = self.param("input", nn.initializers.lecun_normal(), (x.shape[-1], width))
        w_h = self.param("recurrent", _recurrent_init, (self.features, width)).astype(dtype)
        b = self.param("bias", _bias_init, (width,))
        # The where keeps a NaN at a masked step out of the gradient of W_x.
        x = jnp.where(mask[..., None], x, 0)
        drive = (jnp.swapaxes(x, 0, 1) @ w_x.astype(dtype)).astype(jnp.float32) + b[None, None]
        h, last = lstm_scan(drive, w_h, jnp.swapaxes(mask, 0, 1)[..., None], self.reverse)
        outputs = jnp.where(mask[..., None], jnp.swapaxes(h, 0, 1), 0)
        return outputs.astype(dtype), last.astype(dtype)
