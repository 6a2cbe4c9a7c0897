"""Five rows on helpdesk, evaluated with a modality missing or noisy: one point of a curve per run.

Command    python -m experiments.ablate --config=configs/robustness.py:audio_snr=0
               --workdir=runs/robustness-audio_snr=0
Argument   what befalls every evaluation, validation and test, joined by ``+``; training is clean
           ``audio_snr=0``, ``image_snr=0``: noise at 0 dB on what the model sees
           ``drop_text=0.5``: absent with probability 0.5, likewise image and audio
           ``frames_audio=0.3``: frames missing, likewise words of text
           ``swap_image=0.5``: another request's picture
           ``train_drop=0.2``: training drops each modality too, never all of a request
           ``smoke``: one epoch on few examples
"""

from ml_collections import ConfigDict

from configs import helpdesk

MODALITIES = ("text", "image", "audio")
ROWS = ("late average", "concat", "GMU", "MBT")


def corruptions():
    """{name of the argument: value -> entry of ``config.data.eval_transforms``}."""
    found = {}
    for m in MODALITIES:
        found[f"drop_{m}"] = lambda v, m=m: {"name": "drop_modality", "modality": m, "p": v}
        found[f"swap_{m}"] = lambda v, m=m: {"name": "swap", "modality": m, "p": v}
        if m != "image":
            found[f"frames_{m}"] = lambda v, m=m: {"name": "drop_frames", "modality": m, "p": v}
        if m != "text":
            found[f"{m}_snr"] = lambda v, m=m: {"name": "noise", "modality": m, "snr_db": v}
    return found


def get_config(argument=""):
    """The base and rows of ``configs/helpdesk.py`` on ``mixed``, and a product of experts."""
    config = helpdesk.get_config("mixed")
    config.name = "robustness" + (f"/{argument}" if argument else "")
    rows = {name: config.rows[name].to_dict() for name in ROWS}
    rows["PoE"] = {"fusion": {"name": "poe", "features": helpdesk.FEATURES, "hidden": 64}}
    unimodal = {f"{m} only": config.rows[f"{m} only"].to_dict() for m in MODALITIES}
    config.rows = ConfigDict(unimodal | rows)
    known, evaluation, training = corruptions(), [], []
    for part in filter(None, argument.split("+")):
        name, _, value = part.partition("=")
        if name == "smoke":
            config.data.builder.update(n_train=256, n_valid=64, n_test=64)
            config.train.update(epochs=1, eval_batch=64)
            config.seeds = (0, 1)
        elif name == "train_drop":
            drop = {"name": "drop_modality", "p": float(value), "keep_one": True}
            training += [drop | {"modality": m} for m in MODALITIES]
        elif name in known:
            evaluation.append(known[name](float(value)))
        else:
            allowed = ", ".join([*known, "train_drop", "smoke"])
            raise ValueError(f"unknown argument '{part}'; allowed: {allowed}")
    config.data.train_transforms = tuple(training)
    config.data.eval_transforms = tuple(evaluation)
    return config
