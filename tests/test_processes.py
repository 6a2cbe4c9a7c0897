"""Two processes with a device each compute what one process with two devices does."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import ablate
from mmfuse import processes
from mmfuse.data.loader import epoch_order
from mmfuse.errors import InputError
from mmfuse.parallel import Devices
from tests import tiny

pytest_plugins = ["tests.commands"]

CONFIG = """
from tests import tiny

def get_config():
    return tiny.config(steps_per_dispatch=3)
"""
FLAGS = ["--rows=concat", "--config.parallel.mode=jit"]
STREAMED = "--config.data.resident_bytes=0"


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("localhost", 0))
        return listening.getsockname()[1]


def start(number, port, notes, *arguments):
    """Process ``number`` of two, with one device."""
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=1", "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "tests.ablate_process", notes, *arguments],
        env=os.environ | flags | {"PLACE": f"localhost:{port},{number}/2"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    )


def trained(workdir) -> dict:
    """What a launch has left: the records without what tells where and when, and the arrays."""
    left = {}
    for seed in (0, 1):
        folder = workdir / "runs" / "concat" / f"seed_{seed}"
        record = json.loads((folder / "record.json").read_text())
        left[seed] = {
            "curves": record["curves"],
            "metrics": record["metrics"],
            "selected": record["selected"],
            "arrays": [dict(np.load(folder / name)) for name in ("params.npz", "predictions.npz")],
        }
    return left


def expected_reads(number) -> list[int]:
    """The training examples of process ``number`` from the second dispatch of three on, sorted."""
    reads = []
    for epoch in (0, 1):
        order = np.stack([epoch_order(seed, epoch, 100, 16) for seed in (0, 1)])  # [R, 7, 16]
        order = np.pad(order, ((0, 0), (0, 2), (0, 0)))  # three dispatches of three steps
        half = np.maximum(order[:, 3 if epoch == 0 else 0 :, 8 * number : 8 * number + 8], 0)
        reads += half.ravel().tolist()
    return sorted(reads)


def evaluated(number, n) -> list[int]:
    """The examples of a split of ``n`` that process ``number`` evaluates, padding included."""
    places = np.arange(-(-n // 16) * 16).reshape(-1, 2, 8)[:, number]
    return sorted(np.minimum(places, n - 1).ravel().tolist())


def close(found, expected):
    """The same numbers, to 1e-5, and the same of all else."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            close(found[key], expected[key])
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for pair in zip(found, expected, strict=True):
            close(*pair)
    elif isinstance(expected, float | np.ndarray):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    else:
        assert found == expected


@pytest.fixture(scope="module")
def flags(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    (folder / "mine.py").write_text(CONFIG)
    tiny.dataset(tmp_path_factory)
    return [
        f"--config={folder / 'mine.py'}",
        *FLAGS,
        f"--data_dir={tiny.data_dir(tmp_path_factory)}",
    ]


@pytest.mark.usefixtures("surroundings")
def test_two_processes_compute_what_one_does(flags, tmp_path):
    """Streamed, stopped by a signal to one of them and resumed; and with the data in memory."""
    cut, resident = f"--workdir={tmp_path / 'cut'}", f"--workdir={tmp_path / 'resident'}"
    streamed = [*flags, STREAMED, cut, "--config.parallel.devices=0"]
    inside = [*flags, resident, "--config.parallel.devices=0"]
    port = free_port()
    notes = [str(tmp_path / f"notes{number}") for number in (0, 1)]
    launches = [
        [*streamed, *(["stop"] if number else []), "then", *streamed, "then", *inside]
        for number in (0, 1)
    ]
    pair = [start(number, port, notes[number], *launches[number]) for number in (0, 1)]
    said = [process.communicate(timeout=300) for process in pair]
    assert [process.returncode for process in pair] == [0, 0], "\n".join(sum(said, ()))
    told = [json.loads(Path(path).read_text()) for path in notes]
    assert [[launch["code"] for launch in launches] for launches in told] == [[143, 0, 0]] * 2
    assert "| concat" in said[0][0]
    assert "| concat" not in said[1][0]
    one = tmp_path / "one"
    assert ablate.main([*flags, STREAMED, f"--workdir={one}", "--config.parallel.devices=2"]) == 0
    expected = trained(one)
    close(trained(tmp_path / "cut"), expected)
    close(trained(tmp_path / "resident"), expected)
    for number in (0, 1):
        resumed, inside = (launch["read"] for launch in told[number][1:])
        assert sorted(resumed["train"]) == expected_reads(number)
        assert "train" not in inside
        # 40 and 30 examples in batches of 16; what fills the last one is read as its last example
        for read, epochs in ((resumed, 2), (inside, 1)):
            assert sorted(read["valid"]) == sorted(epochs * evaluated(number, 40))
            assert sorted(read["test"]) == evaluated(number, 30)


def test_one_process_is_told_nothing_new():
    """No copy, no communication: the very same objects."""
    value = object()
    assert processes.told(lambda: value) is value
    assert (processes.part(), processes.first(), processes.largest(-3)) == ((0, 1), True, -3)
    processes.check_same("anything", value)
    with pytest.raises(KeyError, match="nothing"):
        processes.told(lambda: {}["nothing"])


@pytest.mark.parametrize(
    "where",
    ["", "localhost", "localhost:1234", "localhost:1,2/2", ":1,0/2", "host:x,0/2", "h:1,-1/2"],
)
def test_a_place_that_is_none_is_refused(where):
    with pytest.raises(InputError, match=r"--distributed='.*is not HOST:PORT,NUMBER/PROCESSES"):
        processes.start(where)


def test_no_cluster_is_said_in_one_line(monkeypatch):
    with pytest.raises(InputError, match="--distributed=cluster: the processes cannot be joined"):
        processes.start(processes.CLUSTER)


def test_several_processes_use_all_devices(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(InputError, match=r"parallel.devices is 3.*all of their 8; leave it at 0"):
        Devices("jit", 3)
    with pytest.raises(InputError, match="every process must have the same number of devices"):
        Devices("jit")


def test_an_error_of_the_first_process_is_raised_in_all(monkeypatch):
    sent = []
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(processes, "_broadcast", lambda content: sent.append(content) or content)
    with pytest.raises(KeyError, match="lost"):
        processes.told(lambda: {}["lost"])

    def receive(content):
        assert len(content) == len(sent[0]), "all must call with the same length"
        return sent.pop(0)

    monkeypatch.setattr(jax, "process_index", lambda: 1)
    monkeypatch.setattr(processes, "_broadcast", receive)
    with pytest.raises(InputError, match="process 0 failed: 'lost'"):
        processes.told(lambda: pytest.fail("only process 0 may look"))


def test_processes_that_differ_are_refused(monkeypatch):
    monkeypatch.setattr(processes, "told", lambda make: "theirs")
    with pytest.raises(InputError, match="the processes differ in code: give all of them the same"):
        processes.check_same("code", "ours")
