import h5py
import numpy as np
import pytest

from mmfuse.data import safe
from mmfuse.data.safe import hdf5
from mmfuse.data.safe.limits import MIB
from tests.safe.faults import fault

VALUES = np.arange(24, dtype=np.float64).reshape(4, 6)


@pytest.fixture
def path(tmp_path):
    """A file with a dataset of each kind, and others that are refused."""
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["secret"] = VALUES
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["d1"] = VALUES
        file.create_dataset("group/packed", data=VALUES, chunks=(2, 6), compression="gzip")
        file["whole"] = np.arange(3, dtype=np.int16)
        file["soft"] = h5py.SoftLink("/d1")
        file["external"] = h5py.ExternalLink("other.h5", "/secret")
        file.create_dataset("outside", (4,), "f8", external=[("other.bin", 0, 32)])
        layout = h5py.VirtualLayout((4, 6), "f8")
        layout[:] = h5py.VirtualSource("other.h5", "secret", (4, 6))
        file.create_virtual_dataset("virtual", layout)
        file["words"] = ["a", "b"]
        file["records"] = np.zeros(2, [("a", "f4")])
        file["none"] = h5py.Empty("f4")
        file.create_dataset("bomb", (1 << 40,), "f8", chunks=(1 << 10,), compression="gzip")
        file.create_dataset("chunk", (1,), "u1", maxshape=(None,), chunks=(1 << 28,))
    return tmp_path / "a.h5"


def load(path, key):
    """Reads in this process, as the child does, which is quicker."""
    return hdf5.load(str(path), "a.h5", MIB, key)


def test_numbers_are_read(path):
    for key in ("d1", "/d1", "group/packed"):
        np.testing.assert_array_equal(load(path, key), VALUES)
    assert load(path, "whole").dtype == np.int16


def test_in_a_child(path):
    np.testing.assert_array_equal(safe.read_h5(path, "group/packed"), VALUES)
    assert "'dl'; did you mean 'd1'?; there are: bomb, chunk" in fault(safe.read_h5, path, "dl")


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("soft", "link to elsewhere"),
        ("external", "link to elsewhere"),
        ("external/x", "link to elsewhere"),
        ("outside", "other files"),
        ("virtual", "other files"),
        ("words", "allowed are numbers"),
        ("records", "allowed are numbers"),
        ("none", "allowed are numbers"),
        ("group", "a group; there are: packed"),
        ("d1/x", "there is no 'x'"),
        ("", "a group"),
        ("bomb", "takes 8.0 TiB"),
        ("chunk", "chunks of 256.0 MiB"),
    ],
)
def test_what_is_refused(path, key, words):
    assert words in fault(load, path, key)


def test_truncated_and_no_file(path, tmp_path):
    whole = path.read_bytes()
    for cut in (0, 8, 100, len(whole) // 2):
        (tmp_path / "cut.h5").write_bytes(whole[:cut])
        assert "not a readable HDF5 file" in fault(load, tmp_path / "cut.h5", "d1")


def test_upstream_files(raw_data):
    values = safe.read_h5(f"{raw_data}/ict_mmmo_mfn/video_valid.h5", "d1")
    assert (values.shape, values.dtype) == ((40, 20, 36), np.float64)
