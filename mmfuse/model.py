"""The only architecture: encoders -> fusion -> head."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax

from mmfuse.decoders import Regularised
from mmfuse.fusion.base import Fused


def modalities_read(fusion: nn.Module, modalities: tuple[str, ...]) -> tuple[str, ...]:
    """The modalities a fusion reads, sorted: all, or what its method ``reads`` says."""
    reads = getattr(fusion, "reads", None)
    return tuple(sorted(reads(tuple(modalities)) if callable(reads) else modalities))


def model_inputs(batch: dict[str, Any]) -> tuple:
    """What a model is applied to: inputs, masks, and what the task gives the head, if anything."""
    return tuple(batch[key] for key in ("inputs", "masks", "given") if key in batch)


def shipped(model: FusionModel) -> bool:
    """Whether all the code of the model is in this package; what is plugged in may do anything."""
    modules = [*model.encoders.values(), model.fusion, model.head]
    return all(type(module).__module__.startswith("mmfuse.") for module in modules)


class FusionModel(nn.Module):
    """Encodes the modalities the fusion reads, fuses their tokens, and applies the head.

    ``inputs`` {modality: array}, ``masks`` {modality: bool [B, T]}, and what the task gives the
    head -> (output [B, ...], Fused).
    A modality without an encoder is not read. Encoders of modalities that the fusion does not read
    are not built: they would count as parameters and take part in weight decay without being used.
    """

    encoders: dict[str, nn.Module]
    fusion: nn.Module
    head: nn.Module

    @nn.compact
    def __call__(
        self,
        inputs: dict[str, jax.Array],
        masks: dict[str, jax.Array],
        given: Any = None,
        *,
        train: bool,
    ) -> tuple[jax.Array, Fused]:
        return self.fuse(*self.encode(inputs, masks, train=train), given, train=train)

    def encode(
        self, inputs: dict[str, jax.Array], masks: dict[str, jax.Array], *, train: bool
    ) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        """The first half: tokens ``{modality: [B, T, S, D_m]}`` and their masks ``[B, T, S]``."""
        tokens, token_masks = {}, {}
        for name in modalities_read(self.fusion, tuple(self.encoders)):
            tokens[name], token_masks[name] = self.encoders[name](
                inputs[name], masks[name], train=train
            )
        return tokens, token_masks

    def fuse(
        self,
        tokens: dict[str, jax.Array],
        masks: dict[str, jax.Array],
        given: Any = None,
        *,
        train: bool,
    ) -> tuple[jax.Array, Fused]:
        """The second half: what the fusion and the head make of tokens."""
        fused = self.fusion(tokens, masks, train=train)
        encoded = {name: (tokens[name], masks[name]) for name in tokens}
        output = self.head(fused, encoded, given, train=train)
        if isinstance(output, Regularised):
            return output.output, fused.replace(losses=fused.losses | output.losses)
        return output, fused
