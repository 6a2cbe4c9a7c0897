"""A picture of one coloured shape and a question: neither alone can answer.

Command    python -m experiments.ablate --config=configs/easy_vqa.py --workdir=runs/easy_vqa
               --raw_data=FOLDER
Argument   ``full``: all 34,753 training questions and 64x64 pictures; for an accelerator
           ``smoke``: the same rows, one epoch on few examples, to see that everything runs
Task       13 answers; without one the first 12,000 training questions and pictures of 32x32; all
           test questions
Rows       three fusions known for questions about pictures: MUTAN, FiLM, BAN
"""

from ml_collections import ConfigDict

FEATURES = 32


def rows(features=FEATURES):
    """Unimodal controls, late average, concat, then the three."""
    unimodal = {
        f"{name} only": {"fusion": {"name": "unimodal", "modality": name, "features": features}}
        for name in ("image", "text")
    }
    fused = {
        "late average": {"name": "late_average", "features": features},
        "concat": {"name": "concat", "features": features, "hidden": 64},
        "MUTAN": {"name": "mutan", "features": features, "width": 32, "rank": 4},
        "FiLM": {"name": "film", "features": features, "condition": "text"},
        "BAN": {"name": "ban", "features": features, "width": 32},
    }
    return unimodal | {name: {"fusion": fusion} for name, fusion in fused.items()}


def get_config(argument=""):
    """A small CNN and an LSTM, for two CPU cores."""
    config = ConfigDict(
        {
            "name": "easy_vqa",
            "seeds": (0, 1, 2, 3, 4),
            "baseline": "concat",
            "metric": "accuracy",
            "data": {
                "name": "easy_vqa",
                "builder": {"size": 32, "n_train": 12000, "n_valid": 0, "n_test": 0},
                "preprocess": {
                    "image": {"name": "picture"},
                    "text": {"name": "text", "length": 10, "stop_words": False},
                },
            },
            "encoders": {
                "image": {"name": "image_cnn", "features": FEATURES, "channels": (8, 16, 16)},
                "text": {"name": "text_lstm", "features": FEATURES, "embed": 16},
            },
            "train": {
                "epochs": 10,
                "batch": 64,
                "lr": 5e-3,
                "weight_decay": 1e-2,
                "clip_norm": 1.0,
                "select": "accuracy",
            },
            "parallel": {"mode": "pmap", "devices": 0},
            "rows": rows(),
        }
    )
    if argument == "full":
        config.data.builder.update(size=64, n_train=0)
        config.encoders.image.channels = (8, 16, 16, 16)
    elif argument == "smoke":
        config.data.builder.update(n_train=256, n_valid=64, n_test=64)
        config.train.update(epochs=1, eval_batch=64)
        config.seeds = (0,)
    elif argument:
        raise ValueError(f"unknown argument '{argument}'; allowed: full, smoke")
    return config
