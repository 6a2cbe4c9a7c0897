"""Preparing a dataset again, in another process and another folder, writes the same bytes."""

import json
import os
import subprocess
import sys
from pathlib import Path

from mmfuse.data.datasets import DATASETS
from tests import own_manifest, prepare_all


def start(folder, hash_seed, *arguments):
    """A process that prepares all sets, with an order of sets and dicts of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.prepare_all", str(folder), *map(str, arguments)],
        env=os.environ | {"PYTHONHASHSEED": hash_seed},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    )


def test_real_files_are_prepared_twice_to_the_same_bytes(raw_data, tmp_path):
    own_manifest.fabricate(tmp_path / "own", 90)
    arguments = [os.path.abspath(raw_data), tmp_path / "own" / "my.csv"]
    pair = [start(tmp_path / seed, seed, *arguments) for seed in ("1", "2")]
    said = [process.communicate(timeout=600) for process in pair]
    assert [process.returncode for process in pair] == [0, 0], "\n".join(sum(said, ()))
    first, second = (json.loads(out) for out, _ in said)
    assert {form.split()[0] for form in first} == set(DATASETS)
    assert len({sha256 for sha256, _ in first.values()}) == len(first), "no two are alike"
    assert all(files >= 2 for _, files in first.values())
    assert first == second
    assert len(first) == sum(len(prepare_all.forms(name, "", False)) for name in DATASETS)
