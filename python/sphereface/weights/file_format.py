"""Which format a file of weights has, told by its first bytes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, TypeAlias

from sphereface.file_kinds import HEAD_BYTES, NPZ, ZIP, file_kind, is_binary
from sphereface.files import open_regular
from sphereface.weights.hdf5 import is_hdf5

__all__ = ["WeightFormat", "weight_format"]

WeightFormat: TypeAlias = Literal["caffemodel", "hdf5", "safetensors", "torch", "text"]

# A zip archive, and a pickle, which torch.save wrote before 1.6. As protobuf both would begin with
# a field that NetParameter does not have.
_TORCH = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_LENGTH = 8  # of the number in front of a safetensors header


def weight_format(path: str | os.PathLike[str]) -> WeightFormat:
    """Return the format of a file; ``"caffemodel"`` for any binary file that is nothing else.

    A file that does not exist, or is no regular file, counts as a caffemodel too, whose reader
    tells what is wrong.
    """
    file = Path(path)
    if not file.is_file() or not file.stat().st_size:
        return "caffemodel"
    if is_hdf5(file):
        return "hdf5"
    with open_regular(file) as stream:
        head = stream.read(HEAD_BYTES)
    if head.startswith(_TORCH) and file_kind(head) not in (NPZ, ZIP):
        return "torch"
    header = int.from_bytes(head[:_LENGTH], "little")
    if head[_LENGTH : _LENGTH + 1] == b"{" and _LENGTH + header <= file.stat().st_size:
        return "safetensors"
    return "caffemodel" if is_binary(head) else "text"
