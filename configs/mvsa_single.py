"""The sentiment of tweets with a picture, encoders trained from scratch: what does a picture add?

Command    python -m experiments.ablate --config=configs/mvsa_single.py --workdir=runs/mvsa
               --raw_data=FOLDER
Argument   ``smoke``: the same rows, one epoch and one seed, to see that everything runs
Task       negative, neutral or positive; 60 % are positive. Expect no gain from the pictures: 3,199
           of them teach a CNN nothing of sentiment, and a table should say so
Rows       three fusions known for such posts: GMU, FiLM, cross-modal attention
"""

from ml_collections import ConfigDict

from configs import check, rows

FEATURES = 64
METHODS = {
    "GMU": {"name": "gmu"},
    "FiLM": {"name": "film", "condition": "text"},
    "cross-modal attention": {"name": "crossmodal", "heads": 2},
}


def get_config(argument=""):
    """A small CNN on 32x32 pictures and an MLP per word, for two CPU cores."""
    check(argument, "smoke")
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
            "rows": rows(("image", "text"), METHODS, features=FEATURES, hidden=64),
        }
    )
    if argument == "smoke":
        config.seeds = (0,)
        config.train.update(epochs=1, eval_batch=64)
    return config
