from collections import Counter

import numpy as np
import pytest

from tests import damage, mutate

FAST = ("npz", "csv", "jsonl", "wav", "png", "npy", "jpeg", "zip", "tar", "flac", "ogg", "txt")
IN_A_CHILD = ("pickle", "h5", "mat")


def test_damaged_files_load_or_are_refused_by_a_line(tmp_path):
    """The small form; `python -m tests.mutate --count=1000` is the whole one."""
    kinds = [*FAST * 8, *IN_A_CHILD * 3]
    faults, results = [], Counter()
    for outcome, path in mutate.outcomes(kinds, seed=0, folder=tmp_path):
        results[outcome.result] += 1
        faults += [f"{path.name}: {fault}"] if (fault := mutate.failures(outcome)) else []
    assert not faults
    assert min(results["loaded"], results["refused"]) > 15


@pytest.mark.parametrize("kind", FAST)
def test_what_is_damaged_was_sound(tmp_path, kind):
    for number, data in enumerate(damage.seeds(kind)):
        (tmp_path / f"{number}.{kind}").write_bytes(data)
        mutate.read(kind, str(tmp_path / f"{number}.{kind}"))


@pytest.mark.parametrize("kind", IN_A_CHILD)
def test_what_is_damaged_for_a_child_was_sound(tmp_path, kind):
    (tmp_path / "a").write_bytes(damage.seeds(kind)[-1])
    mutate.read(kind, str(tmp_path / "a"))


def test_a_file_depends_on_its_number_and_the_seed_alone():
    draw = [damage.damaged("png", np.random.default_rng([0, 7])) for _ in range(2)]
    assert draw[0] == draw[1]
    assert draw[0] != damage.damaged("png", np.random.default_rng([1, 7]))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os; os.kill(os.getpid(), 11)", "exit code -11"),
        ("raise KeyError('x')", "KeyError"),
        ("import warnings; warnings.warn('odd')", "odd"),
        ("bytearray(2 << 30)", "MemoryError"),
        ("from mmfuse.errors import InputError; raise InputError('two\\nlines')", "two"),
    ],
)
def test_a_failure_is_seen(tmp_path, monkeypatch, code, words):
    """A reader that misbehaves, in the place of the real one, in a worker of its own."""
    package = tmp_path / "mmfuse/data"
    package.mkdir(parents=True)
    for folder in (package.parent, package):
        (folder / "__init__.py").write_text("")
    (package.parent / "errors.py").write_text("class InputError(ValueError): pass")
    (package / "safe.py").write_text(f"def read_text(path):\n    exec({code!r})")
    monkeypatch.syspath_prepend(tmp_path)
    ((outcome, _),) = mutate.outcomes(["txt"], 0, tmp_path, workers=1)
    assert words in mutate.failures(outcome)


def test_too_much_time_or_memory_is_a_failure():
    assert mutate.failures(mutate.Outcome("png", "loaded", "", 1.9, 1 << 29)) == ""
    assert mutate.failures(mutate.Outcome("png", "loaded", "", 2.1, 0)) == "took 2.10 s"
    assert mutate.failures(mutate.Outcome("png", "refused", "", 0.1, 3 << 29)) == "took 1536 MiB"
