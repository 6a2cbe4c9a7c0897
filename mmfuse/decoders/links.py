"""Heads that score all entities as the other end of a link: of a knowledge graph's triple.

``s`` is the vector of the given end: the masked mean of the fused tokens, and beside it, as in a
residual connection, the encoded vector of the modality ``skip``, where the fusion reads it. ``r``
is the vector of ``given["relation"]`` int [B], ``o_e`` that of entity e in the head's own table.
The encoder "tied" looks its ids up in that same table: then the given end and the other one share
their vectors, as in the papers.
"""

from __future__ import annotations

import abc

import flax.linen as nn
import flax.struct
import jax.numpy as jnp

from mmfuse.errors import InputError
from mmfuse.fusion.base import Array, Fused, masked_mean

Encoded = dict[str, tuple[Array, Array]]
SPREAD = 0.1  # of all vectors at the start
CLOSE = 1e-12  # a squared distance or size below it is this: a root at zero has no gradient


@flax.struct.dataclass
class Regularised:
    """An output [B, ...] with auxiliary losses {name: [B]} that the head adds to the fusion's."""

    output: Array
    losses: dict[str, Array]


def complex_product(s: Array, r: Array) -> Array:
    """``s r`` of complex vectors, whose first half is real and whose second half is imaginary."""
    (a, b), (c, d) = jnp.split(s, 2, axis=-1), jnp.split(r, 2, axis=-1)
    return jnp.concatenate([a * c - b * d, a * d + b * c], axis=-1)


def distances(q: Array, table: Array) -> Array:
    """``|q_b - o_e|_2`` [B, E] of q [B, D] and the table [E, D]; its gradient at zero is zero."""
    square = (
        jnp.sum(q * q, axis=1)[:, None] - 2 * q @ table.T + jnp.sum(table * table, axis=1)[None]
    )
    return jnp.sqrt(jnp.maximum(square, CLOSE))


class Link(nn.Module, abc.ABC):
    """What all link heads share: the two tables and the vector of the given end.

    ``dropout`` acts on ``s``. Where ``n3`` is not 0, the loss gets the nuclear 3-norm
    ``n3 (|s|_3^3 + |r|_3^3 + |o|_3^3) / 3`` of each triple in training (Lacroix et al. 2018,
    arXiv:1806.07297); ``given["answers"]`` uint8 [B, ceil(E / 8)] names the known ``o`` of a
    question, one bit each.

    Raises:
      InputError: the fused tokens have another width than the tables.
    """

    entities: int
    relations: int
    features: int
    skip: str = ""
    dropout: float = 0.0
    n3: float = 0.0

    def setup(self):
        """Both tables start normal with standard deviation ``SPREAD``."""
        spread = nn.initializers.normal(SPREAD)
        self.entity = nn.Embed(self.entities, self.features, embedding_init=spread)
        self.relation = nn.Embed(self.relations, self.features, embedding_init=spread)
        self.drop = nn.Dropout(self.dropout)

    def lookup(self, ids: Array) -> Array:
        """Rows of the table of entities, ``[...] -> [..., features]``."""
        return self.entity(ids)

    def __call__(
        self, fused: Fused, encoded: Encoded, given: dict[str, Array], *, train: bool = False
    ) -> Array | Regularised:
        """Scores [B, entities]."""
        s = masked_mean(fused.tokens, fused.mask, axis=(1, 2))
        if s.shape[-1] != self.features:
            raise InputError(
                f"the fused tokens are {s.shape[-1]} wide, but config.head.features is "
                f"{self.features}"
            )
        if self.skip in encoded:
            s = s + masked_mean(*encoded[self.skip], axis=(1, 2))
        r = self.relation(given["relation"])
        scores = self.scored(self.drop(s, deterministic=not train), r)
        if not train or not self.n3:
            return scores
        known = jnp.unpackbits(given["answers"], axis=1)[:, : self.entities].astype(scores.dtype)
        ends = jnp.sum(known, axis=1) * (self.cubed(s) + self.cubed(r))
        cubes = ends + known @ self.cubed(self.entity.embedding)
        return Regularised(scores, {"n3": self.n3 * cubes / 3})

    @abc.abstractmethod
    def scored(self, s: Array, r: Array) -> Array:
        """``[B, D], [B, D] -> [B, entities]``."""

    def cubed(self, x: Array) -> Array:
        """``|x|_3^3``, ``[..., D] -> [...]``."""
        return jnp.sum(jnp.abs(x) ** 3, axis=-1)


class DistMult(Link):
    """``score_e = sum_i s_i r_i o_ei`` (Yang et al. 2015, arXiv:1412.6575).

    A relation and its reciprocal have vectors of their own, so it need not be symmetric.
    """

    def scored(self, s: Array, r: Array) -> Array:
        """See the class."""
        return (s * r) @ self.entity.embedding.T


class ComplEx(Link):
    """``score_e = Re sum_i s_i r_i conj(o_ei)`` (Trouillon et al. 2016, arXiv:1606.06357).

    Vectors are complex with ``features / 2`` entries: first the real parts, then the imaginary.

    Raises:
      InputError: ``features`` is odd.
    """

    def scored(self, s: Array, r: Array) -> Array:
        """See the class."""
        if self.features % 2:
            raise InputError(f"config.head.features {self.features} is odd; it holds two parts")
        return complex_product(s, r) @ self.entity.embedding.T

    def cubed(self, x: Array) -> Array:
        """Of complex entries, by their absolute values."""
        real, imaginary = jnp.split(x, 2, axis=-1)
        square = real**2 + imaginary**2
        return jnp.sum(jnp.maximum(square, CLOSE) ** 1.5, axis=-1)


class TransE(Link):
    """``score_e = -g |s + r - o_e|_2`` (Bordes et al. 2013).

    Differs from the paper: scores of all entities meet in one softmax, so the margin between a few
    is replaced by a learned scale ``g > 0``, e at the start; no vector is normalised.
    """

    def setup(self):
        """Also the scale ``g = exp(log_scale)``; ``log_scale`` is 1 at the start, so g is e."""
        super().setup()
        self.scale = self.param("log_scale", nn.initializers.ones, ())

    def scored(self, s: Array, r: Array) -> Array:
        """See the class."""
        return -jnp.exp(self.scale) * distances(s + r, self.entity.embedding)


def tie(head: nn.Module, rows: int) -> nn.Module:
    """The head itself, to be looked up by the encoder "tied" with ids below ``rows``.

    Raises:
      InputError: it has no table, or one with fewer rows.
    """
    if not isinstance(head, Link):
        raise InputError(
            f"encoder 'tied' looks up the entities of the head, but {type(head).__name__} has none"
        )
    if head.entities < rows:
        raise InputError(f"encoder 'tied': {rows} ids, but the head has {head.entities} entities")
    return head
