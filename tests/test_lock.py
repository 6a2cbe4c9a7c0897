"""One process in a workdir, whoever is killed when."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from mmfuse import lock
from mmfuse.lock import Lock, WorkdirBusy

HOLD = """
import sys, time
from mmfuse.lock import Lock
with Lock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def _hold(folder):
    process = subprocess.Popen([sys.executable, "-c", HOLD, folder], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    return process


def test_lock_is_released(tmp_path):
    for _ in range(2):
        with Lock(tmp_path):
            assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()
        assert os.listdir(tmp_path) == []


def test_second_process_is_refused_and_told_who(tmp_path):
    process = _hold(tmp_path)
    try:
        began = time.monotonic()
        with (
            pytest.raises(WorkdirBusy, match=rf"pid {process.pid} on .+; wait") as error,
            Lock(tmp_path),
        ):
            pass
        assert time.monotonic() - began < 2 and error.value.exit_code == 3
        assert "\n" not in str(error.value)
        assert json.loads((tmp_path / "lock").read_text())["pid"] == process.pid
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_lock_of_a_killed_process_is_taken_over(tmp_path):
    process = _hold(tmp_path)
    process.send_signal(signal.SIGKILL)
    with _eventually(tmp_path):
        assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()
    process.wait()  # until here a zombie: dead, though its pid is still taken
    process.stdout.close()
    assert os.listdir(tmp_path) == []


def _eventually(folder, seconds=5.0):
    """Returns the lock, held, once the kill has arrived."""
    deadline = time.monotonic() + seconds
    while True:
        taken = Lock(folder)
        try:
            taken.__enter__()
        except WorkdirBusy:
            assert time.monotonic() < deadline
            time.sleep(0.02)
            continue
        taken.__exit__()
        return Lock(folder)


def _write(folder, **changes):
    with Lock(folder):
        owner = json.loads((folder / "lock").read_text())
    (folder / "lock").write_text(json.dumps({**owner, **changes}))


def test_same_pid_of_another_process_is_stale(tmp_path):
    _write(tmp_path, ticks=1)
    with Lock(tmp_path):
        pass


def test_lock_of_another_host_is_respected(tmp_path):
    _write(tmp_path, host="elsewhere", pid=2**22 + 1)
    with pytest.raises(WorkdirBusy, match="elsewhere"), Lock(tmp_path):
        pass


@pytest.mark.parametrize("content", ["", "[1]"])
def test_half_written_lock_is_stale_after_a_moment(tmp_path, content):
    (tmp_path / "lock").write_text(content)
    with Lock(tmp_path):
        pass


def test_stale_takeover_lock_is_no_obstacle(tmp_path):
    _write(tmp_path, ticks=1)
    (tmp_path / "lock.takeover").write_text((tmp_path / "lock").read_text())
    with Lock(tmp_path):
        assert sorted(os.listdir(tmp_path)) == ["lock"]


def test_lock_that_somebody_else_took_is_not_removed(tmp_path):
    with Lock(tmp_path):
        other = json.dumps({"pid": os.getpid(), "token": "another"})
        (tmp_path / "lock").write_text(other)
    assert (tmp_path / "lock").read_text() == other


def test_slower_of_two_does_not_replace_the_lock_of_the_faster(tmp_path, monkeypatch):
    """Between our look at a dead lock and our replacing it, a rival has replaced it."""
    _write(tmp_path, ticks=1)
    judge, rival = lock._alive, Lock(tmp_path)

    def overtaken(owner):
        monkeypatch.setattr(lock, "_alive", judge)
        assert not judge(owner)
        rival.__enter__()
        return False

    monkeypatch.setattr(lock, "_alive", overtaken)
    with pytest.raises(WorkdirBusy), Lock(tmp_path):
        pass
    assert json.loads((tmp_path / "lock").read_text())["token"] == rival.token
    rival.__exit__()


RACE = """
import json, os, sys, time
from mmfuse.lock import Lock, WorkdirBusy
folder, rounds = sys.argv[1], int(sys.argv[2])
won = 0
for _ in range(rounds):
    try:
        with Lock(folder):
            descriptor = os.open(folder + "/inside", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            os.close(descriptor)  # fails if two are inside
            time.sleep(0.001)
            os.unlink(folder + "/inside")
            won += 1
            with open(folder + "/lock") as file:
                owner = json.load(file)
        with open(folder + "/lock", "x") as file:  # leave a stale one for the next round
            json.dump({**owner, "ticks": 1}, file)
    except (WorkdirBusy, FileExistsError) as error:
        assert not (isinstance(error, FileExistsError) and "inside" in str(error)), error
print(won)
"""


def test_race_for_a_stale_lock_has_one_winner(tmp_path):
    command = [sys.executable, "-c", RACE, tmp_path, "100"]
    racers = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(4)]
    won = [int(racer.communicate(timeout=50)[0]) for racer in racers]
    assert sum(won) >= 10 and all(racer.returncode == 0 for racer in racers)
