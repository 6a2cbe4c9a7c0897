"""Ten bird species from ready features of a picture and its description: 420 examples, seconds.

Command    python -m experiments.ablate --config=configs/cub_image_text.py --workdir=runs/cub
               --raw_data=FOLDER
Argument   ``smoke``: the same rows, two epochs and one seed, to see that everything runs
Task       GoogLeNet features of the photograph (1024) and doc2vec features of its text (300); both
           views hold much and not the same; the test split is small, so look at the intervals
Rows       three fusions known on such features: TMC, a product of experts, MCB
"""

from ml_collections import ConfigDict

from configs import check, rows

FEATURES = 64
METHODS = {
    "TMC": {"name": "tmc"},
    "PoE": {"name": "poe", "hidden": 64},
    "MCB": {"name": "mcb", "width": 1024},
}


def get_config(argument=""):
    """Two small MLPs as encoders; every row has the same budget."""
    check(argument, "smoke")
    config = ConfigDict(
        {
            "name": "cub_image_text",
            "seeds": (0, 1, 2, 3, 4),
            "baseline": "concat",
            "metric": "accuracy",
            "data": {
                "name": "cub_image_text",
                "builder": {"split_seed": 0},
                "preprocess": {"image": {"name": "array"}, "text": {"name": "array"}},
            },
            "encoders": {
                "image": {"name": "mlp", "features": FEATURES, "hidden": 128},
                "text": {"name": "mlp", "features": FEATURES, "hidden": 128},
            },
            "train": {
                "epochs": 30,
                "batch": 40,
                "lr": 1e-3,
                "weight_decay": 1e-1,
                "clip_norm": 1.0,
                "select": "loss",
            },
            "tune": {
                "space": {"train": {"lr": ("log", 1e-4, 3e-2), "weight_decay": ("log", 1e-3, 1.0)}}
            },
            "parallel": {"mode": "pmap", "devices": 0},
            "rows": rows(("image", "text"), METHODS, features=FEATURES, hidden=64),
        }
    )
    if argument == "smoke":
        config.seeds = (0,)
        config.train.update(epochs=2, eval_batch=64)
    return config
