"""Makes damaged files of every format that mmfuse reads, reads them, and says what happened.

    python -m tests.mutate --count=1000 --seed=0

Files are fabricated, then damaged: flipped bits, cuts, splices, edits near the start, lengths and
numbers that promise too much; half of them are sealed again (checksums of PNG and zip), so that
the damage reaches what lies behind the checksum. Each is read in a worker process of limited
memory. A file may load or be refused by one line of `InputError`; another exception, a crash, a
warning, more than 2 s or more than 1 GiB is a failure. Seconds are those of the processor, of the
worker and of its children, so that a busy machine changes nothing; by the clock a file has 60.
Exits with 1 if anything failed, and keeps those files.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import multiprocessing
import os
import re
import resource
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.damage import damaged

SECONDS, MEMORY = 2.0, 1 << 30
HANG = 60.0  # seconds after which a worker is given up
KINDS = ("npz", "pickle", "csv", "jsonl", "wav", "png", "h5")
MORE = ("npy", "jpeg", "mat", "zip", "tar", "flac", "ogg", "txt")


def read(kind: str, path: str) -> None:
    """Reads a file of a kind by the function that users of mmfuse read it with."""
    from mmfuse.data import safe

    if kind == "zip":
        with safe.open_zip(path) as archive:
            for name in archive.names:
                archive.read(name)
    elif kind == "tar":
        with tempfile.TemporaryDirectory() as folder:
            safe.extract_tar(path, folder)
    elif kind == "h5":
        safe.read_h5(path, "d1")
    else:
        reader = {"txt": "text", "png": "picture", "jpeg": "picture"}.get(kind, kind)
        reader = "sound" if kind in ("wav", "flac", "ogg") else reader
        getattr(safe, f"read_{reader}")(path)


@dataclasses.dataclass
class Outcome:
    """What came of a file: loaded, refused, or failed with the reason; seconds, and bytes."""

    kind: str
    result: str
    message: str
    seconds: float
    memory: int


def _work(connection) -> None:
    """A worker: reads the files it is sent the paths of, until None comes."""
    importlib.import_module("mmfuse.data.safe")  # before the limit is set, and time counts
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY, mapped + MEMORY))
    warnings.simplefilter("error")
    while (task := connection.recv()) is not None:
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
        start = _seconds()
        result, message = _try(*task)
        connection.send(Outcome(task[0], result, message, _seconds() - start, _peak()))


def _seconds() -> float:
    return sum(os.times()[:4])


def _try(kind: str, path: str) -> tuple[str, str]:
    from mmfuse.errors import InputError

    try:
        read(kind, path)
    except InputError as error:
        message = str(error)
        return ("refused" if message.isprintable() and path in message else "failed"), message
    except BaseException as error:
        return "failed", repr(error)
    return "loaded", ""


def _peak() -> int:
    """The most memory that this process held since the last mark, or any child of it ever."""
    status = Path("/proc/self/status").read_text()
    own = 1024 * int(re.search(r"VmHWM:\s+(\d+)", status)[1])
    return max(own, 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)


class Worker:
    """A process that reads one file after the other, replaced when a file kills it."""

    def __init__(self):
        self._context = multiprocessing.get_context("spawn")
        self._start()

    def _start(self) -> None:
        self._connection, end = self._context.Pipe()
        self._process = self._context.Process(target=_work, args=(end,), daemon=True)
        self._process.start()
        end.close()

    def send(self, kind: str, path: str) -> None:
        self._task = (kind, path)
        self._connection.send(self._task)

    def receive(self) -> Outcome:
        try:
            if self._connection.poll(HANG):
                return self._connection.recv()
            message = f"no answer within {HANG} s"
        except EOFError:
            self._process.join()
            message = f"crashed: exit code {self._process.exitcode}"
        self._process.kill()
        self._start()
        return Outcome(self._task[0], "failed", message, HANG, 0)

    def close(self) -> None:
        self._connection.send(None)
        self._process.join()


def outcomes(
    kinds: list[str], seed: int, folder: Path, workers: int = 2
) -> Iterator[tuple[Outcome, Path]]:
    """Damages and reads a file of each of ``kinds``; file n depends on n and the seed alone."""
    crew = [Worker() for _ in range(workers)]
    try:
        for start in range(0, len(kinds), workers):
            paths = []
            for worker, number in zip(crew, range(start, len(kinds)), strict=False):
                kind = kinds[number]
                path = folder / f"{number}.{kind}"
                path.write_bytes(damaged(kind, np.random.default_rng([seed, number])))
                worker.send(kind, str(path))
                paths.append((worker, path))
            for worker, path in paths:
                yield worker.receive(), path
    finally:
        for worker in crew:
            worker.close()


def failures(outcome: Outcome) -> str:
    """What is wrong with an outcome, or an empty string."""
    if outcome.result == "failed":
        return outcome.message
    if outcome.seconds > SECONDS:
        return f"took {outcome.seconds:.2f} s"
    return f"took {outcome.memory >> 20} MiB" if outcome.memory > MEMORY else ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default=",".join(KINDS + MORE))
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    names = options.kinds.split(",")
    kinds = [names[number % len(names)] for number in range(options.count)]
    folder = Path(tempfile.mkdtemp(prefix="mutated-"))
    counts, slowest, largest, failed = Counter(), Counter(), Counter(), 0
    for outcome, path in outcomes(kinds, options.seed, folder, options.workers):
        counts[outcome.kind, outcome.result] += 1
        slowest[outcome.kind] = max(slowest[outcome.kind], outcome.seconds)
        largest[outcome.kind] = max(largest[outcome.kind], outcome.memory >> 20)
        if fault := failures(outcome):
            failed += 1
            print(f"{path}: {fault}")
        else:
            path.unlink()
    for kind in names:
        print(
            f"{kind:7} loaded {counts[kind, 'loaded']:5} refused {counts[kind, 'refused']:5} "
            f"failed {counts[kind, 'failed']:3}  at most {slowest[kind]:.2f} s, "
            f"{largest[kind]} MiB"
        )
    print(f"{options.count} files, {failed} failures, at most {max(slowest.values()):.2f} s")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
