"""Late fusion: each modality is summed up, or decides, before anything meets."""

from mmfuse.fusion.late.controls import Identity, LateAverage, Unimodal, VectorMLP
from mmfuse.fusion.late.decisions import MajorityVote, ProbabilityProduct, Stacking
from mmfuse.fusion.late.evidential import TMC
from mmfuse.fusion.late.transformer import SimBaMM

__all__ = [
    "TMC",
    "Identity",
    "LateAverage",
    "MajorityVote",
    "ProbabilityProduct",
    "SimBaMM",
    "Stacking",
    "Unimodal",
    "VectorMLP",
]
