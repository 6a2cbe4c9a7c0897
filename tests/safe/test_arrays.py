import io
import struct
import zipfile

import numpy as np
import pytest

from mmfuse.data import safe
from tests.safe.faults import fault

ARRAYS = {
    "whole": np.arange(24, dtype=np.int16).reshape(2, 3, 4),
    "big endian": np.arange(3, dtype=">f8"),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "text": np.array(["a", "中文", "😀"]),
    "bytes": np.array([b"ab", b"c"]),
    "flags": np.array([True, False]),
    "complex": np.array([1j]),
    "no axes": np.array(1.5),
    "no rows": np.zeros((0, 5), np.float32),
    "no letters": np.array(["", ""]).astype("<U0"),
}


def npy(array, **kwargs) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asarray(array), **kwargs)
    return buffer.getvalue()


def header(text: str) -> bytes:
    """A file that is a header alone."""
    text = text.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def zipped(members: dict[str, bytes], method=zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as packed:
        for name, data in members.items():
            packed.writestr(name, data)
    return buffer.getvalue()


@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_comes_back_as_numpy_wrote_it(tmp_path, name):
    np.save(tmp_path / "a.npy", ARRAYS[name])
    for read in (safe.read_npy(tmp_path / "a.npy"), safe.read_npy(npy(ARRAYS[name]))):
        assert read.dtype == ARRAYS[name].dtype
        np.testing.assert_array_equal(read, ARRAYS[name])
        assert read.flags.writeable


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_archive_of_arrays_comes_back(tmp_path, save):
    save(tmp_path / "a.npz", **ARRAYS)
    read = safe.read_npz(tmp_path / "a.npz")
    assert list(read) == list(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(read[name], array)


def test_python_objects_are_refused_and_nothing_is_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("sprung").write_text, ("!",))

    trap = npy(np.array([Trap()], object))
    assert "dtype object; allowed are" in fault(safe.read_npy, trap)
    assert "dtype object" in fault(safe.read_npz, zipped({"a.npy": trap}))
    assert not (tmp_path / "sprung").exists()
    for other in (np.zeros(2, [("a", "f4"), ("b", "O")]), np.zeros(2, "M8[s]")):
        assert "allowed are" in fault(safe.read_npy, npy(other))


def test_a_header_that_promises_more_than_the_file_holds_is_refused_unread():
    eight_tib = header("{'descr': '<f8', 'fortran_order': False, 'shape': (1099511627776,)}")
    assert "promises 8.0 TiB" in fault(safe.read_npy, eight_tib)
    assert "promises 8.0 TiB" in fault(safe.read_npz, zipped({"a.npy": eight_tib}))
    whole = npy(np.zeros(100))
    assert "promises 800 bytes" in fault(safe.read_npy, whole[:-1])
    assert "promises 800 bytes" in fault(safe.read_npy, whole + b"\0")


def test_elements_without_bytes_count_too():
    endless = header("{'descr': '<U0', 'fortran_order': False, 'shape': (1099511627776,)}")
    assert "at most" in fault(safe.read_npy, endless)


@pytest.mark.parametrize(
    "text",
    [
        "{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (True,)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (0, 4611686018427387904, 9)}",
        "{'descr': ('<f8', (2,)), 'fortran_order': False, 'shape': (0,)}",
        "{'descr': '<f8', 'fortran_order': False}",
        "__import__('os').system('true')",
        "(" * 100,
        "",
    ],
)
def test_headers_that_are_none(text):
    fault(safe.read_npy, header(text))


def test_format_and_length_of_a_header():
    assert "format (3, 0)" in fault(safe.read_npy, npy(1.0).replace(b"\x01\x00", b"\x03\x00", 1))
    long = b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1)
    assert "header of 4294967295 bytes" in fault(safe.read_npy, long)
    for cut in range(12):
        fault(safe.read_npy, npy(1.0)[:cut])
    assert safe.read_npy(npy([1.0, 2.0], version=(2, 0))).tolist() == [1.0, 2.0]


def test_bytes_that_are_no_value_of_their_dtype():
    assert "neither 0 nor 1" in fault(safe.read_npy, npy([True])[:-1] + b"\x02")
    for code in (0x110000, 0xD800, 0xFFFFFFFF):
        text = npy(np.array(["a"]))[:-4] + struct.pack("<I", code)
        assert "no Unicode character" in fault(safe.read_npy, text)
    swapped = npy(np.array(["a"], ">U1"))
    assert safe.read_npy(swapped).tolist() == ["a"]


def test_limits_and_members_of_an_archive():
    data = zipped({"a.npy": npy(np.zeros(1000)), "b.npy": npy(np.zeros(1000))})
    assert len(safe.read_npz(data, max_bytes=16_000)) == 2
    assert "b.npy: shape (1000,), float64; at most" in fault(safe.read_npz, data, max_bytes=15_999)
    endless = zipped({"a.npy": npy(np.zeros(10**6))})
    assert "unpacks to 7.6 MiB; at most" in fault(safe.read_npz, endless, max_bytes=10)
    assert "holds 'a.txt'" in fault(safe.read_npz, zipped({"a.txt": b""}))


def test_a_flipped_bit_is_told_by_the_checksum():
    data = bytearray(zipped({"a.npy": npy(np.zeros(1000))}, zipfile.ZIP_STORED))
    data[5000] ^= 1
    assert "CRC" in fault(safe.read_npz, bytes(data))


def test_a_missing_key_is_told_with_the_nearest_and_all():
    arrays = {"text": 1, "vision": 2}
    assert safe.pick(arrays, "vision", "f.npz") == 2
    message = fault(safe.pick, arrays, "vison", "f.npz")
    assert message == "f.npz: has no 'vison'; did you mean 'vision'?; there are: text, vision"


def test_rows_per_modality_and_split_are_counted():
    train = {"text": [0] * 1284, "audio": np.zeros((1283, 2))}
    test = {"text": [0] * 686, "audio": np.zeros((686, 2))}
    safe.check_rows("mosi", {"test": test})
    message = fault(safe.check_rows, "mosi", {"train": train, "test": test})
    assert "mosi: modalities differ" in message
    assert "(train: text 1284, audio 1283)" in message
