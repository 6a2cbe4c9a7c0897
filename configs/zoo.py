"""Every fusion method that is shipped, on one task: ``helpdesk/mixed`` with the same encoders.

Command    python -m experiments.ablate --config=configs/zoo.py:params --workdir=runs/zoo-params
Argument   ``params`` or ``flops``: the width of every row is solved so that all models have as many
           parameters, or as many FLOPs, within 2 %; without one, the widths below
           ``smoke``: one seed, one epoch on few examples, to see that everything runs
           ``redundant``, ``unique``, ``synergy``, ``temporal``: the other variants of the task
"""

from configs import helpdesk, temporal

FEATURES = 32
BUDGETS = {"params": 60_000, "flops": 1_200_000}
HEADS = {"heads": 2}
MAIN = {"main": "text"}  # what the papers put language in: it leads, asks, or is aligned to
TARGET = {"target": "text"}
LATE = {
    "late_average": {},
    "probability_product": {},
    "stacking": {},
    "majority_vote": {},
    "tmc": {},
    "late_transformer_tuned": HEADS,
}
SPATIAL = {
    "sum": {},
    "product": {},
    "concat": {"hidden": 64},
    "deepset": {"width": 64},
    "modality_attention": {},
    "gmu": {},
    "film": {"condition": "text"},
    "channel_attention": {"width": 64},
    "nl_gate": {"width": 32, "query": "text"},
    "mag": MAIN,
    "tfn": {"width": 12},
    "lmf": {"rank": 4},
    "bilinear": {"width": 16},
    "mi_matrix": {"width": 16},
    "mi_vector": {},
    "mi_scalar": {},
    "mi_three_way": {"width": 10},
    "tucker": {"width": 12},
    "mutan": {"width": 24, "rank": 4},
    "block": {"width": 32, "blocks": 4, "rank": 4},
    "mcb": {"width": 512},
    "mlb": {"width": 64},
    "mfb": {"width": 32, "rank": 4},
    "mfh": {"width": 32, "rank": 4},
    "ban": {"width": 32},
    "poe": {"hidden": 64},
}
TEMPORAL = {
    "early_lstm": {},
    "late_lstm": {"hidden": 32},
    "bc_lstm": {"hidden": 24},
    "contextual_attention": {"hidden": 24, "width": 32},
    "mfn": {"hidden": 24, "width": 32},
    "graph_mfn": {"hidden": 24, "width": 32},
    "marn": {"hidden": 24, "width": 32, **HEADS},
    "align_pool": TARGET,
    "align_conv": TARGET,
    "align_ctc": {"hidden": 32, **TARGET},
    "crossmodal": HEADS,
    "mult": HEADS,
    "cross_pairwise": HEADS,
    "cross_concat": HEADS,
    "cross_hierarchical": HEADS,
    "early_transformer": HEADS,
    "late_transformer": HEADS,
    "merged_transformer": HEADS,
    "hierarchical_one_to_multi": HEADS,
    "bbfn": HEADS | MAIN,
    "almt": HEADS | MAIN,
}
DEEP = {
    "self_cross": {},
    "mbt": HEADS,
    "vilbert": HEADS,
    "lxmert": HEADS,
    "albef": HEADS | MAIN,
    "perceiver": HEADS,
    "perceiver_io": HEADS,
    "highmmt": HEADS,
    "dynmm": {"hidden": 64, "width": 16},
    "chfusion": {},
    "centralnet": {"hidden": 48},
    "mmtm": {"hidden": 48},
    "progressive": {"hidden": 48},
    "misa": {"hidden": 32},
}


def rows(features=FEATURES):
    """Unimodal controls, then one row per method under its name in ``FUSIONS``, by family."""
    unimodal = {
        f"{name} only": {"fusion": {"name": "unimodal", "modality": name, "features": features}}
        for name in ("text", "image", "audio")
    }
    methods = LATE | SPATIAL | TEMPORAL | DEEP
    return unimodal | {
        name: {"fusion": {"name": name, "features": features, **fields}}
        for name, fields in methods.items()
    }


def get_config(argument=""):
    """The rows on ``helpdesk/mixed``, five seeds each."""
    variants = ("redundant", "unique", "synergy", "temporal")
    if argument not in ("", "smoke", *BUDGETS, *variants):
        allowed = ", ".join(("smoke", *BUDGETS, *variants))
        raise ValueError(f"unknown argument '{argument}'; allowed: {allowed}")
    if argument == "temporal":
        config = temporal.get_config()
    else:
        config = helpdesk.get_config(argument if argument in variants else "mixed")
    config.name = f"zoo/{argument or 'mixed'}"
    config.seeds = (0, 1, 2, 3, 4)
    config.rows = rows()
    if argument in BUDGETS:
        config.budget = {argument: BUDGETS[argument]}
    if argument == "smoke":
        config.data.builder.update(n_train=128, n_valid=64, n_test=64)
        config.train.update(epochs=1, eval_batch=64)
        config.seeds = (0,)
    return config
