"""The sentiment of tweets with a picture, encoders trained from scratch: what does a picture add?

Command    python -m experiments.ablate --config=configs/mvsa_single.py --workdir=runs/mvsa
               --raw_data=FOLDER
Argument   ``smoke``: the same rows, one epoch and one seed, to see that everything runs
Task       negative, neutral or positive; 60 % are positive. Expect no gain from the pictures: 3,199
           of them teach a CNN nothing of sentiment, and a table should say so
Rows       three fusions known for such posts: GMU, FiLM, cross-modal attention
"""

from ml_collections import ConfigDict

FEATURES = 64


def rows(features=FEATURES):
    """Unimodal controls, late average, concat, then the three."""
    unimodal = {
        f"{name} only": {"fusion": {"name": "unimodal", "modality": name, "features": features}}
        for name in ("image", "text")
    }
    fused = {
        "late average": {"name": "late_average", "features": features},
        "concat": {"name": "concat", "features": features, "hidden": 64},
        "GMU": {"name": "gmu", "features": features},
        "FiLM": {"name": "film", "features": features, "condition": "text"},
        "cross-modal attention": {"name": "crossmodal", "features": features, "heads": 2},
    }
    return unimodal | {name: {"fusion": fusion} for name, fusion in fused.items()}


def get_config(argument=""):
    """A small CNN on 32x32 pictures and an MLP per word, for two CPU cores."""
    config = ConfigDict(
        {
            "name": "mvsa_single",
            "seeds": (0, 1, 2, 3, 4),
            "baseline": "text only",
            "metric": "accuracy",
            "data": {
                "name": "mvsa_single",
                "builder": {"form": "packed"},
                "preprocess": {
                    "image": {"name": "picture", "size": 32},
                    "text": {"name": "text", "length": 24, "stop_words": False},
                },
            },
            "encoders": {
                "image": {"name": "image_cnn", "features": FEATURES, "channels": (8, 16, 16)},
                "text": {"name": "text_local", "features": FEATURES, "embed": 64},
            },
            "train": {
                "epochs": 8,
                "batch": 64,
                "lr": 1e-3,
                "weight_decay": 1e-1,
                "clip_norm": 1.0,
                "select": "loss",
            },
            "parallel": {"mode": "pmap", "devices": 0},
            "rows": rows(),
        }
    )
    if argument == "smoke":
        config.seeds = (0,)
        config.train.update(epochs=1, eval_batch=64)
    elif argument:
        raise ValueError(f"unknown argument '{argument}'; allowed: smoke")
    return config
