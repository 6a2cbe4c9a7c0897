"""Checkpoints of processes that are killed, and of processes that live long."""

import os
import signal
import subprocess
import sys
import time

import jax.numpy as jnp
import numpy as np

from mmfuse.checkpoint import Checkpoints

SAVE = """
import sys, numpy as np
from mmfuse.checkpoint import Checkpoints
checkpoints = Checkpoints(sys.argv[1])
tree = {"x": np.zeros((64, 64), np.float32), "y": {"z": np.zeros(3, np.int32)}}
found = checkpoints.restore_latest(tree)
step = found[0] if found else 0
print(step, flush=True)
while True:
    step += 1
    tree = {"x": np.full((64, 64), step, np.float32), "y": {"z": np.full(3, step, np.int32)}}
    checkpoints.save(step, tree, {"step": step})
    print(step, flush=True)
"""


def test_kill_in_the_middle_of_saving(tmp_path):
    rng = np.random.default_rng(0)
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    reached = 0
    for _ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", SAVE, tmp_path],
            stdout=subprocess.PIPE, env=environment,
        )  # fmt: skip
        assert int(process.stdout.readline()) >= reached
        for _ in range(2):  # two saves at least, however slow the machine
            process.stdout.readline()
        time.sleep(rng.uniform(0.0, 0.3))
        process.send_signal(signal.SIGKILL)
        said = [int(line) for line in process.communicate()[0].split()]
        template = {"x": np.zeros((64, 64), np.float32), "y": {"z": np.zeros(3, np.int32)}}
        step, tree, progress = Checkpoints(tmp_path).restore_latest(template)
        assert step >= max(said, default=reached) >= reached and progress == {"step": step}
        assert (tree["x"] == step).all() and (tree["y"]["z"] == step).all()
        reached = step
    assert reached >= 8


def test_many_runs_in_one_process(tmp_path):
    """33 rows of an ablation leave neither threads nor open files behind."""
    tree = {"x": jnp.arange(4.0)}
    Checkpoints(tmp_path / "warm").save(0, tree, {})
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for row in range(33):
        Checkpoints(tmp_path / str(row)).save(row, tree, {})
        assert Checkpoints(tmp_path / str(row)).restore_latest(tree)[0] == row
    after = len(os.listdir("/proc/self/fd")) if before else 0
    assert after <= before + 4
