"""Encoders: each turns one modality into tokens [B, T, S, D] and a mask [B, T, S], nothing else.

``encoder(x, mask, train=...)``: the mask [B, T] is True where the input holds data. Masked
positions have exactly zero influence on tokens and gradients, and masked tokens are zeros.
None of these encoders draws random numbers, so ``train`` changes nothing here.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn

from mmfuse.encoders.frames import AudioLSTM, FrameMLP
from mmfuse.encoders.ids import Embedding, TextLocal, TextLSTM, Tied
from mmfuse.encoders.pictures import ImageCNN, SpectrogramCNN
from mmfuse.encoders.relations import RelationNetwork
from mmfuse.errors import InputError, nearest

ENCODERS: dict[str, type[nn.Module]] = {
    "image_cnn": ImageCNN,
    "spectrogram_cnn": SpectrogramCNN,
    "audio_lstm": AudioLSTM,
    "text_lstm": TextLSTM,
    "text_local": TextLocal,
    "embedding": Embedding,
    "tied": Tied,
    "mlp": FrameMLP,
    "relations": RelationNetwork,
}


def build_encoder(name: str, **fields: Any) -> nn.Module:
    """The encoder of this name in ``ENCODERS`` with these fields.

    Raises:
      InputError: unknown name, unknown field, or a required field that is missing.
    """
    if name not in ENCODERS:
        raise InputError(
            f"unknown encoder {name!r}; allowed: {', '.join(ENCODERS)}{nearest(name, ENCODERS)}"
        )
    declared = [f for f in dataclasses.fields(ENCODERS[name]) if f.name not in ("parent", "name")]
    allowed = [field.name for field in declared]
    for field in fields:
        if field not in allowed:
            raise InputError(
                f"encoder {name!r} has no field {field!r}; "
                f"allowed: {', '.join(allowed)}{nearest(field, allowed)}"
            )
    for field in declared:
        if field.default is dataclasses.MISSING and field.name not in fields:
            raise InputError(f"encoder {name!r} needs the field {field.name!r}")
    return ENCODERS[name](**fields)
