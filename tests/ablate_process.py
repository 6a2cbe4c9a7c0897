"""One of several processes of ``experiments.ablate``, which notes the examples that it reads.

``python -m tests.ablate_process NOTES FLAG...`` with what ``experiments.ablate`` takes. An argument
``then`` begins another launch in the same process; ``stop`` before it ends the one before after its
first dispatch, as if this process had received a signal. NOTES is a file that gets a JSON list, per
launch {"code": exit code, "read": {split: indices in the order of reading}}.
"""

import collections
import itertools
import json
import logging
import os
import sys
from pathlib import Path

import jax
import numpy as np

from experiments import ablate, cli
from mmfuse import processes
from mmfuse.data.loader import Dataset

# What the two ask of the first launch: the others find the processes joined.
_start = processes.start
processes.start = lambda where: None if jax.distributed.is_initialized() else _start(where)


def launch(arguments: list[str]) -> dict:
    """One run of the command."""
    read = collections.defaultdict(list)
    columns = Dataset._columns

    def noted(self, split, indices):
        if isinstance(indices, np.ndarray):  # what is fitted on is read by ranges, in every process
            read[split].extend(map(int, indices))
        return columns(self, split, indices)

    class Stop(cli.StopSignals):
        def __call__(self):
            self.received = 15 if "stop" in arguments else 0
            return super().__call__()

    Dataset._columns, cli_stop = noted, cli.StopSignals
    cli.StopSignals = Stop
    try:
        code = ablate.main([argument for argument in arguments if argument != "stop"])
    finally:
        Dataset._columns, cli.StopSignals = columns, cli_stop
    return {"code": code, "read": read}


if __name__ == "__main__":
    logging.getLogger("absl").setLevel(logging.ERROR)
    jax.config.update("jax_numpy_rank_promotion", "raise")
    notes, *rest = sys.argv[1:]
    groups = itertools.groupby(rest, lambda argument: argument == "then")
    place = f"--distributed={os.environ['PLACE']}"
    launches = [[*arguments, place] for then, arguments in groups if not then]
    Path(notes).write_text(json.dumps([launch(arguments) for arguments in launches]))
