"""The child process of `sandbox`: limits itself, reads one file, writes plain arrays.

    python -P -m mmfuse.data.safe.child READER SOURCE TARGET MAX_BYTES SECONDS ARGUMENTS

Readers that could be led astray run here: one process for one file.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
from pathlib import Path

from mmfuse.data.safe import tree
from mmfuse.data.safe.limits import MIB, DataError, size_text
from mmfuse.data.safe.sandbox import REFUSED

READERS = {  # module and function: (path, label, max_bytes, **arguments) -> tree
    "pickle": ("mmfuse.data.safe.pickles", "load"),
    "h5": ("mmfuse.data.safe.hdf5", "load"),
    "mat": ("mmfuse.data.safe.matlab", "load"),
}
HEADROOM = 3  # times max_bytes of address space: the file, what is unpacked, a copy in between
STARTUP = 512 * MIB  # of address space for the interpreter, where /proc does not tell


def main(reader: str, path: str, target: str, max_bytes: int, seconds: float, arguments: dict):
    """The child: limits itself, reads, writes; prints the fault and exits with 4 if there is one.

    Modules are imported before the limits are set, so that these bound the file alone.
    """
    module, function = READERS[reader]
    load = getattr(importlib.import_module(module), function)
    label = arguments.pop("label")
    _limit(max_bytes, seconds)
    try:
        found = load(path, label, max_bytes, **arguments)
        tree.write(target, found, max_bytes, label)
    except MemoryError:
        most = size_text(max_bytes)
        _refuse(f"{label}: asks for more memory than a file of at most {most} may need")
    except DataError as error:
        memory = isinstance(error.__cause__, MemoryError)
        most = f"; at most {size_text(max_bytes)} are read" if memory else ""
        _refuse(f"{error}{most}")


def _refuse(message: str) -> None:
    sys.stdout.buffer.write(message.encode("utf-8", "replace"))
    sys.stdout.flush()
    os._exit(REFUSED)  # not sys.exit: freeing what a hostile file built may take long, or crash


def _limit(max_bytes: int, seconds: float) -> None:
    memory = _mapped() + HEADROOM * max_bytes
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    used = resource.getrusage(resource.RUSAGE_SELF)
    ticks = int(used.ru_utime + used.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (ticks, ticks + 1))
    written = 2 * max_bytes + MIB
    resource.setrlimit(resource.RLIMIT_FSIZE, (written, written))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _mapped() -> int:
    """The address space this process has now, in bytes."""
    statistics = Path("/proc/self/statm")
    if not statistics.exists():
        return STARTUP
    return int(statistics.read_text().split()[0]) * resource.getpagesize()


if __name__ == "__main__":
    main(*sys.argv[1:4], int(sys.argv[4]), float(sys.argv[5]), json.loads(sys.argv[6]))
