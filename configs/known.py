"""Ten methods on the variants of ``helpdesk`` whose answers are known: see ``experiments.known``.

Command    python -m experiments.ablate --config=configs/known.py:synergy
               --workdir=runs/known-synergy
Argument   the variant: redundant, unique, synergy (default) or temporal
           ``smoke``: synergy, one epoch on few examples, to see that everything runs
Rows       three unimodal, one that averages, three that read pooled vectors, three that read steps
"""

from ml_collections import ConfigDict

from configs import helpdesk, temporal

VARIANTS = ("redundant", "unique", "synergy", "temporal")
ALIGNED = {"name": "align_pool", "features": helpdesk.FEATURES, "target": "text"}
UNIMODAL = ("text only", "image only", "audio only")
METHODS = ("late average", "concat", "GMU", "TFN", "EF-LSTM", "cross-modal attention")


def get_config(argument="synergy"):
    """The base of the variant, and the rows that theory has a word on."""
    variant = "synergy" if argument in ("", "smoke") else argument
    if variant not in VARIANTS:
        allowed = ", ".join((*VARIANTS, "smoke"))
        raise ValueError(f"unknown argument '{argument}'; allowed: {allowed}")
    config = temporal.get_config() if variant == "temporal" else helpdesk.get_config(variant)
    config.name = f"known/{variant}"
    rows = {name: config.rows[name].to_dict() for name in (*UNIMODAL, *METHODS)}
    config.rows = ConfigDict(rows | {"aligned pooling": {"fusion": ALIGNED}})
    if argument == "smoke":
        config.data.builder.update(n_train=256, n_valid=64, n_test=64)
        config.train.update(epochs=1, eval_batch=64)
        config.seeds = (0, 1)
    return config
