import collections
import hashlib
import pickle
import struct

import numpy as np
import pytest

from mmfuse.data import safe
from mmfuse.data.safe import child, pickles, sandbox, tree
from mmfuse.data.safe.limits import MIB, DataError
from tests.safe.faults import fault

RNG = np.random.default_rng(0)
TABLE = (
    RNG.normal(size=(3, 4)),
    {"ids": ["a", "中文"], 3: [1, 2.5, None, True, b"\xff\0"]},
    collections.OrderedDict(x=np.arange(3, dtype=np.uint8), y=np.float32(1.5)),
    np.array(["ab", "c"]),
    np.array([[1, "a"], [None, 2.5]], object),
)
READ = (
    TABLE[0],
    TABLE[1],
    {"x": TABLE[2]["x"], "y": np.array(1.5, np.float32)},
    TABLE[3],
    [[1, "a"], [None, 2.5]],
)
# What Python 2 and numpy 1 wrote for (numpy.arange(3), "caf\xe9"), protocol 2.
PYTHON_2 = (
    b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x00cnumpy\nndarray\nq\x01K\x00\x85U\x01b"
    b"\x87Rq\x02(K\x01K\x03\x85cnumpy\ndtype\nq\x03U\x02i8K\x00K\x01\x87Rq\x04(K\x03U\x01<NNNJ"
    b"\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x18" + struct.pack("<3q", 0, 1, 2) + b"tb"
    b"U\x04caf\xe9\x86."
)


def load(path, data: bytes):
    """Reads in this process, as the child does, which is quicker; no limits of memory."""
    path.joinpath("p").write_bytes(data)
    return pickles.load(str(path / "p"), "p", MIB)


def through(path, value, max_bytes=MIB):
    """What comes out of the file by which the child hands over a value."""
    tree.write(path / "t.npz", value, max_bytes, "p")
    return tree.read(path / "t.npz", max_bytes)


def same(left, right):
    assert type(left) is type(right)
    if isinstance(left, np.ndarray):
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)
    elif isinstance(left, dict):
        assert list(left) == list(right)
        same(list(left.values()), list(right.values()))
    elif isinstance(left, (list, tuple)):
        assert len(left) == len(right)
        for item, other in zip(left, right, strict=True):
            same(item, other)
    else:
        assert left == right


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol_is_read(tmp_path, protocol):
    same(through(tmp_path, load(tmp_path, pickle.dumps(TABLE, protocol))), READ)


@pytest.mark.parametrize("core", [b"numpy.core", b"numpy._core"])
def test_python_2_and_the_names_of_both_numpys(tmp_path, core):
    array, text = load(tmp_path, PYTHON_2.replace(b"numpy.core", core))
    same(array, np.arange(3))
    assert text == "café"


def test_a_file_is_read_in_a_child_and_kept_once(tmp_path, monkeypatch):
    path, cache = tmp_path / "a.pickle", tmp_path / "cache"
    path.write_bytes(pickle.dumps(TABLE, 2))
    same(safe.read_pickle(path, cache=cache), READ)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert [kept.name for kept in cache.iterdir()] == [f"pickle-v1-{digest}.npz"]
    monkeypatch.setattr(sandbox, "convert", None)  # it is not needed again
    same(safe.read_pickle(path, cache=cache), READ)


class Call:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def stack_global(module: str, name: str, *arguments: str) -> bytes:
    parts = [pickle.SHORT_BINUNICODE + bytes([len(s)]) + s.encode() for s in (module, name)]
    texts = [pickle.SHORT_BINUNICODE + bytes([len(s)]) + s.encode() for s in arguments]
    return b"\x80\x04" + b"".join(parts) + b"\x93(" + b"".join(texts) + b"tR."


MALICIOUS = {
    "os.system": lambda sprung: b"cos\nsystem\n(V touch " + sprung + b"\ntR.",
    "posix.system": lambda sprung: stack_global("posix", "system", f"touch {sprung.decode()}"),
    "builtins.eval": lambda sprung: stack_global(
        "builtins", "eval", f"open({sprung.decode()!r}, 'w')"
    ),
    "__builtin__.eval": lambda sprung: b"c__builtin__\neval\n(Vopen('" + sprung + b"','w')\ntR.",
    "numpy.load": lambda sprung: pickle.dumps(Call(np.load, sprung.decode())),
    "numpy.zeros": lambda sprung: stack_global("numpy", "zeros"),
    "numpy.ndarray.tofile": lambda sprung: stack_global("numpy", "ndarray.tofile"),
    "collections.OrderedDict.fromkeys": lambda sprung: stack_global(
        "collections", "OrderedDict.fromkeys"
    ),
    "functools.partial": lambda sprung: stack_global("functools", "partial"),
}


@pytest.mark.parametrize("name", MALICIOUS)
def test_a_name_that_is_not_allowed_is_refused_and_nothing_runs(tmp_path, name):
    sprung = tmp_path / "sprung"
    message = fault(load, tmp_path, MALICIOUS[name](str(sprung).encode()))
    assert f"refused: it wants to load '{name}'" in message
    assert not sprung.exists()


def test_a_malicious_file_runs_nothing_in_the_child_either(tmp_path):
    sprung, path = tmp_path / "sprung", tmp_path / "evil.pickle"
    path.write_bytes(MALICIOUS["os.system"](str(sprung).encode()))
    assert f"{path}: refused: it wants to load 'os.system'" in fault(safe.read_pickle, path)
    fault(safe.read_pickle, path, cache=tmp_path / "cache")
    assert not sprung.exists()
    assert list((tmp_path / "cache").iterdir()) == []


def test_the_trap_would_spring_without_the_guard(tmp_path):
    sprung = tmp_path / "sprung"
    pickle.loads(MALICIOUS["__builtin__.eval"](str(sprung).encode())).close()
    assert sprung.exists()


def test_other_ways_out_of_the_file(tmp_path):
    assert "outside of the file" in fault(load, tmp_path, b"\x80\x04Vx\nQ.")
    assert "not a readable pickle" in fault(load, tmp_path, b"\x80\x02\x82\x01.")  # extension
    assert "not a readable pickle" in fault(load, tmp_path, b"\x80\x05\x97.")  # buffer
    assert "encoding 'zlib'" in fault(
        load, tmp_path, stack_global("_codecs", "encode", "a", "zlib")
    )


BOMBS = {
    "a length of 1 TiB": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b".",
    "a shape of 2^36": b"\x80\x02cnumpy\nndarray\n(\x8a\x05"
    + (1 << 36).to_bytes(5, "little")
    + b"tR.",
    "a place of 2^32": b"\x80\x02Nr\xff\xff\xff\xff.",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_a_matter_of_size(tmp_path, name):
    path = tmp_path / "bomb"
    path.write_bytes(BOMBS[name])
    message = fault(safe.read_pickle, path)
    assert "more memory" in message or "truncated" in message, message
    assert "256.0 MiB" in message or "truncated" in message, message


def test_a_file_that_is_too_large_is_not_opened(tmp_path):
    path = tmp_path / "a.pickle"
    path.write_bytes(pickle.dumps(np.zeros(1000)))
    assert "at most 1000 bytes are read" in fault(safe.read_pickle, path, max_bytes=1000)


def test_what_refers_to_itself_again_and_again(tmp_path):
    lists = [1] * 10
    for _ in range(20):
        lists = [lists] * 10
    with pytest.raises(DataError, match="1000000 values"):
        through(tmp_path, lists)
    lists = []
    lists.append(lists)
    with pytest.raises(DataError, match="more than 32 levels"):
        through(tmp_path, lists)
    shared = np.zeros(100_000)
    assert through(tmp_path, [shared] * 1000)[-1].shape == shared.shape  # held once
    endless = np.broadcast_to(np.zeros(1), (1 << 40,))
    with pytest.raises(DataError, match=r"more than 1.0 MiB"):
        through(tmp_path, endless)
    with pytest.raises(DataError, match=r"more than 1.0 MiB"):
        through(tmp_path, ["x" * 600_000] * 2)


def test_types_that_are_not_handed_over(tmp_path):
    for value, name in [({1}, "set"), (1j, "complex"), (np.dtype("f4"), "DType"), (dict, "type")]:
        with pytest.raises(DataError, match=f"holds a .*{name}"):
            through(tmp_path, [value])
    with pytest.raises(DataError, match="64 bits"):
        through(tmp_path, 1 << 64)
    with pytest.raises(DataError, match="dtype"):
        through(tmp_path, np.zeros(2, "M8[s]"))


def test_a_dict_that_shadows_its_methods(tmp_path):
    data = b"\x80\x02ccollections\nOrderedDict\n)R}Vitems\nccollections\nOrderedDict\nsb."
    assert through(tmp_path, load(tmp_path, data)) == {}


def test_truncated_and_no_pickle(tmp_path):
    whole = pickle.dumps(TABLE, 2)
    for cut in (0, 1, 50, len(whole) - 1):
        fault(load, tmp_path, whole[:cut])
    assert "No such file" in fault(safe.read_pickle, tmp_path / "none")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "crashed (SIGSEGV)"),
        ("import time; time.sleep(60)", "not read within 1.4 s"),
        ("raise KeyError('x')", "its reader failed (KeyError: 'x')"),
    ],
)
def test_whatever_happens_to_the_child_is_told(tmp_path, monkeypatch, code, words):
    (tmp_path / "a.pickle").write_bytes(b"N.")
    (tmp_path / "mmfuse_trial.py").write_text(code)
    monkeypatch.setattr(sandbox, "CHILD", "mmfuse_trial")
    monkeypatch.setattr(sandbox, "ROOT", tmp_path)
    monkeypatch.setattr(sandbox, "GRACE", 1 if "sleep" in code else 30)
    assert words in fault(safe.read_pickle, tmp_path / "a.pickle", seconds=0.1)


def test_keys_chosen_to_collide_are_stopped_in_time(tmp_path):
    path = tmp_path / "slow"
    whole = (n * (2**61 - 1) for n in range(60_000))  # all with hash 0: some 10 s of comparing
    pairs = b"".join(b"\x8a\x0a" + number.to_bytes(10, "little") + b"N" for number in whole)
    path.write_bytes(b"\x80\x02}(" + pairs + b"u.")
    assert "stopped after 0.1 s of processor time" in fault(safe.read_pickle, path, seconds=0.1)


def test_every_reader_of_the_child_exists():
    for module, function in child.READERS.values():
        assert callable(getattr(__import__(module, fromlist=["_"]), function))


def test_the_pickle_of_mosi(raw_data):
    path = f"{raw_data}/mosi/input/audio.pickle"
    train, train_label, test, test_label, longest, train_length, test_length = safe.read_pickle(
        path
    )
    assert (train.shape, test.shape, longest) == ((62, 63, 73), (31, 63, 73), 63)
    assert (train_label.shape, test_label.shape) == ((62, 63), (31, 63))
    assert (sum(train_length), sum(test_length)) == (1447, 752)
