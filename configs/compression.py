"""Which fusion survives compression best? Written and spoken digits, eight ways to be smaller.

Command    python -m experiments.ablate --config=configs/compression.py --workdir=runs/compression
               --raw_data=FOLDER
Argument   ``smoke``: two fusions, few pairs, one epoch and one seed, to see that everything runs
Task       the pairs, noise and encoders of ``configs/avmnist.py``, the encoders three times as wide
Rows       five fusions, each alone and
             pruned           the largest 20 % of its weights, chosen once, after training
             pruned slowly    the same, while it trains (from 20 % to 70 % of the steps)
             half the channels  of every layer, dropped in the middle, then trained on
             int8             weights in eight bits, one scale a channel, after training
             int8 aware       the same, and the second half of training knows it
             pruned + int8    both, after training
             low rank         every layer's kernel as two thin ones of half its numbers
           concat also as a narrower model (small), and that one taught by LMF's answers
           (distilled); each modality alone, taught so too. Each is compared with its own row as it
           was; ``experiments.survival`` ranks the fusions by what they lose
Size       3,000 pairs and 6 epochs, so that 46 rows take a quarter of an hour on one CPU core: all
           scores are lower than those of ``configs/avmnist.py``
"""

from ml_collections import ConfigDict

from configs import avmnist, check

FEATURES, SMALL = 96, 32
TEACHER, STUDENT = "LMF", "concat"  # LMF is the best of the five by validation accuracy
FUSIONS = {
    "late average": {"name": "late_average"},
    STUDENT: {"name": "concat", "hidden": 2 * FEATURES},
    "GMU": {"name": "gmu"},
    TEACHER: {"name": "lmf", "rank": 4},
    "self + cross attention": {"name": "self_cross"},
}
COMPRESSIONS = {
    "pruned": {"name": "prune", "sparsity": 0.8},
    "pruned slowly": {"name": "prune", "sparsity": 0.8, "begin": 0.2, "end": 0.7, "every": 10},
    "half the channels": {"name": "prune_channels", "share": 0.5, "begin": 0.5, "end": 0.5},
    "int8": {"name": "int8"},
    "int8 aware": {"name": "int8_aware", "begin": 0.5},
    "pruned + int8": {"name": "prune_int8", "sparsity": 0.8},
    "low rank": {"name": "low_rank", "keep": 0.5},
}
DISTILLED = {"name": "distil", "teacher": TEACHER, "temperature": 2.0, "weight": 1.0}
NARROW = {
    "image": {"features": SMALL, "channels": (4, 8, 16)},
    "audio": {"features": SMALL, "channels": (4, 8)},
}


def compressed(name, fusion):
    """The rows of one fusion."""
    rows = {name: {"fusion": fusion}}
    for how, entry in COMPRESSIONS.items():
        rows[f"{name}, {how}"] = {"fusion": fusion, "compression": entry, "baseline": name}
    return rows


def narrow(name, fusion):
    """The rows of one fusion as a narrower model, by itself and taught."""
    fields = fusion | {"features": SMALL, "hidden": 2 * SMALL}
    row = {"fusion": fields, "encoders": NARROW, "baseline": name}
    return {f"{name}, small": row, f"{name}, distilled": row | {"compression": DISTILLED}}


def alone(modality):
    """The rows of one modality: as it is, and taught."""
    name = f"{modality} only"
    row = {"fusion": {"name": "unimodal", "modality": modality, "features": FEATURES}}
    return {name: row, f"{name}, distilled": row | {"compression": DISTILLED, "baseline": name}}


def get_config(argument=""):
    """All rows of five fusions and of two modalities alone; five seeds."""
    check(argument, "smoke")
    config = avmnist.get_config(argument)
    config.name = "compression"
    for encoder in config.encoders.values():
        encoder.features = FEATURES
    rows = alone("image") | alone("audio")
    for name in (STUDENT, TEACHER) if argument == "smoke" else FUSIONS:
        rows |= compressed(name, {"features": FEATURES, **FUSIONS[name]})
    rows |= narrow(STUDENT, FUSIONS[STUDENT])
    config.rows = ConfigDict(rows)
    if not argument:
        config.data.builder.update(n_train=3000)
        config.train.update(epochs=6)
    return config
