import hashlib
import io
import tarfile

import pytest

from sphereface.cli.main import main
from sphereface.errors import SphereFaceError
from sphereface.faces.datasets import get as module
from sphereface.faces.datasets.catalogue import CATALOGUE, RemoteFile, RemoteSet
from sphereface.faces.datasets.download import DownloadError
from sphereface.faces.datasets.get import find_set, get


def archive():
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        info = tarfile.TarInfo("lfw/Ann/Ann_0001.jpg")
        info.size = 4
        tar.addfile(info, io.BytesIO(b"jpeg"))
    return data.getvalue()


FILES = {"http://a/x": b"x content", "http://a/t": archive()}


@pytest.fixture
def entry(monkeypatch):
    """A set of two files, and a network that has them; its calls."""
    calls = []

    def download(urls, target, sha256=""):
        calls.append(urls[0])
        if urls[0] not in FILES:
            raise DownloadError("cannot be fetched (no network)", where=target.name)
        target.write_bytes(FILES[urls[0]])
        return hashlib.sha256(FILES[urls[0]]).hexdigest()

    monkeypatch.setattr(module, "download", download)
    hashes = [hashlib.sha256(data).hexdigest() for data in FILES.values()]
    made = RemoteSet(
        "set",
        "a set",
        "free",
        (
            RemoteFile("x.bin", ("http://a/x",), hashes[0]),
            RemoteFile("t.tgz", ("http://a/t",), hashes[1], unpack=True),
        ),
    )
    monkeypatch.setitem(CATALOGUE, "set", made)
    return made, calls


def test_fetched_once(entry, tmp_path, monkeypatch):
    made, calls = entry
    monkeypatch.setenv("SPHEREFACE_CACHE", str(tmp_path / "cache"))
    first = list(get(made))
    assert [file.cached for file in first] == [False, False]
    assert (tmp_path / "cache/set/lfw/Ann/Ann_0001.jpg").read_bytes() == b"jpeg"
    assert [file.cached for file in get(made)] == [True, True]
    assert calls == ["http://a/x", "http://a/t"]


def test_what_is_there_is_checked(entry, tmp_path):
    made, _ = entry
    (tmp_path / "x.bin").write_bytes(b"other")
    with pytest.raises(SphereFaceError, match=r"x\.bin: sha256 .*; remove it to fetch it"):
        list(get(made, tmp_path))


def test_without_a_network(tmp_path, entry):
    made = RemoteSet("far", "w", "for research", (RemoteFile("f", ("http://b/f",)),))
    with pytest.raises(DownloadError) as caught:
        list(get(made, tmp_path))
    assert f"put the file at {tmp_path}/f yourself; for research" in str(caught.value)


def test_hash_of_the_user(tmp_path, entry):
    made = RemoteSet("one", "w", "l", (RemoteFile("x", ("http://a/x",)),))
    (tmp_path / "x").write_bytes(FILES["http://a/x"])
    with pytest.raises(SphereFaceError, match="expected 00"):
        list(get(made, tmp_path, "00"))
    (file,) = get(made, tmp_path)
    assert file.sha256 == hashlib.sha256(b"x content").hexdigest()
    with pytest.raises(SphereFaceError, match="--sha256 for what is known"):
        list(get(entry[0], tmp_path, "00"))


def link(name, target, kind=tarfile.SYMTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    "member",
    [
        tarfile.TarInfo("../escaped"),
        tarfile.TarInfo("/escaped"),
        link("inside", "../escaped"),
        link("inside", "../escaped", tarfile.LNKTYPE),
    ],
    ids=["above", "absolute", "symlink", "hardlink"],
)
def test_archives_do_not_leave_their_folder(tmp_path, entry, member):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        tar.addfile(member)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "t.tgz").write_bytes(data.getvalue())
    made = RemoteSet("one", "w", "l", (RemoteFile("t.tgz", (), unpack=True),))
    with pytest.raises(SphereFaceError, match=f"no archive to unpack.*{member.name}"):
        list(get(made, tmp_path / "in"))
    assert {path.name for path in tmp_path.rglob("*")} == {"in", "t.tgz"}


def test_command(entry, tmp_path, capsys):
    assert main(["get", "set", "--output", str(tmp_path)]) == 0
    output = capsys.readouterr().out
    assert "licence: free" in output
    assert f"{tmp_path}/x.bin: sha256 {hashlib.sha256(b'x content').hexdigest()}, fetched" in output
    assert main(["get"]) == 0
    assert {line.split(":")[0] for line in capsys.readouterr().out.splitlines()} > set(CATALOGUE)
    assert main(["get", "lwf"]) == 2
    assert 'did you mean "lfw"' in capsys.readouterr().err


def test_hashes_are_scikit_learns():
    lfw = pytest.importorskip("sklearn.datasets._lfw")
    known = {meta.filename: (meta.url, meta.checksum) for meta in lfw.TARGETS}
    known |= {m.filename: (m.url, m.checksum) for m in (lfw.ARCHIVE, lfw.FUNNELED_ARCHIVE)}
    files = [file for name in ("lfw", "lfw-funneled") for file in find_set(name).files]
    assert len(files) == 8
    for file in files:
        assert (file.urls[0], file.sha256) == known[file.name]


def test_mtcnns_hashes(shared):
    for file in find_set("mtcnn").files:
        data = shared(f"mtcnn/{file.name}").read_bytes()
        assert hashlib.sha256(data).hexdigest() == file.sha256
