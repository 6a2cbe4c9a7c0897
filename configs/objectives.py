"""One fusion, and what training can aim at besides the task: every objective as a row.

Command    python -m experiments.ablate --config=configs/objectives.py --workdir=runs/objectives
Argument   ``avmnist``: two views of a digit, of which one tells far more (needs --raw_data=FOLDER)
           ``smoke``: few requests, one epoch and one seed, to see that everything runs
Seeds      five, but for ``smoke``
Task       ``helpdesk`` (mixed) with 2,000 requests, a third of the usual, and as many steps at a
           higher rate: most of what only the modalities together tell is learned, not all;
           concatenation in every row, so that only the objective differs
"""

from ml_collections import ConfigDict

from configs import avmnist, check, helpdesk

OBJECTIVES = {
    "contrastive": {"contrastive": {}},
    "deep CCA": {"deep_cca": {}},
    "reconstruction": {"reconstruction": {}},
    "MFM": {"mfm": {}},
    "MVAE": {"mvae": {}},
    "unimodal heads": {"unimodal_heads": {}},
    "gradient blending": {"gradient_blending": {}},
    "OGM-GE": {"ogm_ge": {}},
    "modality dropout": {"modality_dropout": {}},
    "unimodal heads + modality dropout": {"unimodal_heads": {}, "modality_dropout": {}},
}


def get_config(argument=""):
    """The base of ``configs/helpdesk.py`` or ``configs/avmnist.py`` with less data."""
    check(argument, "avmnist", "smoke")
    if argument == "avmnist":
        config = avmnist.get_config()
        config.data.builder.update(n_train=2000, n_valid=1000, n_test=5000)
    else:
        config = helpdesk.get_config("mixed")
        config.data.builder.update(n_train=2000)
        config.train.update(epochs=30, lr=1e-2)
    config.name = "objectives" + (f"/{argument}" if argument else "")
    config.seeds = (0, 1, 2, 3, 4)
    controls = {name: row.to_dict() for name, row in config.rows.items() if "only" in name}
    concat = {"fusion": config.rows["concat"].fusion.to_dict()}
    rows = {f"concat + {name}": concat | {"objectives": own} for name, own in OBJECTIVES.items()}
    config.rows = ConfigDict(controls | {"concat": concat} | rows)
    if argument == "smoke":
        config.data.builder.update(n_train=256, n_valid=64, n_test=64)
        config.train.update(epochs=1, eval_batch=64)
        config.seeds = (0,)
    return config
