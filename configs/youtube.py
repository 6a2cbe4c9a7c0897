"""Fusion when most input is missing: YouTube opinion videos, 83 % of audio and 96 % of video gone.

Command    python -m experiments.ablate --config=configs/youtube.py --workdir=runs/youtube
               --raw_data=FOLDER
Argument   ``smoke``: one epoch, one seed, to see that everything runs
Caution    a test of missing modalities: most examples have none, and 60 test videos make one
           standard error of an accuracy 6 points
"""

from configs import check, ict_mmmo


def get_config(argument=""):
    """``configs/ict_mmmo.py`` with the rows over three classes; no text, as training has none."""
    check(argument, "smoke")
    config = ict_mmmo.get_config(argument)
    config.name = "youtube"
    config.data.name = "youtube"
    del config.data.builder.task
    del config.data.preprocess.audio.sentinel
    del config.data.train_transforms  # enough is missing
    return config
