"""The small fields with which every method is tried: a new method needs no line of its own."""

import dataclasses

from mmfuse.fusion import FUSIONS

SMALL = {
    "features": 4, "hidden": 4, "width": 3, "rank": 2, "heads": 2, "outputs": 3, "modality": "text",
}  # fmt: skip
OTHER = {  # where a default would be slow, or a size of its own tells shapes apart
    "concat": {"hidden": 8},
    "deepset": {"width": 6},
    "channel_attention": {"width": 6},
    "lmf": {"rank": 2},
    "mi_matrix": {"width": 3},
    "mi_three_way": {"width": 3},
    "mutan": {"rank": 2},
    "block": {"blocks": 2, "rank": 2},
    "mcb": {"width": 8},
    "mfb": {"rank": 2},
    "mfh": {"rank": 2},
    "ban": {"glimpses": 1},
    "late_lstm": {"hidden": 3},
    "bc_lstm": {"hidden": 3},
    "contextual_attention": {"hidden": 3, "width": 4},
    "mfn": {"hidden": 3, "width": 4},
    "graph_mfn": {"hidden": 3, "width": 4},
    "marn": {"hidden": 3, "width": 4},
    "align_ctc": {"hidden": 3},
    "mult": {"kernel": 2},
    "early_transformer": {"layers": 1},
    "late_transformer": {"layers": 1},
    "merged_transformer": {"layers": 2, "fusion_layer": 1},
    "almt": {"latents": 2},
    "mbt": {"bottlenecks": 2},
    "vilbert": {"hidden": 5},
    "lxmert": {"hidden": 5},
    "albef": {"hidden": 5},
    "perceiver": {"latents": 2, "bands": 2, "hidden": 5},
    "perceiver_io": {"layers": 1, "latents": 2, "bands": 2, "hidden": 5},
    "highmmt": {"latents": 2, "bands": 2, "hidden": 5},
    "dynmm": {"hidden": 5, "width": 3},
    "centralnet": {"hidden": 6},
    "mmtm": {"hidden": 8},
    "progressive": {"hidden": 6},
}


def fields(name):
    """What the class has no default for, the heads, and what ``OTHER`` says."""
    wanted = [
        field.name
        for field in dataclasses.fields(FUSIONS[name])
        if field.default is dataclasses.MISSING or field.name == "heads"
    ]
    return {key: SMALL[key] for key in wanted if key in SMALL} | OTHER.get(name, {})


FIELDS = {name: fields(name) for name in FUSIONS}
