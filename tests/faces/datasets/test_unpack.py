import io
import tarfile
import zlib

import numpy as np
import pytest

from sphereface.errors import SphereFaceError
from sphereface.faces.datasets.unpack import unpack

CONTENT = np.random.default_rng(5).bytes(300_000)


def archive(mode):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=f"w{mode}") as tar:
        info = tarfile.TarInfo("Ann/0.jpg")
        info.size = len(CONTENT)
        tar.addfile(info, io.BytesIO(CONTENT))
    return data.getvalue()


def no_deflate():
    """Return a gzip file of half an archive, then a block of a type that deflate has not."""
    pack = zlib.compressobj(wbits=31)
    half = pack.compress(archive("")[:150_000]) + pack.flush(zlib.Z_FULL_FLUSH)
    return half + b"\x07" * 100


def overwritten(mode):
    data = archive(mode)
    return data[:150_000] + bytes(1000) + data[151_000:]


@pytest.mark.parametrize("mode", ["", ":gz", ":bz2", ":xz"])
def test_unpacked(tmp_path, mode):
    (tmp_path / "a").write_bytes(archive(mode))
    unpack(tmp_path / "a", tmp_path / "to")
    assert (tmp_path / "to" / "Ann" / "0.jpg").read_bytes() == CONTENT


@pytest.mark.parametrize(
    "data",
    [
        *(archive(mode)[:150_000] for mode in ("", ":gz", ":bz2", ":xz")),
        no_deflate(),
        overwritten(":gz"),
        overwritten(":bz2"),
        overwritten(":xz"),
        b"no archive",
    ],
    ids=["tar", "gz", "bz2", "xz", "deflate", "gz's sum", "bz2's sum", "xz's sum", "none"],
)
def test_what_is_cut_short_or_damaged_is_told(tmp_path, data):
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(SphereFaceError, match=r"a: no archive to unpack \("):
        unpack(tmp_path / "a", tmp_path / "to")


def test_what_the_system_refuses_is_no_fault_of_the_archive(tmp_path):
    (tmp_path / "a").write_bytes(archive(":gz"))
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "Ann").touch()
    with pytest.raises(FileExistsError):
        unpack(tmp_path / "a", tmp_path / "to")
