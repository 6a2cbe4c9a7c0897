import io
import stat
import struct
import tarfile
import zipfile

import pytest

from mmfuse.data import safe
from mmfuse.data.safe import archives
from tests.safe.faults import fault


def zipped(*members, method=zipfile.ZIP_DEFLATED, **fields) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as packed:
        for name, data in members:
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            for field, value in fields.items():
                setattr(info, field, value)
            packed.writestr(info, data)
    return buffer.getvalue()


def tarred(*members, mode="w", **fields) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as packed:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for field, value in fields.items():
                setattr(info, field, value)
            packed.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def test_a_zip_is_listed_and_read(tmp_path):
    (tmp_path / "a.zip").write_bytes(zipped(("d/", b""), ("d/a", b"1" * 99), ("b", b"")))
    with safe.open_zip(tmp_path / "a.zip") as archive:
        assert archive.names == ["d/a", "b"]
        assert (archive.size("d/a"), archive.read("d/a"), archive.read("b")) == (99, b"1" * 99, b"")
        assert archive.open("d/a").read(2) == b"11"
        assert "no 'd/b'; did you mean 'd/a'? (2 files)" in fault(archive.read, "d/b")


@pytest.mark.parametrize(
    "name", ["../evil", "a/../../evil", "/evil", "\\evil", "..\\evil", "C:evil", "C:\\evil"]
)
def test_names_that_lead_out(tmp_path, name):
    assert "leads out of the folder" in fault(safe.open_zip, zipped(("ok", b""), (name, b"")))
    target = tmp_path / "in"
    assert "leads out" in fault(safe.extract_tar, tarred(("ok", b""), (name, b"")), target)
    assert not target.exists()


def test_names_that_come_twice_or_end_early(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate"):
        twice = zipped(("a", b"1"), ("a", b"2"))
    assert "'a' comes twice" in fault(safe.open_zip, twice)
    assert "comes twice" in fault(safe.extract_tar, tarred(("a", b""), ("./a", b"")), tmp_path)
    cut = zipped(("a.txt/evil", b"")).replace(b"a.txt/evil", b"a.txt\0evil")
    assert "leads out" in fault(safe.open_zip, cut)


def test_a_bomb_is_refused_by_what_it_would_unpack_to():
    bomb = zipped(("zeros", bytes(50 << 20)))
    assert len(bomb) < 60_000
    assert "that unpack to 50.0 MiB; at most 500 times" in fault(safe.open_zip, bomb)
    assert "unpacks to 50.0 MiB; at most 16.0 MiB" in fault(safe.open_zip, bomb, max_bytes=16 << 20)
    with safe.open_zip(bomb, max_ratio=2000) as archive:
        assert archive.size("zeros") == 50 << 20


def test_a_member_that_is_longer_than_the_list_says_is_not_read_further():
    data = zipped(("a", bytes(1000)))
    lying = data.replace(struct.pack("<I", 1000), struct.pack("<I", 10))
    with safe.open_zip(lying) as archive:
        assert "not a readable zip member" in fault(archive.read, "a")


def test_too_many_members(tmp_path):
    few = [(f"{n}", b"") for n in range(4)]
    assert "at most 3" in fault(safe.open_zip, zipped(*few), max_members=3)
    assert "at most 3" in fault(safe.extract_tar, tarred(*few), tmp_path, max_members=3)
    safe.open_zip(zipped(*few), max_members=4).__exit__()
    assert len(safe.extract_tar(tarred(*few), tmp_path, max_members=4)) == 4


def test_an_endless_list_is_refused_before_it_is_loaded(monkeypatch):
    many, parsed = zipped(*((f"{n:0200}", b"") for n in range(100))), []
    monkeypatch.setattr(zipfile.ZipInfo, "__init__", lambda *_: parsed.append(1))
    assert "a list of members of" in fault(safe.open_zip, many, max_members=50)
    assert not parsed


def test_links_devices_encryption_and_rare_packing():
    for kind in (stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO):
        linked = zipped(("link", b"/etc/passwd"), external_attr=(kind | 0o777) << 16)
        assert "link or device" in fault(safe.open_zip, linked)
    locked = bytearray(zipped(("a", b"")))
    locked[locked.index(b"PK\x01\x02") + 8] |= 1
    assert "encrypted" in fault(safe.open_zip, bytes(locked))
    assert "packed by method 12" in fault(safe.open_zip, zipped(("a", b""), method=12))


@pytest.mark.parametrize("cut", [0, 1, 10, 60, -1, -22])
def test_a_truncated_zip(cut):
    fault(safe.open_zip, zipped(("a", b"1" * 50))[:cut])


def test_a_zip_is_closed_when_it_is_refused(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"no zip")
    fault(safe.open_zip, tmp_path / "a.zip")  # an open file would be a ResourceWarning, an error


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_tar_is_unpacked(tmp_path, mode):
    data = tarred(("d/a", b"1" * 9999), ("b", b""), mode=mode)
    paths = safe.extract_tar(data, tmp_path / "out")
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == ["out/d/a", "out/b"]
    assert [path.read_bytes() for path in paths] == [b"1" * 9999, b""]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_a_tar(tmp_path, kind):
    data = tarred(("link", b""), type=kind, linkname="inside")
    assert "link or device" in fault(safe.extract_tar, data, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_filter_of_tarfile_is_a_second_guard(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "_check_names", lambda *_: None)
    assert "outside" in fault(safe.extract_tar, tarred(("../evil", b"")), tmp_path / "out")
    assert not (tmp_path / "evil").exists()


def test_a_tar_bomb(tmp_path):
    bomb = tarred(("zeros", bytes(20 << 20)), mode="w:gz")
    assert len(bomb) < 30_000
    out = tmp_path / "out"
    assert "unpacks to 20.0 MiB" in fault(safe.extract_tar, bomb, out, max_bytes=10 << 20)
    huge = tarred(("a", b""), pax_headers={"comment": "x" * (2 << 20)})
    assert "a header of more than 1.0 MiB" in fault(safe.extract_tar, huge, out)
    for cut in (0, 100, 600):
        fault(safe.extract_tar, tarred(("a", b"1" * 99))[:cut], out)
    assert not out.exists()
