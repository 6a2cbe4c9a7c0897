"""Films for users: MovieLens 100K with ids, profiles, genres, plots and posters.

Command    python -m experiments.ablate --config=configs/recommendation.py
               --workdir=runs/recommendation --raw_data=FOLDER
Argument   none or ``u1``: the rating of a film by a user, on the official fold u1; ``u2`` to ``u5``
           the other folds; 10 % of the fold's base choose the epoch and chose all settings
           ``folds``: all five in one table, the rows that need neither plots nor posters
           ``items1`` to ``items5``: the rating of a film that training has never seen, of the first
           to the last fifth of the films; ``unseen``: all five in one table
           ``top``: which film a user liked, out of all; every list leaves out what the user rated
           ``smoke``: one epoch, one seed, to see that everything runs
Rows       ids: the product of user and film, ``(W u + 1) * (V i + 1)`` to begin with, holds both
           biases and a factorisation; with more modalities the product has more factors
Hardware   2 CPU cores; a row of ``u1`` takes about half a minute for five seeds
Published  GC-MC (van den Berg et al. 2017) on u1: .910 from ids and .905 with profiles and genres;
           its users and films are sums over their ratings, here they are ids
"""

from ml_collections import ConfigDict

from configs import check, rows

FEATURES, HIDDEN = 32, 64
FOLDS = ("u1", "u2", "u3", "u4", "u5")
COLD = ("items1", "items2", "items3", "items4", "items5")
IDS = ("user", "item")
CONTENT = ("genre", "plot", "poster")
METHODS = {
    "product": {"name": "product"},
    "GMU": {"name": "gmu"},
    "MLB": {"name": "mlb", "width": FEATURES, "tanh": False},
    "LMF": {"name": "lmf", "rank": 4},
    "modality attention": {"name": "modality_attention"},
}
USERS, ITEMS, HISTORY = 943, 1682, 50  # as the card of the dataset says
PREPROCESS = {
    "user": {"name": "identity", "size": USERS},
    "item": {"name": "identity", "size": ITEMS},
    "history": {"name": "identity", "size": ITEMS, "length": HISTORY},
    "profile": {"name": "features"},
    "genre": {"name": "features", "scale": "none"},
    "plot": {"name": "text", "length": 24, "min_count": 20},
    "poster": {"name": "picture", "size": 8},
}
ENCODERS = {
    **{ids: {"name": "embedding", "features": FEATURES} for ids in ("user", "item", "history")},
    "profile": {"name": "mlp", "features": FEATURES, "hidden": 32},
    "genre": {"name": "mlp", "features": FEATURES, "hidden": 32},
    "plot": {"name": "text_local", "features": FEATURES, "embed": 32},
    "poster": {"name": "image_cnn", "features": FEATURES, "channels": (8,)},
}


def table(task, fold, ids, groups, conditions, methods=METHODS):
    """A table of one task: a row a modality, rows that read some, and methods that read all.

    ``groups`` {name of a row: modalities} are fused as a product.
    """
    modalities = (*ids, "profile", *CONTENT)
    methods = rows(modalities, methods, features=FEATURES, hidden=HIDDEN)
    alone = {name: row for name, row in methods.items() if name.endswith(" only")}
    some = {
        name: {"fusion": {"name": "product", "features": FEATURES}, "modalities": chosen}
        for name, chosen in groups.items()
    }
    return ConfigDict(
        {
            "seeds": (0, 1, 2, 3, 4),
            "baseline": next(iter(groups)),
            "metric": "rmse",
            "conditions": conditions,
            "data": {
                "name": "movielens",
                "builder": {"task": task, "fold": fold, "poster_scale": 4},
                "preprocess": {m: dict(PREPROCESS[m]) for m in modalities},
            },
            "encoders": {m: dict(ENCODERS[m]) for m in modalities},
            "train": {
                "epochs": 40,
                "batch": 512,
                "eval_batch": 2000,
                # Ids overfit, rare ones first: the penalty must hold them back, not a decay.
                "optimizer": "adam",
                "lr": 5e-3,
                "weight_decay": 6e-4,
                "clip_norm": 1.0,
                "select": "rmse",
                "patience": 8,
            },
            "parallel": {"mode": "pmap", "devices": 0},
            "rows": alone | some | {n: row for n, row in methods.items() if n not in alone},
        }
    )


def rating(fold):
    """Films and users that training knows."""
    groups = {
        "ids": IDS,
        "ids + profile + genre": (*IDS, "profile", "genre"),
        "ids + plot": (*IDS, "plot"),
        "ids + poster": (*IDS, "poster"),
    }
    conditions = {
        "features": "ids of user and film, and by row profile, genres, plot and poster",
        "split": f"{fold}, official; a tenth of its base is kept for validation",
        "protocol": "epoch chosen on validation ratings",
    }
    return table("rating", fold, IDS, groups, conditions)


def folds(config, over, rows):
    """The same with all folds in one table, by which every rating is tested once."""
    config.data.folds = {"fold": over}
    config.conditions.split = config.conditions.split.replace(over[0], f"{over[0]} to {over[-1]}")
    config.rows = rows
    return config


def official():
    """Ids, profiles and genres alone, as published models read."""
    config = rating(FOLDS[0])
    kept = ("user only", "item only", "ids", "ids + profile + genre")
    added = {"fusion": {"name": "late_average", "features": FEATURES}, "modalities": IDS}
    rows = {name: config.rows[name] for name in kept} | {"ids, late average": added}
    return folds(config, FOLDS, rows)


def cold(fold):
    """Films without any rating in training: what they are like must do."""
    some = [(m,) for m in CONTENT] + [("genre", "plot"), ("genre", "poster"), ("plot", "poster")]
    groups = {f"user + {' + '.join(chosen)}": ("user", *chosen) for chosen in some}
    conditions = {
        "features": "id and profile of the user; by row genres, plot and poster of the film",
        "split": f"{fold}: a fifth of the films, none of them in training",
        "protocol": "epoch chosen on validation films",
    }
    methods = {name: METHODS[name] for name in ("product", "LMF")}
    config = table("cold", fold, ("user",), groups, conditions, methods)
    # 1,200 films are few. A plot is known by its rare words, by heart: a word of less than some
    # twenty films (60 ratings a film) tells a film and nothing of another.
    config.data.preprocess.plot.min_count = 1000
    config.encoders.plot = {"name": "embedding", "features": FEATURES}
    config.train.update(epochs=10, patience=4, lr=1e-3, weight_decay=3e-3)
    return config


def unseen():
    """All five parts of the films; a user's mean is the least that content must improve on."""
    config = cold(COLD[0])
    one = [f"user + {content}" for content in CONTENT]
    kept = ("user only", *one, "user + genre + plot", "product", "late average", "concat")
    return folds(config, COLD, {name: config.rows[name] for name in kept})


def top():
    """Twenty films for a user."""
    ids = ("user", "history")
    conditions = {
        "features": "id and profile of the user, the last 50 films liked in training, their "
        "genres, plot and poster of the last one",
        "split": "u1, official; a tenth of its base is kept for validation",
        "protocol": "full ranking of 1,682 films; epoch chosen on validation ratings",
    }
    methods = {name: METHODS[name] for name in ("product", "modality attention")}
    config = table("top", "u1", ids, {"user + history": ids}, conditions, methods)
    for content in ("profile", "plot", "poster"):  # of the last film alone: too little for a list
        del config.rows[f"{content} only"]
    config.metric = config.train.select = "ndcg20"
    config.train.update(epochs=10, patience=3, weight_decay=3e-5)
    return config


def get_config(argument=""):
    """One table of recommendations; five seeds."""
    whole = {"folds": official, "unseen": unseen, "top": top}
    check(argument, *FOLDS, *COLD, *whole, "smoke")
    if argument in whole:
        config = whole[argument]()
    elif argument in COLD:
        config = cold(argument)
    else:
        config = rating(argument if argument in FOLDS else "u1")
    config.name = f"recommendation/{argument or 'u1'}"
    if argument == "smoke":
        config.seeds = (0,)
        config.train.epochs = 1
    return config
