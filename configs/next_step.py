"""What comes next: the chord of a chorale or a folk tune, or how a sentence will be said.

Command    python -m experiments.ablate --config=configs/next_step.py --workdir=runs/next_step
               --raw_data=FOLDER
Argument   none or ``jsb``: the next chord of Bach's chorales from the last 8 of four voices
           ``nottingham``: that of folk tunes, from the last 16 of melody and chord
           ``calls``: the voice of the next sentence of an earnings call (29 features), from a
           sentence as text and voice and the voice of the 16 before it
           ``words``: which of 500 words the next sentence has
           ``digits``: the next of a stream of digits, from a word, a picture and a spoken clip of
           this one, each wrong in 30 % (the worked case of the source article, 4.3)
           ``digits-image``, ``digits-sound``, ``digits-word``: a clean picture, sound or spelling
           of the next digit, generated
           ``smoke``: one epoch, one seed, to see that everything runs
Task       polymusic: the loss is the sum over 88 keys, its mean over all steps; maec: R2, the mean
           over features
Expected   calls: an R2 of .44 for concat, that of a ridge on the same inputs which reads the past
           as a mean (a reference in the card)
Published  Bai et al. 2018 (arXiv:1803.01271, table 1), who see all of the past and average over
           pieces: LSTM 8.45 (JSB) and 3.29 (Nottingham), TCN 8.10 and 3.07
"""

from ml_collections import ConfigDict

from configs import check, rows

FEATURES, HIDDEN = 64, 128
DIGITS = ("digits", "digits-image", "digits-sound", "digits-word")
ARGUMENTS = ("jsb", "nottingham", "calls", "words", *DIGITS, "smoke")
VOICES = {"jsb": ("bass", "tenor", "alto", "soprano"), "nottingham": ("chord", "melody")}
STEPS = {"jsb": 8, "nottingham": 16}
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
SHOWN = {
    "GMU": {"name": "gmu"},
    "EF-LSTM": {"name": "early_lstm"},
    "LF-LSTM": {"name": "late_lstm", "hidden": 32},
    "cross-modal attention": {"name": "crossmodal", "heads": 2},
    "self- and cross-attention": {"name": "self_cross"},
}
GENERATED = ("text only", "late average", "concat", "self- and cross-attention")
DECODERS = {  # of the next step, where it is generated
    "image": {"name": "cnn", "blocks": (16, 8)},
    "sound": {"name": "recurrent", "features": 48},
    "word": {"name": "lstm", "features": 32, "embed": 16},
}
METRIC = {"class": "accuracy", "image": "recognised", "sound": "recognised", "word": "exact"}


def music(corpus):
    """The last chords, voice by voice, to the next chord."""
    voices, steps = VOICES[corpus], STEPS[corpus]
    # Keys are switches; the newest step is the last, so what is missing is missing in front.
    roll = {"name": "features", "length": steps, "side": "left", "scale": "none"}
    cross = "self- and cross-attention"
    methods = MUSIC if corpus == "jsb" else {cross: MUSIC[cross]}
    window = {"name": "mlp", "features": FEATURES, "hidden": 128, "group": steps}
    return ConfigDict(
        {
            "seeds": (0, 1, 2, 3, 4),
            "baseline": "concat",
            "metric": "nll",
            "conditions": {
                "features": f"piano rolls, the last {steps} steps of each voice",
                "split": "the data's own, by piece",
                "protocol": "mean over all steps; epoch chosen on validation pieces",
            },
            "data": {
                "name": "polymusic",
                "builder": {"corpus": corpus, "history": steps},
                "preprocess": {voice: dict(roll) for voice in voices},
                # 13,578 chords of chorales are known by heart in three epochs, whole steps less so.
                "train_transforms": tuple(
                    {"name": "drop_frames", "modality": voice, "p": 0.15} for voice in voices
                ),
            },
            "encoders": {voice: dict(window) for voice in voices},
            "train": {
                "epochs": 8,
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
    voice = {"name": "mlp", "features": FEATURES, "hidden": 256}
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
                # 220 calls: a rarer word names a company more than it says how one speaks.
                "text": {"name": "text", "length": 32, "min_count": 100},
            },
        }
    )
    config.encoders = ConfigDict(
        {
            "audio": dict(voice),
            "history": dict(voice),
            "text": {"name": "text_local", "features": FEATURES, "embed": 64},
        }
    )
    config.train.update(epochs=5, batch=128, lr=1e-3)
    if target == "words":
        # The first sentence of a call has no history. It alone would not teach how often words are
        # said when nothing is known.
        forgotten = {"name": "drop_modality", "modality": "history", "p": 0.1}
        config.data.train_transforms = (forgotten,)
    methods = CALLS if target == "voice" else {"GMU": CALLS["GMU"]}
    config.rows = ConfigDict(rows(modalities, methods, features=FEATURES, hidden=HIDDEN))
    return config


def digits(target):
    """A word, a picture and a clip of one step to the digit of the next, in one of its forms."""
    config = music("jsb")
    config.metric = config.train.select = METRIC[target]
    config.conditions = ConfigDict(
        {
            "features": "a word, MNIST, 24 log-mel frames of FSDD; each wrong in 30 %",
            "split": "no picture and no clip in two splits; the same speakers in all",
            "protocol": "epoch chosen on validation steps",
        }
    )
    config.data = ConfigDict(
        {
            "name": "digit_stream",
            "builder": {"target": target, "n_train": 24_000, "n_valid": 2_000, "n_test": 10_000},
            "preprocess": {
                "audio": {"name": "array"},
                "image": {"name": "picture"},
                "text": {"name": "text", "length": 1, "stop_words": False},
            },
        }
    )
    config.encoders = ConfigDict(
        {
            "audio": {"name": "spectrogram_cnn", "features": 32, "channels": (8, 16, 32)},
            "image": {"name": "image_cnn", "features": 32, "channels": (8, 16, 32)},
            "text": {"name": "text_local", "features": 32, "embed": 16},
        }
    )
    config.train.update(epochs=8, batch=64, lr=3e-3, weight_decay=1e-2)
    found = rows(("text", "image", "audio"), SHOWN, features=32, hidden=64)
    if target != "class":
        found = {name: found[name] for name in GENERATED}
        config.head = DECODERS[target]
        config.data.builder.update(n_train=12_000, n_valid=1_000, n_test=5_000)
        config.train.epochs = 8 if target == "word" else 5
    config.rows = ConfigDict(found)
    return config


def get_config(argument=""):
    """One table of next steps; five seeds."""
    check(argument, *ARGUMENTS)
    if argument in DIGITS:
        config = digits(argument.partition("-")[2] or "class")
    elif argument in ("calls", "words"):
        config = calls("voice" if argument == "calls" else "words")
    else:
        config = music("nottingham" if argument == "nottingham" else "jsb")
    config.name = f"next_step/{argument or 'jsb'}"
    if argument == "smoke":
        config.seeds = (0,)
        config.train.epochs = 1
    return config
