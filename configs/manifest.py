"""Your own files: what a manifest names, whatever its columns are called.

Command    python -m experiments.ablate --config=configs/manifest.py --config.data.manifest=my.csv
               --workdir=runs/mine
Argument   ``regression``: for a manifest with numbers to predict, in a column ``target``
           ``smoke``: the same rows, one seed and one epoch, to see that everything runs
Manifest   columns ``id``, ``split`` (train, valid, test), ``label`` or ``target``, and one per
           modality: text, or the path of a txt, png, jpg, wav, flac, ogg, npy or npz file
Limits     text is cut after 32 words and sound after 5 seconds, pictures become 32 x 32 pixels:
           --config.kinds.text.preprocess.length=64, kinds.sound.preprocess.seconds and
           kinds.picture.preprocess.size change that
"""

from ml_collections import ConfigDict

from configs import check, rows

FEATURES = 32
METHODS = {
    "GMU": {"name": "gmu"},
    "LMF": {"name": "lmf", "rank": 4},
    "cross-modal attention": {"name": "crossmodal", "heads": 2},
}


def kinds(features=FEATURES):
    """How a column is read and encoded, by what it holds."""
    return {
        "text": {
            "preprocess": {"name": "text", "length": 32},
            "encoder": {"name": "text_lstm", "features": features, "embed": 32},
        },
        "picture": {
            "preprocess": {"name": "picture", "size": 32},
            "encoder": {"name": "image_cnn", "features": features, "channels": (8, 16, 16)},
        },
        "sound": {
            "preprocess": {
                "name": "log_mel",
                "sample_rate": 16000,
                "seconds": 5.0,
                "n_fft": 800,
                "hop": 800,
                "n_mels": 32,
            },
            "encoder": {"name": "audio_lstm", "features": features},
        },
        "features": {
            "preprocess": {"name": "features"},
            "encoder": {"name": "mlp", "features": features},
        },
    }


def get_config(argument=""):
    """The base that every row shares; ``config.kinds`` stands in for the columns."""
    check(argument, "regression", "smoke")
    metric = "mae" if argument == "regression" else "accuracy"
    config = ConfigDict(
        {
            "name": "manifest",
            "seeds": (0, 1, 2),
            "baseline": "concat",
            "metric": metric,
            "data": {"name": "manifest", "manifest": "", "preprocess": {}},
            "encoders": {},
            "kinds": kinds(),
            "train": {
                "epochs": 20,
                "batch": 32,
                "lr": 2e-3,
                "weight_decay": 1e-2,
                "clip_norm": 1.0,
                "select": metric,
            },
            "parallel": {"mode": "pmap", "devices": 0},
            "rows": rows(("{modality}",), METHODS, features=FEATURES, hidden=64),
        }
    )
    if argument == "smoke":
        config.train.update(epochs=1)
        config.seeds = (0,)
    return config
