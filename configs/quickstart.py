"""Eleven rows on the generated customer-service task: the first table to run.

Command    make quickstart
           python -m experiments.ablate --config=configs/quickstart.py --workdir=runs/quickstart
Argument   ``smoke``: the same rows, one epoch on few examples, to see that everything runs
"""

from configs import helpdesk


def get_config(argument=""):
    """``configs/helpdesk.py`` on its variant ``mixed``; small enough for two CPU cores."""
    config = helpdesk.get_config("mixed")
    config.name = "quickstart"
    if argument == "smoke":
        config.data.builder.update(n_train=256, n_valid=64, n_test=64)
        config.train.update(epochs=1, eval_batch=64)
        config.seeds = (0, 1)
    elif argument:
        raise ValueError(f"unknown argument '{argument}'; allowed: smoke")
    return config
