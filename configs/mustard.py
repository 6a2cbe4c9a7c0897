"""Is a line of a television series sarcastic? MUStARD: the line, what was said before, and who.

Command    python -m experiments.ablate --config=configs/mustard.py --workdir=runs/mustard
               --raw_data=FOLDER
Argument   the fold, 0 (default) to 4: one table each; report all five
           ``smoke``: one epoch, one seed, to see that everything runs
Caution    138 test lines: one standard error of an accuracy is 4 points. Some speakers are nearly
           always sarcastic: compare with ``speaker only``
"""

from ml_collections import ConfigDict

from configs import check, rows

FEATURES = 16
ARGUMENTS = ("0", "1", "2", "3", "4", "smoke")
MODALITIES = ("utterance", "context", "speaker")
METHODS = {
    "GMU": {"name": "gmu"},
    "LMF": {"name": "lmf", "rank": 4},
    "cross-modal attention": {"name": "crossmodal", "heads": 2},
}


def get_config(argument=""):
    """One fold; five seeds."""
    check(argument, *ARGUMENTS)
    fold = int(argument) if argument.isdigit() else 0
    words = {"name": "text", "stop_words": False, "min_count": 2}
    config = ConfigDict(
        {
            "name": f"mustard/fold{fold}",
            "seeds": (0, 1, 2, 3, 4),
            "baseline": "concat",
            "metric": "accuracy",
            "data": {
                "name": "mustard",
                "builder": {"fold": fold, "speaker": "one_hot"},
                "preprocess": {
                    "utterance": {"length": 32, **words},
                    "context": {"length": 64, **words},
                    "speaker": {"name": "features"},
                },
            },
            "encoders": {
                "utterance": {"name": "text_local", "features": FEATURES, "embed": 16},
                "context": {"name": "text_local", "features": FEATURES, "embed": 16},
                "speaker": {"name": "mlp", "features": FEATURES, "hidden": 16},
            },
            "train": {
                "epochs": 15,
                "batch": 32,
                "lr": 3e-3,
                "weight_decay": 0.1,
                "clip_norm": 1.0,
                "select": "accuracy",
            },
            "parallel": {"mode": "pmap", "devices": 0},
            "rows": rows(MODALITIES, METHODS, features=FEATURES, hidden=32),
        }
    )
    if argument == "smoke":
        config.train.epochs = 1
        config.seeds = (0,)
    return config
