"""One of several processes of ``experiments.ablate``, which notes the examples that it reads.

``python -m tests.ablate_process NOTES FLAG...`` takes what ``experiments.ablate`` does, and reads
from PLACE in the environment which process it is. An argument ``then`` begins another launch; with
``stop`` a launch ends after its first dispatch, as if this process alone had received a signal.
NOTES gets a JSON list, of each launch {"code": exit code, "read": {split: indices}}.
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


def launch(arguments: list[str]) -> dict:
    """One run of the command."""
    read = collections.defaultdict(list)
    columns = Dataset._columns

    def noted(self, split, indices):
        if isinstance(indices, np.ndarray):  # what is fitted on is read by ranges, in every process
            read[split].extend(map(int, indices))
        return columns(self, split, indices)

    class Stop(cli.StopSignals):
        asked = 0  # once before the row, then after each dispatch

        def __call__(self):
            self.asked += 1
            self.received = 15 if "stop" in arguments and self.asked > 1 else 0
            return super().__call__()

    Dataset._columns, cli_stop = noted, cli.StopSignals
    cli.StopSignals = Stop
    try:
        code = ablate.main([argument for argument in arguments if argument != "stop"])
    finally:
        Dataset._columns, cli.StopSignals = columns, cli_stop
    return {"code": code, "read": read}


def join_once(where: str, start=processes.start) -> None:
    """The later launches find the processes joined."""
    if not jax.distributed.is_initialized():
        start(where)


if __name__ == "__main__":
    processes.start = join_once
    logging.getLogger("absl").setLevel(logging.ERROR)
    jax.config.update("jax_numpy_rank_promotion", "raise")
    notes, *rest = sys.argv[1:]
    groups = itertools.groupby(rest, lambda argument: argument == "then")
    place = f"--distributed={os.environ['PLACE']}"
    launches = [[*arguments, place] for then, arguments in groups if not then]
    Path(notes).write_text(json.dumps([launch(arguments) for arguments in launches]))
