"""A real ablation that is stopped and killed again and again gives the bits of an unbroken one."""

import signal
import time

import numpy as np
import pytest

from tests import tiny
from tests.kills import Ablation

KILLS = 3


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    tiny.dataset(tmp_path_factory)  # prepared here, in one process
    return tmp_path_factory.mktemp("kill"), tiny.data_dir(tmp_path_factory)


@pytest.fixture(scope="module")
def whole(place):
    """The unbroken run; it fills the compilation cache."""
    ablation = Ablation(place[0] / "whole", place[1])
    ablation.finish()
    assert len(ablation.hashes()) == 2 * 6 + 2
    assert ablation.leftovers() == []
    kinds = ["epoch"] * 3 + ["selected", "finished"]
    assert [[e["event"] for e in log] for log in ablation.logs().values()] == [kinds] * 6
    return ablation


def test_sigkill_at_random_times(place, whole):
    rng, killed = np.random.default_rng(), Ablation(place[0] / "killed", place[1])
    for _ in range(KILLS):  # 36 checkpoints in all, so it cannot finish before the last kill
        assert killed.kill_after(rng.uniform(0, 0.2), steps=int(rng.integers(0, 8)))
    killed.finish()
    assert killed.hashes() == whole.hashes()
    assert killed.logs() == whole.logs()
    assert killed.leftovers() == []


def test_sigint_and_sigterm_save_and_the_same_command_goes_on(place, whole):
    stopped = Ablation(place[0] / "stopped", place[1])
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        process = stopped.start()
        stopped.wait_until_it_trains(process)
        start = time.monotonic()
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        assert time.monotonic() - start < 20
        assert (process.returncode, out) == (code, "")
        assert f"{number.name}: saving" in err
        assert "Traceback" not in err
        assert "interrupted: the same command goes on from here" in err
        assert stopped.checkpoints()
        assert not (stopped.work / "table.json").exists()
    assert "| concat" in stopped.finish()
    assert stopped.hashes() == whole.hashes()
    assert stopped.logs() == whole.logs()


def test_a_second_process_does_not_disturb_the_first(place, whole):
    ablation = Ablation(place[0] / "twice", place[1])
    first = ablation.start()
    ablation.wait_until_it_trains(first)
    second = ablation.start()
    _, err = second.communicate(timeout=60)
    if first.poll() is None:
        assert second.returncode == 3
        assert err.splitlines()[-1].startswith("error: ")
        assert f"in use by pid {first.pid}" in err
    first.communicate(timeout=120)
    assert first.returncode == 0
    assert ablation.hashes() == whole.hashes()
