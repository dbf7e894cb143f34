"""insightface's .bin packs of verification pairs, turned into a folder of images and a list.

A pack is a pickle of (encoded images, whether each pair is the same person). A pickle runs what it
names; here nothing can be named but the few callables that such packs are made of, each replaced by
one of ours, so that reading runs no code of the file's or of another package. Convert once; nothing
else here reads a pickle.
"""

from __future__ import annotations

import io
import os
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sphereface.errors import SphereFaceError
from sphereface.files import read_bytes

__all__ = ["convert_pack", "read_pack"]

_LIMIT = 1 << 33
_SIGNATURES = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"BM": ".bmp", b"RIFF": ".webp"}


def read_pack(path: str | os.PathLike[str]) -> tuple[list[bytes], list[bool]]:
    """Return the encoded images, two a pair, and whether each pair is the same person.

    Raises
    ------
    SphereFaceError
        The file names anything but bytes, lists, booleans and uint8 arrays, or holds no pairs.
    """
    where = os.fspath(path)
    stream = io.BytesIO(read_bytes(path, limit=_LIMIT, what="pack"))
    try:
        # Python 2's str become bytes.
        content = _Guarded(stream, encoding="bytes").load()
    except SphereFaceError as error:
        raise SphereFaceError(error.problem, where=where, expected=error.expected) from None
    except Exception as error:  # a broken pickle raises whatever its opcodes stumble on
        raise SphereFaceError(f"no readable pack ({error})", where=where) from None
    if not isinstance(content, (tuple, list)) or len(content) != 2:
        raise SphereFaceError("no pair of images and flags", where=where)
    images, flags = content
    if not isinstance(images, (tuple, list)) or not isinstance(flags, (tuple, list)):
        raise SphereFaceError("images or flags are no lists", where=where)
    encoded = [image.content if isinstance(image, _Bytes) else image for image in images]
    if not flags or len(encoded) != 2 * len(flags):
        raise SphereFaceError(
            f"{len(encoded)} images and {len(flags)} flags",
            where=where,
            expected="two images a flag",
        )
    if not all(isinstance(image, bytes) for image in encoded):
        raise SphereFaceError("an image that is not bytes", where=where)
    return encoded, [_flag(flag, where) for flag in flags]


def convert_pack(path: str | os.PathLike[str], folder: str | os.PathLike[str]) -> int:
    """Write a pack's images and ``pairs.txt`` (``path path flag``) into a new folder.

    Images keep their bytes. The folder appears when it is complete.

    Returns
    -------
    int
        The number of pairs.

    Raises
    ------
    SphereFaceError
        The pack cannot be read, an image is of no known kind, or the folder exists.
    """
    images, flags = read_pack(path)
    target = Path(folder)
    if target.exists():
        raise SphereFaceError("exists already", where=os.fspath(folder), fix="name a new folder")
    if not target.absolute().parent.is_dir():
        raise SphereFaceError("the folder above does not exist", where=os.fspath(folder))
    names = [
        f"images/{index:06d}{_suffix(image, index, os.fspath(path))}"
        for index, image in enumerate(images)
    ]
    lines = [
        f"{left} {right} {int(flag)}\n"
        for left, right, flag in zip(names[::2], names[1::2], flags, strict=True)
    ]
    # The folder inside the temporary one has the permissions of any new folder.
    with tempfile.TemporaryDirectory(
        prefix=f".{target.name}.", dir=target.absolute().parent
    ) as name:
        whole = Path(name) / "pack"
        (whole / "images").mkdir(parents=True)
        for path_in, image in zip(names, images, strict=True):
            (whole / path_in).write_bytes(image)
        (whole / "pairs.txt").write_text("".join(lines), encoding="utf-8")
        whole.rename(target)
    return len(flags)


class _Bytes:
    """Stands for a uint8 array while a pack is read."""

    content = b""

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, _, content = state
        if not isinstance(dtype, _Dtype) or not isinstance(content, bytes) or len(shape) != 1:
            raise SphereFaceError("an array", expected="encoded images as uint8, in a row")
        self.content = content


class _Dtype:
    """Stands for numpy's dtype; uint8 only."""

    def __init__(self, name: Any, *_: Any) -> None:
        if name not in ("u1", b"u1", "uint8", b"uint8"):
            raise SphereFaceError(f"an array of {name!r}", expected="uint8")

    def __setstate__(self, state: Any) -> None:
        """Byte order and alignment say nothing of single bytes."""


class _ArrayType:
    """Stands for numpy.ndarray where it is an argument."""


def _rebuild(*_: Any) -> _Bytes:
    return _Bytes()


def _from_buffer(content: Any, dtype: Any, shape: Any, order: Any) -> _Bytes:
    """Return an array that numpy 2 stored in protocol 5."""
    array = _Bytes()
    array.__setstate__((1, shape, dtype, order, bytes(content)))
    return array


def _encode(text: str, encoding: str) -> bytes:
    """Return bytes that Python 3 stored in an old protocol."""
    if encoding not in ("latin1", b"latin1"):
        raise SphereFaceError(f"text in {encoding!r}", expected="latin1")
    return text.encode("latin1")


_ALLOWED: dict[str, Callable[..., Any]] = {
    "_codecs.encode": _encode,
    "numpy.ndarray": _ArrayType,
    "numpy.dtype": _Dtype,
    "numpy.core.multiarray._reconstruct": _rebuild,
    "numpy._core.multiarray._reconstruct": _rebuild,
    "numpy.core.numeric._frombuffer": _from_buffer,
    "numpy._core.numeric._frombuffer": _from_buffer,
}


class _Guarded(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Return our stand-in for a global that packs have; refuse all others."""
        known = _ALLOWED.get(f"{module}.{name}")
        if known is None:
            raise SphereFaceError(
                f"the pickle asks for {module}.{name}, which would run code",
                expected="bytes, lists, booleans and uint8 arrays only",
            )
        return known


def _flag(value: Any, where: str) -> bool:
    if value not in (0, 1, True, False):
        raise SphereFaceError(f"a flag of {value!r}", where=where, expected="true or false")
    return bool(value)


def _suffix(image: bytes, index: int, where: str) -> str:
    for signature, suffix in _SIGNATURES.items():
        if image.startswith(signature):
            return suffix
    raise SphereFaceError(
        f"image {index} begins with {image[:4]!r}", where=where, expected="JPEG, PNG, BMP or WebP"
    )
