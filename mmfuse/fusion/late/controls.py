"""The controls of every table: one modality alone, and the average of such results."""

from __future__ import annotations

import flax.linen as nn
import jax

from mmfuse.errors import InputError, nearest
from mmfuse.fusion.base import (
    Fused,
    any_present,
    dense,
    masked_mean,
    mean_over_present,
    names,
    one_token,
    pooled,
)

Array = jax.Array


class VectorMLP(nn.Module):
    """``W_2 relu(W_1 x + b_1) + b_2``: the one map from a modality's vector to ``features``."""

    features: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """``[B, D] -> [B, features]``."""
        h = nn.relu(dense(self.features, x, "hidden")(x))
        return dense(self.features, h, "out")(h)


class _OfOne(nn.Module):
    """The base of the controls of one modality: which it is."""

    modality: str

    def reads(self, modalities: tuple[str, ...]) -> tuple[str, ...]:
        """The one modality that is read.

        Raises:
          InputError: it is not among ``modalities``.
        """
        if self.modality not in modalities:
            raise InputError(
                f"fusion.modality='{self.modality}' is not a modality of this data; allowed: "
                f"{', '.join(sorted(modalities))}{nearest(self.modality, modalities)}"
            )
        return (self.modality,)


class Unimodal(_OfOne):
    """One modality alone (the control of every table).

    ``f = MLP_m(mean over the tokens of m)``. The same map, under the same parameter name, that
    ``LateAverage`` gives this modality. The other modalities are not read. An absent modality gives
    a zero token that is masked.

    Limits: what one modality holds, and of that no timing, as it reads a masked mean.

    Cost: O(features (D + features)) time, O(features) memory per example.

    Shapes: ``{m: [B, T, S, D_m]} -> [B, 1, 1, features]``.

    Raises:
      InputError: the batch has no modality of this name.
    """

    features: int

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        del train
        (m,) = self.reads(names(tokens))
        present = masks[m].any(axis=(1, 2))
        vector = VectorMLP(self.features, name=m)(masked_mean(tokens[m], masks[m], axis=(1, 2)))
        return one_token(vector * present[:, None].astype(vector.dtype), present)


class Identity(_OfOne):
    """One modality as it is (the control where a head has a model of that modality itself).

    ``f = mean over the tokens of m``, without a parameter, as wide as the tokens of ``modality``.
    The other modalities are not read. An absent modality gives a zero token that is masked.

    Limits: what one modality holds, and of that no timing, as it reads a masked mean.

    Cost: O(D) time and memory per example.

    Shapes: ``{m: [B, T, S, D_m]} -> [B, 1, 1, D_m]``.

    Raises:
      InputError: the batch has no modality of this name.
    """

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        del train
        (m,) = self.reads(names(tokens))
        mean = masked_mean(tokens[m], masks[m], axis=(1, 2))
        return one_token(mean, masks[m].any(axis=(1, 2)))


class LateAverage(nn.Module):
    """Late average, decision fusion by the sum rule (Kittler et al. 1998, doi:10.1109/34.667881).

    ``f = sum_m p_m MLP_m(mean_m) / sum_m p_m`` with ``p_m`` 1 where modality m is there, else 0.
    The head after it is affine, ``y = W f + b``, and the weights of a mean add up to one, so
    ``W f + b = mean_m (W f_m + b)``: averaging these vectors is averaging the logits of
    one-modality classifiers that share their last layer.

    Differs from the paper: it averages probabilities, here it is logits, and the classifiers are
    trained together.

    Limits: nothing meets before the decision, so no combination of modalities (a parity, say) can
    be learnt beyond a sum; reads masked means: counts but no timing.

    Cost: O(M features (D + features)) time, O(M features) memory per example.

    Shapes: ``{m: [B, T, S, D_m]} -> [B, 1, 1, features]``.
    """

    features: int

    @nn.compact
    def __call__(self, tokens: dict[str, Array], masks: dict[str, Array], *, train: bool) -> Fused:
        """See the class."""
        del train
        vectors, present = pooled(tokens, masks)
        decisions = {m: VectorMLP(self.features, name=m)(x) for m, x in vectors.items()}
        return one_token(mean_over_present(decisions, present), any_present(present))
