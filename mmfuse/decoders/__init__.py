"""Heads and decoders: from fused tokens to the output of a task.

``head(fused, encoded, given, train=...)``: ``fused`` is what the fusion returned; ``encoded``
``{modality: (tokens [B, T, S, D], mask [B, T, S])}`` is what the encoders made of the modalities
that the fusion reads; ``given`` is the tree that the task adds, or None. A head never reads more of
the input than the fusion does. It returns its output, or a ``Regularised`` one.
"""

from mmfuse.decoders.links import ComplEx, DistMult, Regularised, TransE, tie
from mmfuse.decoders.picture import PictureCNN
from mmfuse.decoders.pointer import MatchingHead, PointerHead
from mmfuse.decoders.pooled import PooledHead
from mmfuse.decoders.sequence import (
    LSTMSound,
    LSTMWords,
    RecurrentSound,
    TransformerSound,
    TransformerWords,
)

__all__ = [
    "ComplEx", "DistMult", "LSTMSound", "LSTMWords", "MatchingHead", "PictureCNN", "PointerHead",
    "PooledHead", "RecurrentSound", "Regularised", "TransE", "TransformerSound",
    "TransformerWords", "tie",
]  # fmt: skip
