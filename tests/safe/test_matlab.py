import numpy as np
import pytest
from scipy import io, sparse

from mmfuse.data import safe
from mmfuse.data.safe import matlab
from mmfuse.data.safe.limits import MIB
from tests.safe.faults import fault

VALUES = np.arange(6.0).reshape(2, 3)


def cells(*values, shape=None):
    array = np.empty(len(values), object)
    array[:] = values
    return array.reshape(shape or (1, -1))


def load(path, values, **kwargs):
    """Writes variables and reads them in this process, as the child does, which is quicker."""
    io.savemat(path / "a.mat", values, **kwargs)
    return matlab.load(str(path / "a.mat"), "a.mat", MIB)


@pytest.mark.parametrize("packed", [False, True])
def test_numbers_text_and_cells_are_read(tmp_path, packed):
    values = {"x": VALUES, "n": np.array([[3]], np.uint8), "s": np.array(["ab", "cd"])}
    read = load(tmp_path, values | {"f": np.array([[True]])}, do_compression=packed)
    np.testing.assert_array_equal(read["x"], VALUES)
    assert (read["n"].dtype, read["f"].dtype, list(read["s"])) == (np.uint8, np.uint8, ["ab", "cd"])
    row = load(tmp_path, {"c": cells(VALUES, VALUES[:1])}, do_compression=packed)["c"]
    assert [cell.shape for cell in row] == [(2, 3), (1, 3)]
    column = load(tmp_path, {"c": cells(VALUES, VALUES[:1], shape=(2, 1))})["c"]
    assert [cell.shape for cell in column] == [(2, 3), (1, 3)]
    square = load(tmp_path, {"c": cells(*[VALUES] * 4, shape=(2, 2))})["c"]
    assert [len(rows) for rows in square] == [2, 2]
    assert load(tmp_path, {"c": cells(cells(VALUES))})["c"][0][0].shape == (2, 3)


def test_in_a_child(tmp_path):
    io.savemat(tmp_path / "a.mat", {"c": cells(VALUES)})
    np.testing.assert_array_equal(safe.read_mat(tmp_path / "a.mat")["c"][0], VALUES)


def test_what_is_refused(tmp_path):
    assert "'s' is a struct" in fault(load, tmp_path, {"s": {"field": 1}})
    assert "a struct" in fault(load, tmp_path, {"c": cells(np.zeros(1, [("a", "O")]))})
    assert "'m' is a sparse" in fault(load, tmp_path, {"m": sparse.csc_matrix(VALUES)})
    assert "'x' takes 1.9 MiB" in fault(load, tmp_path, {"x": np.zeros(2_000_000, np.uint8)})
    assert "not a MATLAB v5 file" in fault(load, tmp_path, {"x": VALUES}, format="4")


def test_another_version_a_cut_and_a_flipped_bit(tmp_path):
    io.savemat(tmp_path / "a.mat", {"x": VALUES}, do_compression=True)
    whole = bytearray((tmp_path / "a.mat").read_bytes())
    for cut in (0, 20, 130, len(whole) - 4):
        (tmp_path / "b.mat").write_bytes(whole[:cut])
        assert "MATLAB v5 file" in fault(matlab.load, str(tmp_path / "b.mat"), "b.mat", MIB)
    whole[124:126] = b"\0\2"
    (tmp_path / "b.mat").write_bytes(whole)
    assert "use read_h5" in fault(matlab.load, str(tmp_path / "b.mat"), "b.mat", MIB)


def test_upstream_file(raw_data):
    read = safe.read_mat(f"{raw_data}/cub_image_text/cub_googlenet_doc2vec_c10.mat")
    assert [cell.shape for cell in read["X"]] == [(600, 1024), (600, 300)]
    assert read["Y"].shape == (600, 1)
