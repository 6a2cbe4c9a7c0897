"""What comes next: the chord of a chorale or a folk tune, or how a sentence will be said.

Command    python -m experiments.ablate --config=configs/next_step.py --workdir=runs/next_step
               --raw_data=FOLDER
Argument   none or ``jsb``: the next chord of Bach's chorales from the last 8 of four voices
           ``nottingham``: that of folk tunes, from the last 8 of melody and chord, every fourth
           training and validation step
           ``calls``: the voice of the next sentence of an earnings call (29 features), from a
           sentence as text and voice and the voice of the 16 before it
           ``words``: which of 500 words the next sentence has
           ``smoke``: one epoch, one seed, to see that everything runs
Task       polymusic: the loss is the sum over 88 keys, its mean over all steps; maec: R2, the mean
           over features
Published  Bai et al. 2018 (arXiv:1803.01271, table 1), who see all of the past and average over
           pieces: LSTM 8.45 (JSB) and 3.29 (Nottingham), TCN 8.10 and 3.07
"""

from ml_collections import ConfigDict

from configs import check, rows

FEATURES, HIDDEN = 64, 128
ARGUMENTS = ("jsb", "nottingham", "calls", "words", "smoke")
VOICES = {"jsb": ("bass", "tenor", "alto", "soprano"), "nottingham": ("chord", "melody")}
STEPS = 8
MUSIC = {
    "LMF": {"name": "lmf", "rank": 8},
    "CentralNet": {"name": "centralnet", "hidden": 64},
    "self- and cross-attention": {"name": "self_cross"},
}
CALLS = {
    "GMU": {"name": "gmu"},
    "LF-LSTM": {"name": "late_lstm", "hidden": 32},
    "self- and cross-attention": {"name": "self_cross"},
}


def music(corpus):
    """The last chords, voice by voice, to the next chord."""
    voices = VOICES[corpus]
    # Keys are switches; the newest step is the last, so what is missing is missing in front.
    roll = {"name": "features", "length": STEPS, "side": "left", "scale": "none"}
    cross = "self- and cross-attention"
    methods = MUSIC if corpus == "jsb" else {cross: MUSIC[cross]}
    window = {"name": "mlp", "features": FEATURES, "hidden": 128, "group": STEPS}
    return ConfigDict(
        {
            "seeds": (0, 1, 2, 3, 4),
            "baseline": "concat",
            "metric": "nll",
            "conditions": {
                "features": f"piano rolls, the last {STEPS} steps of each voice",
                "split": "the data's own, by piece",
                "protocol": "mean over all steps; epoch chosen on validation pieces",
            },
            "data": {
                "name": "polymusic",
                "builder": {
                    "corpus": corpus,
                    "history": STEPS,
                    "every": 4 if corpus == "nottingham" else 1,
                },
                "preprocess": {voice: dict(roll) for voice in voices},
                # 13,578 chords of chorales are known by heart in three epochs, whole steps less so.
                "train_transforms": tuple(
                    {"name": "drop_frames", "modality": voice, "p": 0.15} for voice in voices
                ),
            },
            "encoders": {voice: dict(window) for voice in voices},
            "train": {
                "epochs": 8 if corpus == "jsb" else 5,
                "batch": 64,
                "lr": 3e-3,
                "weight_decay": 1e-1,
                "clip_norm": 1.0,
                "select": "nll",
            },
            "parallel": {"mode": "pmap", "devices": 0},
            "rows": rows(voices, methods, features=FEATURES, hidden=HIDDEN),
        }
    )


def calls(target):
    """A sentence and the voice of those before it to the next sentence."""
    modalities = ("audio", "history", "text")
    voice = {"name": "mlp", "features": FEATURES, "hidden": 64}
    config = music("jsb")
    config.metric = config.train.select = "r2" if target == "voice" else "nll"
    config.conditions = ConfigDict(
        {
            "features": "Praat features of sentences, standardised, and words",
            "split": "220 / 40 / 60 calls, by date; no company in two splits",
            "protocol": "epoch chosen on validation calls",
        }
    )
    config.data = ConfigDict(
        {
            "name": "maec",
            "builder": {"target": target, "history": 16},
            "preprocess": {
                "audio": {"name": "features"},
                "history": {"name": "features", "length": 16, "side": "left"},
                "text": {"name": "text", "length": 32, "min_count": 10},
            },
            # The words of 220 calls are soon known by heart, and a mean of the past should not be.
            "train_transforms": (
                {"name": "drop_frames", "modality": "text", "p": 0.5},
                {"name": "drop_frames", "modality": "history", "p": 0.3},
            ),
        }
    )
    config.encoders = ConfigDict(
        {
            "audio": dict(voice),
            "history": dict(voice),
            "text": {"name": "text_local", "features": FEATURES, "embed": 32},
        }
    )
    config.train.update(epochs=6, batch=128, lr=1e-3)
    methods = CALLS if target == "voice" else {"GMU": CALLS["GMU"]}
    config.rows = ConfigDict(rows(modalities, methods, features=FEATURES, hidden=HIDDEN))
    return config


def get_config(argument=""):
    """One table of next steps; five seeds."""
    check(argument, *ARGUMENTS)
    if argument in ("calls", "words"):
        config = calls("voice" if argument == "calls" else "words")
    else:
        config = music("nottingham" if argument == "nottingham" else "jsb")
    config.name = f"next_step/{argument or 'jsb'}"
    if argument == "smoke":
        config.seeds = (0,)
        config.train.epochs = 1
    return config
