"""One process in a workdir at a time; the lock of a dead process is taken over."""

from __future__ import annotations

import json
import os
import platform
import time
import uuid
from pathlib import Path
from typing import Any

UNREADABLE_SECONDS = 0.5  # how long a lock may stay half-written before it counts as dead
DEEPEST = 3


class WorkdirBusy(RuntimeError):  # noqa: N818
    """Another process holds the workdir; its one line names it. Commands exit with 3."""

    exit_code = 3


class Lock:
    """Holds ``DIR/lock`` while inside the ``with`` block.

    The file is created with O_EXCL and says who holds it. A lock whose process is dead, on this
    host, is replaced. Two processes may see the same dead lock at once, and the slower one must not
    replace the lock of the faster: so replacing needs a lock of its own, on ``DIR/lock.takeover``,
    taken in the same way, and a second look once it is held. The lock of another host cannot be
    judged from here and is always respected.

    Raises:
      WorkdirBusy: on entering, in about a second at most.
    """

    def __init__(self, workdir: str | os.PathLike):
        self.path = Path(workdir) / "lock"
        self.token = uuid.uuid4().hex

    def __enter__(self) -> Lock:
        _acquire(self.path, self.token)
        return self

    def __exit__(self, *error: object) -> None:
        _release(self.path, self.token)


def _acquire(path: Path, token: str, depth: int = 0) -> None:
    while not _create(path, token):
        owner = _read(path)
        if owner is None:
            continue  # released between the two calls
        if depth >= DEEPEST or _alive(owner):
            raise WorkdirBusy(
                f"'{path.parent}' is in use by pid {owner.get('pid')} on {owner.get('host')} since "
                f"{owner.get('started')}; wait for it, or remove '{path}' if it is gone"
            )
        takeover = path.with_name(path.name + ".takeover")
        _acquire(takeover, token, depth + 1)
        try:
            if _read(path) == owner:
                path.unlink()
        finally:
            _release(takeover, token)


def _create(path: Path, token: str) -> bool:
    """Writes the lock if there is none, and says whether it did."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        return False
    pid = os.getpid()
    started = time.strftime("%Y-%m-%d %H:%M:%S")
    owner = {"pid": pid, "host": platform.node(), "started": started, "token": token}
    with os.fdopen(descriptor, "w") as file:
        file.write(json.dumps({**owner, "ticks": _process(pid)[1]}))
    return True


def _read(path: Path) -> dict[str, Any] | None:
    """Returns what the lock says: None if it is gone, {} if it stays unreadable."""
    deadline = time.monotonic() + UNREADABLE_SECONDS
    while True:
        try:
            owner = json.loads(path.read_text())
            if isinstance(owner, dict):
                return owner
        except FileNotFoundError:
            return None
        except ValueError:
            pass
        if time.monotonic() > deadline:
            return {}
        time.sleep(0.02)


def _alive(owner: dict[str, Any]) -> bool:
    """Says whether the lock's owner may still run."""
    pid = owner.get("pid")
    if not isinstance(pid, int):
        return False
    if owner.get("host") != platform.node():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    state, ticks = _process(pid)
    # A pid is given out again; the time at which the process began is not.
    return state != "Z" and (None in (ticks, owner.get("ticks")) or ticks == owner["ticks"])


def _process(pid: int) -> tuple[str | None, int | None]:
    """Returns a process's state letter and when it began, in ticks since boot (Linux only)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return fields[0], int(fields[19])
    except (OSError, ValueError, IndexError):
        return None, None


def _release(path: Path, token: str) -> None:
    """Removes the lock if it is still ours; a forked child has the token, but another pid."""
    owner = _read(path)
    if owner and (owner.get("token"), owner.get("pid")) == (token, os.getpid()):
        path.unlink(missing_ok=True)
