"""Heads that choose among candidates that are in the example."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmfuse.data.text import PADDING
from mmfuse.errors import InputError
from mmfuse.fusion.base import Array, Fused, flatten, masked_mean
from mmfuse.recurrent import LSTM

ABSENT = -1e9  # The score of a candidate that is not there.


class PointerHead(nn.Module):
    """Points at a token of one modality: ``s_k = v . tanh(W_f f + (1 + W_g f + c) W_e e_k + b)``.

    (Vinyals et al. 2015, arXiv:1506.03134, equation 3, where there is no ``W_g``.) ``f`` is the
    masked mean of the fused tokens, ``e_k`` the encoded tokens of ``modality``, in the order of
    time and space. The product is for what is said of a candidate, "the dark one", which sums
    under a tanh hardly tell. To a fusion that does not read this modality all candidates of all
    examples look the same: ``W_e e_k`` is then one learned vector for each position. A candidate
    that is masked is never chosen.

    Raises:
      InputError: the modality has another number of tokens than there are choices.
    """

    choices: int
    modality: str
    hidden: int = 64

    @nn.compact
    def __call__(
        self,
        fused: Fused,
        encoded: dict[str, tuple[Array, Array]],
        given: None = None,
        *,
        train: bool = False,
    ) -> jax.Array:
        """Scores [B, choices]."""
        f = masked_mean(fused.tokens, fused.mask, axis=(1, 2))
        gate = 1 + nn.Dense(self.hidden, name="gate")(f)
        f = nn.Dense(self.hidden, name="fused")(f)
        if self.modality in encoded:
            tokens, mask = map(flatten, encoded[self.modality])
            if tokens.shape[1] != self.choices:
                raise InputError(
                    f"'{self.modality}' has {tokens.shape[1]} tokens, but the task has "
                    f"{self.choices} choices"
                )
            e = nn.Dense(self.hidden, use_bias=False, name="candidates")(tokens)
        else:
            place = nn.initializers.normal(0.02)
            e = self.param("places", place, (self.choices, self.hidden))[None]
            mask = jnp.ones((len(f), self.choices), bool)
        together = jnp.tanh(f[:, None] + gate[:, None] * e)
        scores = nn.Dense(1, use_bias=False, name="score")(together)[..., 0]
        return jnp.where(mask, scores, ABSENT)


class MatchingHead(nn.Module):
    """Matches texts: ``s_k = (W f) . g(x_k) / sqrt(features)``, a dual encoder (Lowe et al. 2015).

    ``f`` is the masked mean of the fused tokens, ``g`` an embedding and an LSTM over the ids
    ``given["candidates"]`` [B, K, L] of a candidate, of which it takes the last state. The id 0 is
    padding, and a candidate without a word is never chosen.
    """

    words: int
    features: int = 64
    embed: int = 64

    @nn.compact
    def __call__(
        self, fused: Fused, encoded: object, given: dict[str, Array], *, train: bool = False
    ) -> jax.Array:
        """Scores [B, K]."""
        ids = given["candidates"]
        f = masked_mean(fused.tokens, fused.mask, axis=(1, 2))
        f = nn.Dense(self.features, name="fused")(f)
        flat = ids.reshape(-1, ids.shape[-1])
        embedded = nn.Embed(self.words, self.embed, name="embed")(flat)
        _, last = LSTM(self.features, name="lstm")(embedded, flat != PADDING)
        e = last.reshape(*ids.shape[:2], self.features)
        scores = jnp.einsum("bf,bkf->bk", f, e) * self.features**-0.5
        return jnp.where(jnp.any(ids != PADDING, axis=-1), scores, ABSENT)
