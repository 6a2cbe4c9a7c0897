"""77 intents of a bank's customers, text only: nothing to fuse, so the rows are ways to read text.

Command    python -m experiments.ablate --config=configs/banking77.py --workdir=runs/banking77
               --raw_data=FOLDER
Argument   ``smoke``: the same rows, one epoch and one seed, to see that everything runs
Task       English questions, 77 intents; word vectors are learned here, nothing is pretrained
Rows       a control with words one by one (their mean) and one with an LSTM; then methods that read
           tokens, on the same words, as pooling heads
"""

from ml_collections import ConfigDict

from configs import check

FEATURES = 128
LOCAL = {"text": {"name": "text_local", "features": FEATURES, "embed": 128}}
LSTM = {"text": {"name": "text_lstm", "features": FEATURES, "embed": 128}}


def rows(features=FEATURES):
    """Every row reads the one modality; they differ in the encoder or in what pools its tokens."""
    mean = {"name": "unimodal", "modality": "text", "features": features}
    return {
        "words, mean": {"fusion": mean},
        "LSTM, mean": {"fusion": mean, "encoders": LSTM},
        "words, LSTM": {"fusion": {"name": "early_lstm", "features": features}},
        "words, transformer": {
            "fusion": {"name": "early_transformer", "features": features, "heads": 4, "layers": 1}
        },
        "words, Perceiver": {
            "fusion": {"name": "perceiver", "features": features, "heads": 4, "latents": 8}
        },
    }


def get_config(argument=""):
    """One text encoder, one budget."""
    check(argument, "smoke")
    config = ConfigDict(
        {
            "name": "banking77",
            "seeds": (0, 1, 2, 3, 4),
            "baseline": "words, mean",
            "metric": "accuracy",
            "data": {
                "name": "banking77",
                "builder": {"split_seed": 0},
                "preprocess": {
                    "text": {"name": "text", "length": 32, "stop_words": False, "min_count": 2}
                },
            },
            "encoders": LOCAL,
            "train": {
                "epochs": 10,
                "batch": 64,
                "lr": 2e-3,
                "weight_decay": 1e-1,
                "clip_norm": 1.0,
                "select": "accuracy",
            },
            "parallel": {"mode": "pmap", "devices": 0},
            "rows": rows(),
        }
    )
    if argument == "smoke":
        config.seeds = (0,)
        config.train.update(epochs=1, eval_batch=64)
    return config
