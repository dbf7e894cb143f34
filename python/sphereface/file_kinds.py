"""What a file is, told by its first bytes, where it is not what was wanted.

Files come renamed, packed, or as the page or pointer that a download left in their place. A reader
asks here before it gives up, so that the user is told what he has in hand and what to do with it.
"""

from __future__ import annotations

import codecs
import re
from typing import NamedTuple

__all__ = ["HEAD_BYTES", "NPZ", "ZIP", "FileKind", "file_kind", "is_binary"]

#: How much of a file `file_kind` looks at.
HEAD_BYTES = 512


class FileKind(NamedTuple):
    """A kind of file.

    Attributes
    ----------
    what : str
        ``"an HTML page"``.
    fix : str
        What its owner probably wants to do.
    structured : bool
        It is text, which readers of JSON, XML or programs want.
    """

    what: str
    fix: str = ""
    structured: bool = False


_UNPACK = "unpack it first"
_DOWNLOAD = "the download went wrong: get the file itself"

ZIP = FileKind("a zip archive", _UNPACK)
NPZ = FileKind("numpy arrays (.npz)")

_LFS = b"version https://git-lfs"

_BY_START: tuple[tuple[bytes, FileKind], ...] = (
    (_LFS, FileKind("a Git LFS pointer, not the file", "fetch the file: git lfs pull")),
    (b"\x1f\x8b", FileKind("a gzip archive", _UNPACK)),
    (b"BZh", FileKind("a bzip2 archive", _UNPACK)),
    (b"\xfd7zXZ\0", FileKind("an xz archive", _UNPACK)),
    (b"7z\xbc\xaf\x27\x1c", FileKind("a 7z archive", _UNPACK)),
    (b"Rar!\x1a\x07", FileKind("a RAR archive", _UNPACK)),
    (b"\x28\xb5\x2f\xfd", FileKind("a Zstandard archive", _UNPACK)),
    (b"%PDF-", FileKind("a PDF document")),
    (b"{\\rtf", FileKind("an RTF document", "save it as plain text")),
    (b"\x93NUMPY", FileKind("a numpy array (.npy)")),
    (b"\x89HDF\r\n\x1a\n", FileKind("an HDF5 file")),
    (b"MATLAB 5.0 MAT-file", FileKind("a MATLAB file (.mat)")),
    (b"\xff\xd8\xff", FileKind("a JPEG picture")),
    (b"\x89PNG\r\n\x1a\n", FileKind("a PNG picture")),
    (b"GIF8", FileKind("a GIF picture")),
    (b"SQLite format 3\0", FileKind("an SQLite database")),
    (b"\x7fELF", FileKind("a program or library")),
    (b"\0\x05\x16\x07", FileKind("what macOS stores beside a file (._NAME)", "take NAME itself")),
    (b"\x12\x01\0\0\0\0\0\0", FileKind("parameters of MXNet")),
    (b"7767517", FileKind("a net of ncnn (.param)", "ncnn's nets are converted from Caffe's")),
    (b"diff --git", FileKind("a patch", "apply it to the file")),
    (b"[net]", FileKind("a net of Darknet (.cfg)")),
    (b"%YAML", FileKind("a YAML file", "", True)),
)
_PICKLE = re.compile(rb"\x80[\x02-\x05][\x95}\]\(\x8ac]", re.DOTALL)
# ir_version, then the graph or the name of the program that wrote it.
_ONNX = re.compile(
    rb"\x08[\x01-\x20](?::|\x12.(?:pytorch|paddle|mxnet|cntk|sphereface|[\w.-]*onnx))",
    re.DOTALL | re.IGNORECASE,
)
_SOLVERSTATE = re.compile(rb"\x08[\x80-\xff]*[\0-\x7f]\x12..?[^\0]*?\.caffemodel", re.DOTALL)
# A mean of old: num, channels, height, width.
_BINARYPROTO = re.compile(rb"\x08.{1,4}?\x10.{1,4}?\x18.{1,4}?\x20.{1,4}?[\x2a\x2d]", re.DOTALL)
_CONTROLS = bytes(code for code in range(32) if chr(code) not in "\t\n\v\f\r\x1a")
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_MISSING_PAGE = re.compile(rb"(?:404|403|400)?[:\s]*(?:Not Found|Forbidden|Access Denied)\b", re.I)
_PROGRAM = re.compile(rb"(?:import|from) [\w.]+(?: import [\w, *]+)?\s*(?:#.*)?$", re.MULTILINE)
_JSON = re.compile(rb'\{\s*"|\{\s*\}|\[\s*[{\["]')


def file_kind(head: bytes) -> FileKind | None:
    """Return what a file is by its first bytes, or None for what this module does not know.

    Neither texts of Caffe nor its binary files are known here, whatever their names.

    Parameters
    ----------
    head : bytes
        The begin of the file; more than `HEAD_BYTES` do not matter.
    """
    head = bytes(head[:HEAD_BYTES])
    for start, kind in _BY_START:
        if head.startswith(start):
            return kind
    return _binary_kind(head) or _text_kind(head.removeprefix(b"\xef\xbb\xbf").lstrip())


def is_binary(head: bytes) -> bool:
    """Tell a binary file from a text, by control characters at its begin; UTF-16 is text."""
    return not head.startswith(_UTF16) and head != head.translate(None, _CONTROLS)


def _binary_kind(head: bytes) -> FileKind | None:
    if head.startswith(b"PK\x03\x04"):
        return _zip_kind(head)
    if head[257:262] == b"ustar":
        return FileKind("a tar archive", _UNPACK)
    if head[16:20] == b"\xde\xc0\xef\xbe":
        return FileKind("the data.mdb of an LMDB", "name the folder that it lies in")
    if head[4:8] == b"TFL3":
        return FileKind("a TensorFlow Lite model")
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return FileKind("a WebP picture")
    if head[8:9] == b"{" and 0 < int.from_bytes(head[:8], "little") < 1 << 40:
        return FileKind("a safetensors file")
    if _PICKLE.match(head):
        return FileKind("a pickle: a PyTorch checkpoint, or another Python object")
    if _SOLVERSTATE.match(head):
        return FileKind("a solverstate", "its weights are in the .caffemodel beside it")
    if _BINARYPROTO.match(head):
        return FileKind("a binaryproto", "a mean image is named where the mean is asked for")
    if _ONNX.match(head):
        return FileKind("an ONNX model")
    if len(head) >= 64 and not head.strip(b"\0"):
        return FileKind("nothing but zeros", _DOWNLOAD)
    return None


def _zip_kind(head: bytes) -> FileKind:
    length = int.from_bytes(head[26:28], "little")
    name = head[30 : 30 + length]
    if name.endswith((b"data.pkl", b"/version", b".format_version")):
        return FileKind("a PyTorch checkpoint (.pt, .pth)")
    if name.endswith(b".npy"):
        return NPZ
    return ZIP


def _text_kind(head: bytes) -> FileKind | None:
    lower = head[:100].lower()
    if lower.startswith((b"<!doctype html", b"<html", b"<head", b"<body", b"<script")):
        return FileKind("an HTML page", f"{_DOWNLOAD} (on GitHub, its Raw button)")
    if head.startswith(b"<"):
        if b"<net" in head:
            return FileKind("a net of OpenVINO (.xml)", "", True)
        if b"<Error>" in head:
            return FileKind("the error of a server, in XML", _DOWNLOAD)
        return FileKind("an XML file", "", True) if head.startswith(b"<?xml") else None
    if len(head) < 80 and _MISSING_PAGE.match(head):
        return FileKind("the answer of a server that has no such file", _DOWNLOAD)
    if _JSON.match(head):
        return FileKind("a JSON file", "", True)
    if _PROGRAM.match(head):
        return FileKind("a Python program", "", True)
    return None
