"""The text of a prototxt: given as text or as a file, and what the file is if it is none."""

from __future__ import annotations

import os
import re
from typing import TypeGuard

from sphereface.errors import SphereFaceError
from sphereface.file_kinds import file_kind, is_binary
from sphereface.files import decoded, read_bytes
from sphereface.resources import find_prototxt

__all__ = ["is_text", "load_text"]

_MAX_BYTES = 1 << 24
_EXPECTED = "a prototxt, which is UTF-8 text"


def is_text(prototxt: str | os.PathLike[str]) -> TypeGuard[str]:
    """Tell whether `prototxt` is text: a str with a line end, a brace or a leading ``field:``.

    Any other str is a path, or the name of a packaged prototxt.
    """
    return isinstance(prototxt, str) and bool(re.search(r"[\n{]|^\s*\w+\s*:", prototxt))


def load_text(prototxt: str | os.PathLike[str], source: str = "") -> tuple[str, str]:
    """Return the text of a path or packaged net, or the text itself, and a name for it.

    Raises
    ------
    SphereFaceError
        The file cannot be read, is empty, or is something else than a text of Caffe; the error
        says what.
    """
    if is_text(prototxt):
        return prototxt, source or "prototxt"
    path = find_prototxt(os.fspath(prototxt))
    data = read_bytes(path, limit=_MAX_BYTES, what="prototxt")
    if kind := file_kind(data):
        raise SphereFaceError(kind.what, where=str(path), expected=_EXPECTED, fix=kind.fix)
    if not data.strip():
        raise SphereFaceError("an empty file", where=str(path), expected=_EXPECTED)
    if is_binary(data[:4096]):
        raise SphereFaceError(
            "a binary file",
            where=str(path),
            expected=_EXPECTED,
            fix="the prototxt comes before the caffemodel",
        )
    # Comments in legacy encodings are common; they are skipped, whatever their bytes.
    return decoded(data), source or str(path)
