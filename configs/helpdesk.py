"""Ten ways to fuse text, picture and voice on the generated customer-service task ``helpdesk``.

Command    python -m experiments.ablate --config=configs/helpdesk.py:synergy --workdir=runs/synergy
Argument   the variant: redundant, unique, synergy, mixed (default); ``temporal`` has its own file
"""

from ml_collections import ConfigDict

from configs import rows

FEATURES = 32
METHODS = {
    "GMU": {"name": "gmu"},
    "TFN": {"name": "tfn", "width": 12},
    "EF-LSTM": {"name": "early_lstm"},
    "cross-modal attention": {"name": "crossmodal", "heads": 2},
    "self + cross attention": {"name": "self_cross"},
    "MBT": {"name": "mbt", "heads": 2},
}


def get_config(variant="mixed"):
    """The base that every row shares, and the rows."""
    return ConfigDict(
        {
            "name": f"helpdesk/{variant}",
            "seeds": (0, 1, 2),
            "baseline": "concat",
            "metric": "accuracy",
            "data": {
                "name": "helpdesk",
                "builder": {"variant": variant, "n_train": 6000, "n_valid": 1000, "n_test": 2000},
                "preprocess": {
                    "text": {"name": "text", "length": 8},
                    "image": {"name": "picture", "size": 16},
                    "audio": {"name": "log_mel", "n_fft": 800, "hop": 800, "n_mels": 24},
                },
            },
            "encoders": {
                "text": {"name": "text_lstm", "features": FEATURES, "embed": 16},
                "image": {"name": "image_cnn", "features": FEATURES, "channels": (8, 16, 16)},
                "audio": {"name": "audio_lstm", "features": FEATURES},
            },
            "train": {
                "epochs": 10,
                "batch": 64,
                "lr": 3e-3,
                "weight_decay": 1e-2,
                "clip_norm": 1.0,
                "select": "accuracy",
            },
            "parallel": {"mode": "pmap", "devices": 0},
            "rows": rows(("text", "image", "audio"), METHODS, features=FEATURES, hidden=64),
        }
    )
