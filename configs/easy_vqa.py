"""A picture of one coloured shape and a question: neither alone can answer.

Command    python -m experiments.ablate --config=configs/easy_vqa.py --workdir=runs/easy_vqa
               --raw_data=FOLDER
Argument   ``full``: pictures of 64x64 and a deeper CNN; for an accelerator
           ``smoke``: the same rows, one epoch on few examples, to see that everything runs
Task       13 answers; all questions; without an argument pictures are shrunk from 64x64 to 16x16.
           The text encoder is an LSTM: MUTAN and FiLM only multiply, so somebody before them
           must relate "not" to what is asked for
Rows       three fusions known for questions about pictures: MUTAN, FiLM, BAN
"""

from ml_collections import ConfigDict

from configs import check, rows

FEATURES = 64
METHODS = {
    "MUTAN": {"name": "mutan", "width": 64, "rank": 4},
    "FiLM": {"name": "film", "condition": "text"},
    "BAN": {"name": "ban", "width": 64},
}


def get_config(argument=""):
    """A small CNN and an LSTM, for two CPU cores."""
    check(argument, "full", "smoke")
    config = ConfigDict(
        {
            "name": "easy_vqa",
            "seeds": (0, 1, 2, 3, 4),
            "baseline": "concat",
            "metric": "accuracy",
            "data": {
                "name": "easy_vqa",
                "builder": {"size": 16, "n_train": 0, "n_valid": 0, "n_test": 0},
                "preprocess": {
                    "image": {"name": "picture"},
                    "text": {"name": "text", "length": 10, "stop_words": False},
                },
            },
            "encoders": {
                "image": {"name": "image_cnn", "features": FEATURES, "channels": (8, 16)},
                "text": {"name": "text_lstm", "features": FEATURES, "embed": 32},
            },
            "train": {
                "epochs": 10,
                "batch": 16,
                "lr": 3e-3,
                "weight_decay": 1e-2,
                "clip_norm": 1.0,
                "select": "accuracy",
            },
            "parallel": {"mode": "pmap", "devices": 0},
            "rows": rows(("image", "text"), METHODS, features=FEATURES, hidden=128),
        }
    )
    if argument == "full":
        config.data.builder.size = 64
        config.encoders.image.channels = (8, 16, 16, 16)
    elif argument == "smoke":
        config.data.builder.update(n_train=256, n_valid=64, n_test=64)
        config.train.update(epochs=1, eval_batch=64)
        config.seeds = (0,)
    return config
