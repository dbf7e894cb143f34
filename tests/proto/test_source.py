from __future__ import annotations

import gzip

import pytest

from sphereface.errors import SphereFaceError
from sphereface.proto.source import load_text
from sphereface.proto.text import read

NET = 'name: "Größe" layer { name: "a" type: "ReLU" }'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
def test_encodings_of_windows_are_read(encoding, tmp_path):
    path = tmp_path / "net.prototxt"
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    path.write_bytes((mark + NET.replace(" layer", "\r\nlayer")).encode(encoding))
    net = read(path)
    assert net.name == "Größe"
    assert net.layer[0].type == "ReLU"


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "an empty file; expected a prototxt"),
        (b" \n\t\r\n", "an empty file; expected a prototxt"),
        (gzip.compress(b"x"), "a gzip archive; expected a prototxt.*unpack it first"),
        (b"<!DOCTYPE html>", r"an HTML page; .*\(on GitHub, its Raw button\)"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer.*git lfs pull"),
        (b'{ "name": "x" }', "a JSON file; expected a prototxt"),
        (b"\n\x04ORL4\xa2\x06\x10\0\0", "a binary file; .*comes before the caffemodel"),
    ],
)
def test_what_is_no_prototxt_is_told(data, problem, tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_bytes(data)
    with pytest.raises(SphereFaceError, match=rf"net\.prototxt: {problem}"):
        load_text(path)


def test_a_folder_is_told(tmp_path):
    with pytest.raises(SphereFaceError, match="a folder; expected a prototxt: a regular file"):
        load_text(tmp_path)
