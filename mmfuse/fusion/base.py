"""What every fusion returns, and the masked pooling that all of them share."""

from __future__ import annotations

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

Array = jax.Array


@flax.struct.dataclass
class Fused:
    """The output of a fusion.

    Attributes:
      tokens: ``[B, T', S', D]``; a pooled method returns one token, ``[B, 1, 1, D]``.
      mask: bool ``[B, T', S']``; False tokens are ignored by the head.
      weights: attention maps or gates by name; may be empty. A map from queries of one modality to
        keys of another is named ``"query<-key"`` and its last axis runs over the key's T*S tokens
        (time-major); a gate has its modality's name. What is masked or absent weighs exactly zero.
      losses: auxiliary losses by name, already scaled, only with ``train=True``: ``[B]``, or
        ``[B, C]`` for one that depends on the label (entry c is the loss if the label is c). The
        trainer adds their mean over the examples to the task's loss.
      decided: True if the method decides by itself (late fusion): its one token ``[B, 1, 1, C]``
        holds the scores of the classes, and the head passes them on.
    """

    tokens: Array
    mask: Array
    weights: dict[str, Array] = flax.struct.field(default_factory=dict)
    losses: dict[str, Array] = flax.struct.field(default_factory=dict)
    decided: bool = flax.struct.field(pytree_node=False, default=False)


def names(tokens: dict[str, Array]) -> tuple[str, ...]:
    """The modalities in the one order that every fusion uses, whatever the order of the dict."""
    return tuple(sorted(tokens))


def masked_mean(x: Array, mask: Array, axis: int | tuple[int, ...] = 1) -> Array:
    """Mean of ``x [..., D]`` over ``axis`` of ``mask [...]``; over nothing it is exactly zero.

    ``sum_i m_i x_i / max(1, sum_i m_i)``. Masked entries may hold anything, NaN too: they are
    replaced before the sum, so neither they nor their gradients leak. Summed in float32, returned
    in the dtype of ``x``.
    """
    kept = jnp.where(mask[..., None], x, 0).astype(jnp.promote_types(x.dtype, jnp.float32))
    count = jnp.sum(mask, axis=axis, dtype=kept.dtype)
    return (jnp.sum(kept, axis=axis) / jnp.maximum(count, 1)[..., None]).astype(x.dtype)


def pooled(
    tokens: dict[str, Array], masks: dict[str, Array]
) -> tuple[dict[str, Array], dict[str, Array]]:
    """One vector ``[B, D_m]`` a modality (masked mean over T and S), and its presence ``[B]``."""
    means = {m: masked_mean(tokens[m], masks[m], axis=(1, 2)) for m in names(tokens)}
    return means, {m: jnp.any(masks[m], axis=(1, 2)) for m in names(tokens)}


def flatten(x: Array) -> Array:
    """``[B, T, S, ...] -> [B, T * S, ...]``, time-major."""
    return x.reshape(x.shape[0], x.shape[1] * x.shape[2], *x.shape[3:])


def one_token(vector: Array, present: Array, weights: dict[str, Array] | None = None) -> Fused:
    """Wraps a pooled vector ``[B, D]`` with its presence ``[B]`` as a single fused token."""
    return Fused(vector[:, None, None, :], present[:, None, None], weights or {})


def any_present(present: dict[str, Array]) -> Array:
    """``[B]`` bool: whether at least one modality is there."""
    return jnp.any(jnp.stack([present[m] for m in names(present)]), axis=0)


def dense(features: int, like: Array, name: str) -> nn.Dense:
    """A Dense layer that computes in the dtype of ``like``, so that dtype in = dtype out."""
    return nn.Dense(features, dtype=like.dtype, name=name)


def mean_over_present(vectors: dict[str, Array], present: dict[str, Array]) -> Array:
    """``{m: [B, D]}, {m: [B]} -> [B, D]``: the mean over the modalities that are there."""
    stacked = jnp.stack([vectors[m] for m in names(vectors)], axis=1)
    return masked_mean(stacked, jnp.stack([present[m] for m in names(vectors)], axis=1))
