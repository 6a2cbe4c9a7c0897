"""Several processes that train one table together: who they are, and what they agree on.

Every process runs the same command, on one machine or on many, and computes the same numbers; each
reads its share of every batch (``host_part``). Process 0 alone reads and writes the workdir, and
tells the others what they must know of it. With one process all of this is nothing.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from mmfuse.errors import InputError

CLUSTER = "cluster"


def start(where: str) -> None:
    """Joins the other processes, before any device is used.

    Args:
      where: ``HOST:PORT,NUMBER/PROCESSES``: where process 0 listens, and which one of how many this
        is; or "cluster", where JAX asks the scheduler (Slurm, Open MPI, Kubernetes, Cloud TPU).
    """
    given = {} if where == CLUSTER else _address(where)
    try:
        jax.distributed.initialize(**given)
    except (ValueError, RuntimeError) as error:
        line = " ".join(str(error).split())[:200]
        raise InputError(
            f"--distributed={where}: the processes cannot be joined: {line}; "
            "say --distributed=HOST:PORT,NUMBER/PROCESSES"
        ) from error
    # Connects them now: a first exchange later, when one is still busy with data, may time out.
    told(lambda: None)


def _address(where: str) -> dict[str, Any]:
    address, _, place = where.rpartition(",")
    host, _, port = address.rpartition(":")
    number, _, processes = place.partition("/")
    good = host and all(n.isascii() and n.isdigit() for n in (port, number, processes))
    if not good or int(number) >= int(processes):
        raise InputError(
            f"--distributed='{where}' is not HOST:PORT,NUMBER/PROCESSES, such as "
            "localhost:1234,0/2 and localhost:1234,1/2 for two processes"
        )
    return {
        "coordinator_address": address,
        "num_processes": int(processes),
        "process_id": int(number),
    }


def first() -> bool:
    """Whether this process is the one that writes."""
    return jax.process_index() == 0


def part() -> tuple[int, int]:
    """(number of this process, number of processes)."""
    return jax.process_index(), jax.process_count()


def told(make: Callable[[], Any]) -> Any:
    """What ``make`` returns in process 0, in every process; the others do not call it.

    The value must be one that can be pickled. Where it fails, every process raises an error: the
    first its own, the others an InputError that tells it.
    """
    if jax.process_count() == 1:
        return make()
    value = failure = None
    if first():
        try:
            value = make()
        except Exception as error:  # raised below, once the others know
            failure = error
    content = pickle.dumps((value, failure and f"process 0 failed: {failure}"))
    length = int.from_bytes(_broadcast(len(content).to_bytes(8, "little")), "little")
    told_value, said = pickle.loads(_broadcast(content if first() else bytes(length)))
    if failure is not None:
        raise failure
    if said is not None:
        raise InputError(said)
    return told_value


def _broadcast(content: bytes) -> bytes:
    """The bytes of process 0; those of the others have the same length."""
    return multihost_utils.broadcast_one_to_all(np.frombuffer(content, np.uint8)).tobytes()


def whole(shares: Any) -> Any:
    """Arrays in full, of which every process has its share of the leading axis; numpy."""
    if jax.process_count() == 1:
        return jax.tree.map(np.asarray, shares)
    return multihost_utils.process_allgather(shares, tiled=True)


def largest(number: int) -> int:
    """The largest of the numbers, int32, that the processes call this with."""
    if jax.process_count() == 1:
        return number
    return int(multihost_utils.process_allgather(np.int32(number)).max())


def check_same(what: str, value: Any) -> None:
    """Raises InputError in every process unless all of them call it with the same value."""
    if largest(told(lambda: value) != value):
        raise InputError(
            f"the processes differ in {what}: give all of them the same command, code and files"
        )
