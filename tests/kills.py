"""A small ablation in a process of its own, which the tests stop and kill."""

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from mmfuse.record import dumps, strip_clock

ROOT = Path(__file__).parent.parent
CONFIG = """
from tests import tiny

def get_config():
    config = tiny.config(epochs=EPOCHS, steps_per_dispatch=2, checkpoint_seconds=0.0, patience=0)
    config.rows.gmu = {"fusion": {"name": "gmu", "features": 8}}
    return config
"""
SAME = ("table.json", "params.npz", "ablation.json", "tuning.json", "tuning.csv", "tuning.md")


class Ablation:
    """Three rows of two seeds; every second step is a checkpoint, ``12 * epochs`` in all."""

    program, arguments = "experiments.ablate", ()

    def __init__(self, folder: Path, data_dir: str, epochs: int = 3):
        self.folder, self.data_dir = folder, data_dir
        folder.mkdir(parents=True, exist_ok=True)
        self.config = folder.parent / "killed.py"  # one path: the table tells its command
        self.config.write_text(CONFIG.replace("EPOCHS", str(epochs)))

    @property
    def work(self) -> Path:
        return self.folder / "work"

    @property
    def home(self) -> Path:
        """Where the lock lies."""
        return self.work

    def start(self) -> subprocess.Popen:
        surroundings = os.environ | {
            "MMFUSE_CACHE": str(self.folder.parent / "cache"),
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "",
            "PATH": "",  # no git: an edit or commit meanwhile would be told in the records
        }
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-m", self.program, f"--config={self.config}",
             f"--workdir={self.work}", f"--data_dir={self.data_dir}", *self.arguments],
            cwd=ROOT, env=surroundings, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def checkpoints(self) -> list[str]:
        """The manifests of the steps that are on disk."""
        # os.walk, unlike Path.glob, does not mind folders that are removed meanwhile.
        found = (folder for folder, _, files in os.walk(self.work) if "manifest.json" in files)
        return [os.path.relpath(folder, self.work) for folder in found if "checkpoints" in folder]

    def wait_until_it_trains(self, process: subprocess.Popen) -> None:
        """Returns once the process holds the workdir and has written a checkpoint."""
        before, end = set(self.checkpoints()), time.monotonic() + 120
        while not (self._holder() == process.pid and set(self.checkpoints()) - before):
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < end, "no checkpoint was written"
            time.sleep(0.01)

    def _holder(self) -> int | None:
        try:
            return json.loads((self.home / "lock").read_text())["pid"]
        except (OSError, ValueError):
            return None

    def finish(self) -> str:
        """Runs to the end; returns what it printed."""
        process = self.start()
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        return out

    def kill_after(self, seconds: float, steps: int | None = None) -> bool:
        """Runs and kills; says whether it was still running.

        The seconds count from the start, or from when the process has opened the workdir and
        written so many new ``steps``.
        """
        process, seen = self.start(), set(self.checkpoints())
        old = len(seen)
        while steps is not None and process.poll() is None:
            if self._holder() == process.pid:
                seen |= set(self.checkpoints())
                if len(seen) - old >= steps:
                    break
            time.sleep(0.005)
        try:
            _, err = process.communicate(timeout=seconds)
            assert process.returncode == 0, err
            return False
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return True

    def hashes(self) -> dict[str, str]:
        """sha256 of everything that has to be the same: tables, parameters, records sans clock."""
        found = {}
        for path in sorted(self.work.rglob("*")):
            name = str(path.relative_to(self.work))
            if path.name == "record.json":
                record = json.loads(path.read_text())
                found[name] = sha256(dumps(strip_clock(record)).encode())
            elif path.name in SAME:
                found[name] = sha256(path.read_bytes())
        return found

    def logs(self) -> dict[str, list[dict]]:
        """What the logs say of the training, without clocks and where it was interrupted."""
        found = {}
        for path in sorted(self.work.rglob("log.jsonl")):
            events = map(json.loads, path.read_text().splitlines())
            found[path.parent.relative_to(self.work).as_posix()] = [
                {key: value for key, value in event.items() if key not in ("time", "seconds")}
                for event in events if event["event"] not in ("start", "resume")
            ]  # fmt: skip
        return found

    def leftovers(self) -> list[str]:
        """Files that a finished ablation does not have."""
        kept = {"record.json", "params.npz", "predictions.npz", "log.jsonl", "ablation.json"}
        kept |= {"trials.db", "openings.jsonl"}
        return [
            str(p) for p in self.work.rglob("*")
            if p.is_file() and p.name not in kept and not p.name.startswith(("table.", "tuning."))
        ]  # fmt: skip


class Tuning(Ablation):
    """Two of the rows, with three trials each before: ``8 * epochs`` checkpoints, twice."""

    program, arguments = "experiments.tune", ("--trials=3", "--rows=concat|text")

    @property
    def home(self) -> Path:
        return self.work / "tuning"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
