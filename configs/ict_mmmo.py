"""The score a reviewer gives, from voice and face word by word: ICT-MMMO, 340 video reviews.

Command    python -m experiments.ablate --config=configs/ict_mmmo.py --workdir=runs/ict-mmmo
               --raw_data=FOLDER
Argument   none: two classes, a score of at least 3.5 of 5; ``regression``: the score
           ``smoke``: one epoch, one seed, to see that everything runs
Caution    80 test reviews: one standard error of an accuracy is 5 points
"""

from ml_collections import ConfigDict

from configs import check, rows

FEATURES = 16
MODALITIES = ("audio", "video")
HEADS = {"heads": 2}
METHODS = {
    "EF-LSTM": {"name": "early_lstm"},
    "MFN": {"name": "mfn", "hidden": 16, "width": 16},
    "MARN": {"name": "marn", "hidden": 16, "width": 16, **HEADS},
    "MulT": {"name": "mult", **HEADS},
}


def get_config(argument=""):
    """Voice and face, as text is missing in training; five seeds."""
    check(argument, "regression", "smoke")
    config = ConfigDict(
        {
            "name": f"ict_mmmo/{argument or 'binary'}",
            "seeds": (0, 1, 2, 3, 4),
            "baseline": "concat",
            "metric": "accuracy",
            "data": {
                "name": "ict_mmmo",
                "builder": {"task": "binary", "modalities": MODALITIES},
                "preprocess": {
                    "audio": {"name": "features", "zero_is_missing": True, "sentinel": -255.0},
                    "video": {"name": "features", "zero_is_missing": True},
                },
                "train_transforms": tuple(
                    {"name": "drop_frames", "modality": m, "p": 0.3} for m in MODALITIES
                ),
            },
            "encoders": {
                m: {"name": "mlp", "features": FEATURES, "hidden": 32} for m in MODALITIES
            },
            "train": {
                "epochs": 20,
                "batch": 32,
                "lr": 3e-3,
                "weight_decay": 0.5,
                "clip_norm": 1.0,
                "select": "loss",  # 40 validation reviews make a coarse accuracy
            },
            "parallel": {"mode": "pmap", "devices": 0},
            "rows": rows(MODALITIES, METHODS, features=FEATURES, hidden=32),
        }
    )
    if argument == "regression":
        config.data.builder.task = "regression"
        config.metric = config.train.select = "mae"
    elif argument == "smoke":
        config.train.epochs = 1
        config.seeds = (0,)
    return config
