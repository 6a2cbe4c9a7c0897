"""The fusion methods by name: ``FUSIONS`` is the only list of those that are shipped."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import flax.linen as nn

from mmfuse.errors import InputError, nearest
from mmfuse.fusion import late, plugins
from mmfuse.fusion.base import Fused
from mmfuse.fusion.deep import (
    aligned,
    article,
    bottleneck,
    coattention,
    conditional,
    hierarchical,
    highmodality,
    latent,
    streams,
    subspaces,
)
from mmfuse.fusion.spatial import (
    bilinear_attention,
    blocks,
    experts,
    factorised,
    gated,
    interactions,
    multilinear,
    simple,
    tokenwise,
)
from mmfuse.fusion.temporal import (
    attention,
    complement,
    cross,
    graph,
    guided,
    memory,
    recurrent,
    resampling,
    transformers,
)

__all__ = ["FUSIONS", "Fused", "build_fusion", "find_fusion", "headed"]

FUSIONS: dict[str, type[nn.Module]] = {
    # late: decisions, and the controls
    "unimodal": late.Unimodal,
    "identity": late.Identity,
    "late_average": late.LateAverage,
    "probability_product": late.ProbabilityProduct,
    "stacking": late.Stacking,
    "majority_vote": late.MajorityVote,
    "tmc": late.TMC,
    "late_transformer_tuned": late.SimBaMM,
    # spatial: one common space
    "sum": simple.Sum,
    "product": simple.Product,
    "concat": simple.Concat,
    "deepset": simple.DeepSet,
    "modality_attention": simple.ModalityAttention,
    "gmu": gated.GMU,
    "film": gated.FiLM,
    "channel_attention": gated.ChannelAttention,
    "nl_gate": tokenwise.NLGate,
    "mag": tokenwise.MAG,
    "tfn": multilinear.TFN,
    "lmf": multilinear.LMF,
    "bilinear": interactions.Bilinear,
    "mi_matrix": interactions.MIMatrix,
    "mi_vector": interactions.MIVector,
    "mi_scalar": interactions.MIScalar,
    "mi_three_way": interactions.MIThreeWay,
    "tucker": blocks.Tucker,
    "mutan": blocks.Mutan,
    "block": blocks.Block,
    "mcb": factorised.MCB,
    "mlb": factorised.MLB,
    "mfb": factorised.MFB,
    "mfh": factorised.MFH,
    "ban": bilinear_attention.BAN,
    "poe": experts.ProductOfExperts,
    # temporal: along time
    "early_lstm": recurrent.EarlyLSTM,
    "late_lstm": recurrent.LateLSTM,
    "bc_lstm": recurrent.BCLSTM,
    "contextual_attention": recurrent.ContextualAttention,
    "mfn": memory.MFN,
    "graph_mfn": graph.GraphMFN,
    "marn": memory.MARN,
    "align_pool": resampling.AlignPool,
    "align_conv": resampling.AlignConv,
    "align_ctc": resampling.AlignCTC,
    "crossmodal": attention.CrossModal,
    "mult": cross.MulT,
    "cross_pairwise": cross.CrossPairwise,
    "cross_concat": cross.CrossConcat,
    "cross_hierarchical": cross.CrossHierarchical,
    "early_transformer": transformers.EarlyTransformer,
    "late_transformer": transformers.LateTransformer,
    "merged_transformer": transformers.MergedTransformer,
    "hierarchical_one_to_multi": transformers.HierarchicalOneToMulti,
    "bbfn": complement.BBFN,
    "almt": guided.ALMT,
    # deep: at several layers
    "self_cross": article.SelfCross,
    "mbt": bottleneck.MBT,
    "vilbert": coattention.ViLBERT,
    "lxmert": coattention.LXMERT,
    "albef": aligned.ALBEF,
    "perceiver": latent.Perceiver,
    "perceiver_io": latent.PerceiverIO,
    "highmmt": highmodality.HighMMT,
    "dynmm": conditional.DynMM,
    "chfusion": hierarchical.CHFusion,
    "centralnet": streams.CentralNet,
    "mmtm": streams.MMTM,
    "progressive": streams.Progressive,
    "misa": subspaces.MISA,
}
AT_LEAST = {
    "features": 1,
    "outputs": 1,
    "hidden": 1,
    "width": 1,
    "rank": 1,
    "heads": 1,
    "layers": 1,
    "blocks": 1,
    "glimpses": 1,
    "order": 1,
}


def find_fusion(name: str) -> type[nn.Module]:
    """The class of a fusion: a name in ``FUSIONS``, ``"pkg.mod:Class"``, or an entry point.

    Entry points are those in the group ``mmfuse.fusions``.

    Raises:
      InputError: nothing has this name (with the list and the nearest match), more than one thing
        has it, it cannot be imported, or it is not a fusion.
    """
    if ":" in name:
        return plugins.load(name)
    found = {f"{FUSIONS[name].__module__}:{FUSIONS[name].__name__}"} if name in FUSIONS else set()
    found.update(plugins.registered().get(name, ()))
    if len(found) > 1:
        raise InputError(
            f"fusion '{name}' is the name of {' and of '.join(sorted(found))} (installed packages"
            f" register names as entry points in '{plugins.GROUP}'); name the one by its path"
        )
    if name in FUSIONS:
        return FUSIONS[name]
    if found:
        return plugins.load(found.pop(), name)
    allowed = [*FUSIONS, *plugins.registered()]
    raise InputError(
        f"unknown fusion '{name}'; allowed: {', '.join(allowed)} or 'pkg.mod:Class'"
        f"{nearest(name, allowed)}"
    )


def build_fusion(name: str, **fields: Any) -> nn.Module:
    """The fusion ``name`` with these fields.

    Raises:
      InputError: an unknown field (with the allowed ones), a missing one, or a value of a wrong
        type or outside its range.
    """
    found = find_fusion(name)
    known = {f.name: f for f in dataclasses.fields(found) if f.name not in ("parent", "name")}
    for field, value in fields.items():
        if field not in known:
            raise InputError(
                f"fusion '{name}' has no field '{field}'; allowed: {', '.join(known)}"
                f"{nearest(field, known)}"
            )
        if value is not known[field].default:  # What the class itself would choose passes.
            _check_value(name, field, str(known[field].type), value)
    missing = [f for f in known if f not in fields and _required(known[f])]
    if missing:
        raise InputError(f"fusion '{name}' needs a value for: {', '.join(missing)}")
    return found(**fields)


def headed(fusion: type[nn.Module]) -> str:
    """The field that must be a multiple of ``heads``: ``features``, unless ``HEADED`` says other.

    It is ``""`` where the heads divide nothing.
    """
    return getattr(fusion, "HEADED", "features")


def _required(field: dataclasses.Field) -> bool:
    nothing = dataclasses.MISSING
    return field.init and field.default is nothing and field.default_factory is nothing


def _check_value(name: str, field: str, kind: str, value: Any) -> None:
    """Raises InputError for a number of the wrong kind or out of range; other kinds pass."""
    where = f"fusion '{name}': {field}={value!r}"
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind in ("int", "<class 'int'>") and not (number and isinstance(value, int)):
        raise InputError(f"{where} must be a whole number")
    if kind in ("float", "<class 'float'>") and not (number and math.isfinite(value)):
        raise InputError(f"{where} must be a finite number")
    if field in AT_LEAST and number and value < AT_LEAST[field]:
        raise InputError(f"{where} must be at least {AT_LEAST[field]}")
    if field in ("bottlenecks", "fusion_layer") and number and value < 0:
        raise InputError(f"{where} must not be negative")
    if field == "dropout" and number and not 0 <= value < 1:
        raise InputError(f"{where} must be in [0, 1)")
