import dataclasses
import gzip
import hashlib
import os
import shutil
import zipfile

import pytest

from mmfuse.data import raw
from mmfuse.data.raw import RawFile, RawFolder
from mmfuse.errors import InputError


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


CONTENT = b"upstream " * 400
SOUNDS = {f"sounds/{n}.wav": f"sound {n}".encode() * 9 for n in "abc"}
LISTING = "".join(f"{sha256(data)}  {name}\n" for name, data in sorted(SOUNDS.items()))


def a_file(name="set/a.bin", url=None):
    return RawFile(name, url, len(CONTENT), sha256(CONTENT))


def a_folder(url=None):
    return RawFolder("birds", "sounds/*.wav", url, 3, sha256(LISTING.encode()))


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    monkeypatch.delenv(raw.ENVIRONMENT, raising=False)


@pytest.fixture
def folder(tmp_path):
    """A raw folder with one plain file, one gzip file, and one folder of sounds."""
    root = tmp_path / "raw"
    (root / "set").mkdir(parents=True)
    (root / "set/a.bin").write_bytes(CONTENT)
    (root / "set/a.gz").write_bytes(gzip.compress(CONTENT, mtime=0))
    for name, data in SOUNDS.items():
        (root / "birds" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "birds" / name).write_bytes(data)
    (root / "birds/SHA256SUMS").write_text(LISTING)
    return root


def fault(source, folder) -> str:
    """The one line that `locate` says about a faulty source."""
    with pytest.raises(InputError) as caught:
        raw.locate([source], str(folder), "unused")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_files_and_folders_are_found_by_argument_or_environment(folder, monkeypatch):
    sources = [a_file(), a_file("set/a.gz"), a_folder()]
    found = raw.locate(sources, str(folder), "unused")
    assert found == {source.path: folder / source.path for source in sources}
    monkeypatch.setenv(raw.ENVIRONMENT, str(folder))
    assert raw.locate(sources, None, "unused") == found


def test_the_gzip_wrapper_does_not_count_but_what_is_in_it_does(folder):
    path = folder / "set/a.gz"
    path.write_bytes(gzip.compress(CONTENT, compresslevel=1, mtime=12345))
    raw.check(a_file("set/a.gz"), path)
    path.write_bytes(gzip.compress(CONTENT[:-1] + b"!", mtime=0))
    assert "altered: expected sha256" in fault(a_file("set/a.gz"), folder)


def test_a_missing_folder_is_told_with_its_origin(folder, monkeypatch):
    with pytest.raises(InputError, match=r"'/nowhere' \(--raw_data\) does not exist"):
        raw.locate([a_file()], "/nowhere", "unused")
    monkeypatch.setenv(raw.ENVIRONMENT, "/nowhere")
    with pytest.raises(InputError, match=rf"'/nowhere' \({raw.ENVIRONMENT}\) does not exist"):
        raw.locate([a_file()], None, "unused")


@pytest.fixture
def nobody(tmp_path):
    """Makes the test an ordinary user, whom permissions bind, and root again at its end."""
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(0o755)
    user = os.geteuid()
    os.seteuid(user or 65534)
    yield
    os.seteuid(user)


def test_a_folder_or_file_that_can_not_be_read_is_told_with_the_reason(folder, tmp_path, request):
    (tmp_path / "empty").mkdir()
    for path, reason in [(tmp_path / "empty", "is empty"), (folder / "set/a.bin", "Not a direct")]:
        with pytest.raises(InputError, match=rf"'{path}' \(--raw_data\) .*{reason}"):
            raw.locate([a_file()], str(path), "unused")
    for path in (folder / "set/a.bin", folder / "birds/sounds/a.wav", tmp_path / "empty"):
        path.chmod(0)
    request.getfixturevalue("nobody")
    with pytest.raises(InputError, match=r"empty' .*can not be read \(Permission denied\)"):
        raw.locate([a_file()], str(tmp_path / "empty"), "unused")
    assert f"{folder}/set/a.bin: can not be read (Permission denied)" in fault(a_file(), folder)
    assert "a.wav: can not be read (Permission denied)" in fault(a_folder(), folder)


def test_missing_truncated_and_altered_files(folder):
    path = folder / "set/a.bin"
    path.write_bytes(CONTENT[:100])
    assert f"{path}: truncated: expected 3600 bytes, found 100; " in fault(a_file(), folder)
    path.write_bytes(CONTENT + b"x")
    assert "altered: expected 3600 bytes, found 3601" in fault(a_file(), folder)
    path.write_bytes(b"U" + CONTENT[1:])
    assert f"expected sha256 {sha256(CONTENT)[:12]}..., found" in fault(a_file(), folder)
    path.unlink()
    source = a_file(url="https://example.org/a.bin")
    assert fault(source, folder) == f"{path}: missing; get it from https://example.org/a.bin"


def test_truncated_and_broken_gzip(folder):
    path = folder / "set/a.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    assert "truncated: the gzip stream ends early" in fault(a_file("set/a.gz"), folder)
    for broken in (b"no gzip at all", whole[:-8] + b"\0" * 8, whole[:20] + b"\xff" * 20):
        path.write_bytes(broken)
        assert "altered: not a sound gzip file" in fault(a_file("set/a.gz"), folder)


def test_a_faulty_file_of_a_folder_is_named_where_sums_are_listed(folder):
    sound = folder / "birds/sounds/b.wav"
    sound.write_bytes(sound.read_bytes()[:-1])
    assert f"{sound}: truncated or altered: expected sha256" in fault(a_folder(), folder)
    (folder / "birds/SHA256SUMS").unlink()
    assert "altered: at least one file sounds/*.wav" in fault(a_folder(), folder)
    sound.unlink()
    assert "expected 3 files sounds/*.wav, found 2" in fault(a_folder(), folder)
    (folder / "birds/SHA256SUMS").write_text(LISTING)
    assert f"{sound}: missing" in fault(a_folder(), folder)
    shutil.rmtree(folder / "birds")
    assert f"{folder / 'birds'}: missing" in fault(a_folder(), folder)


def test_forged_sums_do_not_make_an_altered_folder_good(folder):
    forged = b"another sound"
    (folder / "birds/sounds/a.wav").write_bytes(forged)
    listing = LISTING.replace(sha256(SOUNDS["sounds/a.wav"]), sha256(forged))
    (folder / "birds/SHA256SUMS").write_text(listing)
    assert "altered" in fault(a_folder(), folder)


def test_a_download_is_checked_kept_and_not_repeated(folder, tmp_path, capsys):
    source = a_file(url=(folder / "set/a.bin").as_uri())
    cache = tmp_path / "cache"
    path = raw.locate([source], None, cache)["set/a.bin"]
    assert path == cache / "set/a.bin"
    assert path.read_bytes() == CONTENT
    assert "downloaded" in capsys.readouterr().err
    raw.locate([source], None, cache)
    assert capsys.readouterr().err == ""
    path.write_bytes(b"rot")  # a faulty copy in the cache is fetched again
    raw.locate([source], None, cache)
    assert path.read_bytes() == CONTENT


def test_a_bad_download_leaves_nothing_behind(folder, tmp_path):
    source = a_file(url=(folder / "set/a.bin").as_uri())
    (folder / "set/a.bin").write_bytes(CONTENT[:50])
    cache = tmp_path / "cache"
    with pytest.raises(InputError, match="truncated"):
        raw.locate([source], None, cache)
    assert list((cache / "set").iterdir()) == []
    with pytest.raises(InputError, match=r"cannot download .*no-such-file.*--raw_data"):
        raw.locate([a_file(url=(folder / "no-such-file").as_uri())], None, cache)
    with pytest.raises(InputError, match="missing"):
        raw.locate([a_file()], None, cache)


def test_an_archive_is_unpacked_without_its_top_folder(folder, tmp_path):
    archive = tmp_path / "birds.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for name, data in SOUNDS.items():
            packed.writestr(f"birds-0123abc/{name}", data)
        packed.writestr("birds-0123abc/README.md", "not wanted")
    source = a_folder(archive.as_uri())
    cache = tmp_path / "cache"
    path = raw.locate([source], None, cache)["birds"]
    kept = {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()}
    assert kept == set(SOUNDS)
    (path / "sounds/a.wav").write_bytes(b"rot")
    raw.locate([source], None, cache)
    assert (path / "sounds/a.wav").read_bytes() == SOUNDS["sounds/a.wav"]
    archive.write_bytes(archive.read_bytes()[:-30])
    shutil.rmtree(path)
    with pytest.raises(InputError, match="not a readable zip archive"):
        raw.locate([source], None, cache)


def test_an_archive_that_leads_out_of_its_folder_is_refused(tmp_path):
    archive = tmp_path / "birds.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("birds-0123abc/../../sounds/evil.wav", "not wanted")
    with pytest.raises(InputError, match=r"evil.wav' leads out"):
        raw.locate([a_folder(archive.as_uri())], None, tmp_path / "cache")
    assert not list(tmp_path.rglob("evil.wav"))


def test_an_archive_with_a_changed_file_is_refused(tmp_path):
    archive = tmp_path / "birds.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for name in SOUNDS:
            packed.writestr(f"top/{name}", "changed")
    source = dataclasses.replace(a_folder(), url=archive.as_uri())
    with pytest.raises(InputError, match="altered"):
        raw.locate([source], None, tmp_path / "cache")
    assert not (tmp_path / "cache/birds").exists()
