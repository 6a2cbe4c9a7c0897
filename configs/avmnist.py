"""Two views of a digit, equally blurred: AV-MNIST from MNIST, FSDD and ESC-10 files.

Command    python -m experiments.ablate --config=configs/avmnist.py --workdir=runs/avmnist
               --raw_data=FOLDER
Argument   ``full``: all 55,000 pairs, 112x112 spectrograms; for an accelerator
           ``speaker``: the hard protocol, test speakers never heard in training, at 0 dB
           ``smoke``: few pairs, one epoch and one seed, to see that everything runs
Seeds      five, but for ``smoke``
Task       10 digits; the picture keeps 4 principal components (28 % of the variance), the spoken
           digit is drowned in noise at -5 dB; both share the class, never the instance
"""

from ml_collections import ConfigDict

from configs import check, rows

FEATURES = 32
METHODS = {
    "GMU": {"name": "gmu"},
    "TFN": {"name": "tfn", "width": 24},
    "EF-LSTM": {"name": "early_lstm"},
    "cross-modal attention": {"name": "crossmodal", "heads": 2},
    "self + cross attention": {"name": "self_cross"},
    "MBT": {"name": "mbt", "heads": 2},
}


def get_config(argument=""):
    """A stated subset with spectrograms pooled to 28x28, for two CPU cores."""
    check(argument, "full", "speaker", "smoke")
    config = ConfigDict(
        {
            "name": "avmnist",
            "seeds": (0, 1, 2, 3, 4),
            "baseline": "concat",
            "metric": "accuracy",
            "data": {
                "name": "avmnist",
                "builder": {
                    "protocol": "index",
                    "snr_db": -5.0,
                    "n_train": 12000,
                    "n_valid": 2000,
                    "n_test": 10000,
                    "spec_size": 28,
                },
                "preprocess": {"image": {"name": "picture"}, "audio": {"name": "array"}},
            },
            "encoders": {
                "image": {
                    "name": "image_cnn",
                    "features": FEATURES,
                    "channels": (6, 12, 24),
                    "kernel": (5, 3, 3),
                },
                "audio": {
                    "name": "spectrogram_cnn",
                    "features": FEATURES,
                    "channels": (8, 16),
                    "kernel": (5, 3),
                },
            },
            "train": {
                "epochs": 10,
                "batch": 40,
                "lr": 2e-3,
                "weight_decay": 1e-2,
                "clip_norm": 1.0,
                "select": "accuracy",
            },
            "parallel": {"mode": "pmap", "devices": 0},
            "rows": rows(("image", "audio"), METHODS, features=FEATURES, hidden=64),
        }
    )
    if argument == "full":
        config.data.builder.update(n_train=55000, n_valid=5000, n_test=10000, spec_size=112)
        config.encoders.audio.update(channels=(6, 12, 24, 48, 96), kernel=(5, 3, 3, 3, 3))
        config.train.update(epochs=30, batch=128)
    elif argument == "speaker":
        config.data.builder.update(protocol="speaker", snr_db=0.0)
    elif argument == "smoke":
        config.data.builder.update(n_train=400, n_valid=100, n_test=100)
        config.train.update(epochs=1, eval_batch=104)
        config.seeds = (0,)
    return config
