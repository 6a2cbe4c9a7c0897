import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmfuse.data import safe
from mmfuse.data.safe import limits
from mmfuse.errors import InputError
from tests.safe.faults import fault

DATA = Path(limits.__file__).parents[1]
PATH_READERS = {
    "npy": safe.read_npy,
    "npz": safe.read_npz,
    "pickle": safe.read_pickle,
    "h5": lambda path: safe.read_h5(path, "d1"),
    "mat": safe.read_mat,
    "zip": safe.open_zip,
    "tar": lambda path: safe.extract_tar(path, "unused"),
    "picture": safe.read_picture,
    "sound": safe.read_sound,
    "text": safe.read_text,
    "csv": safe.read_csv,
    "jsonl": safe.read_jsonl,
}


@pytest.mark.parametrize("kind", PATH_READERS)
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, kind):
    read = PATH_READERS[kind]
    assert f"{tmp_path}/none: can not be read (No such file" in fault(read, tmp_path / "none")
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", "/dev/zero"):
        assert fault(read, path) == f"{path}: not a regular file"
    assert "not a path" in fault(read, "a\0b")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    assert "1.0 TiB; at most" in fault(read, tmp_path / "sparse")


def test_names_and_reasons_stay_on_one_line():
    assert fault(safe.read_json, b"?", name="a\nb\x1b[31m").startswith("a b?[31m: not JSON")
    assert len(limits.one_line("x" * 1000)) == 160
    assert limits.size_text(1 << 36) == "64.0 GiB"
    assert limits.size_text(1023) == "1023 bytes"


def test_a_data_error_is_an_input_error_and_keeps_its_cause():
    assert issubclass(safe.DataError, InputError)
    for cause in (KeyError("x"), MemoryError(), RecursionError("deep")):
        with pytest.raises(safe.DataError) as caught, limits.decoding("f", "thing"):
            raise cause
        assert caught.value.__cause__ is cause
    with pytest.raises(InputError, match="as it was"), limits.decoding("f", "thing"):
        raise InputError("as it was")


def test_reading_needs_no_jax():
    code = "import sys, mmfuse.data.safe; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


UNSAFE = {
    "pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "joblib",
    "marshal",
    "shelve",
    "yaml",
    "torch",
}


def unsafe_calls(tree: ast.AST):
    """Names of what a module uses that runs what a file says."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            yield from (name for name in names if name.split(".")[0] in UNSAFE)
        if isinstance(node, ast.Call):
            if any(
                k.arg == "allow_pickle" and ast.unparse(k.value) != "False" for k in node.keywords
            ):
                yield "allow_pickle"
            if isinstance(node.func, ast.Name) and node.func.id in ("eval", "exec"):
                yield node.func.id


@pytest.mark.parametrize(
    "code", ["import yaml", "from pickle import loads", "np.load(f, allow_pickle=True)", "eval(x)"]
)
def test_the_search_for_unsafe_reading_finds(code):
    assert list(unsafe_calls(ast.parse(code)))


def test_nothing_else_that_reads_data_loads_what_can_run():
    """YAML (`!!python/object/apply`), pickles and `allow_pickle` have no place but `pickles`."""
    found = {
        path.relative_to(DATA).as_posix(): name
        for path in DATA.rglob("*.py")
        for name in unsafe_calls(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert found == {"safe/pickles.py": "pickle"}
