"""Old files to today's format: prototxts of nets and solvers, and binary nets with their weights.

Source: Caffe's tools upgrade_net_proto_text, upgrade_net_proto_binary and
upgrade_solver_proto_text. What differs: one function for all three; the values of a binary net are
carried over as bytes, never parsed; a file that needs nothing is copied as it is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from sphereface.errors import SphereFaceError
from sphereface.file_kinds import HEAD_BYTES, is_binary
from sphereface.files import atomic_path, open_regular
from sphereface.proto import schema
from sphereface.proto.net_file import net_of_text
from sphereface.proto.source import load_text
from sphereface.proto.text import parse, write
from sphereface.proto.upgrade import upgrade_net, upgrade_solver
from sphereface.proto.wire import (
    LENGTH,
    Buffer,
    Field,
    WireReader,
    encode_key,
    encode_varint,
    map_file,
)

__all__ = ["FileKind", "UpgradedFile", "upgrade_file"]

FileKind: TypeAlias = Literal["net", "solver", "binary net"]

_SOLVER_FIELD = re.compile(
    r"^\s*(base_lr|lr_policy|max_iter|solver_type|net|train_net|test_net|net_param"
    r"|train_net_param|test_net_param)\s*[:{]",
    re.MULTILINE,
)
_HDF5 = b"\x89HDF\r\n\x1a\n"

# Field numbers: of NetParameter, and of the blobs in the three layer messages.
_NET_LAYERS, _NET_LAYER = 2, 100
_V0_IN_V1, _V0_BLOBS, _V1_BLOBS, _BLOBS = 1, 50, 6, 7


@dataclass(frozen=True)
class UpgradedFile:
    """What an upgrade did, or would do.

    Attributes
    ----------
    kind : {"net", "solver", "binary net"}
        What the file is.
    changes : tuple of str
        In words; empty for a file of today's format.
    """

    kind: FileKind
    changes: tuple[str, ...]
    _content: tuple[Buffer, ...]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the upgraded file, atomically; `path` may be the file that was read."""
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            for piece in self._content:
                stream.write(piece)


def upgrade_file(
    path: str | os.PathLike[str], types: Collection[str] | None = None
) -> UpgradedFile:
    """Upgrade the file `path`, in memory; `UpgradedFile.save` writes it.

    `types` are the layer types that are known, for errors about others.

    A prototxt loses its comments and spelling if it is changed. A binary net keeps every blob byte
    by byte, whole layers that need no change, and all unknown fields but those of V0 and V1 layer
    messages, whose numbers mean something else today; they are told as changes.

    Raises
    ------
    SphereFaceError
        The file cannot be read, is HDF5 (which has no old format), or is contradictory.
    """
    with open_regular(path) as stream:
        head = stream.read(HEAD_BYTES)
        if not is_binary(head):
            return _upgrade_text(Path(path), types)
        if head.startswith(_HDF5):
            raise SphereFaceError(
                "an HDF5 file", where=os.fspath(path), expected="a prototxt or a binary net"
            )
    return _upgrade_binary(path)


def _upgrade_text(path: Path, types: Collection[str] | None) -> UpgradedFile:
    text, source = load_text(path)
    code = re.sub(r"#.*", "", text)
    kind: FileKind = "solver" if _SOLVER_FIELD.search(code) else "net"
    if kind == "solver":
        upgraded = upgrade_solver(parse(text, "SolverParameter", source).message)
        message, changes = upgraded.message, upgraded.changes
    else:
        file = net_of_text(text, source, types).checked()
        message, changes = file.net, file.changes
    content = write(message) if changes else text
    return UpgradedFile(kind, changes, (content.encode("utf-8", "surrogateescape"),))


@dataclass
class _Layer:
    """A layer of a binary net: its field, its message without blobs, and the blobs' bytes."""

    field: Field
    header: bytes
    blobs: list[Buffer]
    note: str


def _upgrade_binary(path: str | os.PathLike[str]) -> UpgradedFile:
    reader = map_file(path, "caffemodel")
    view = memoryview(reader.buffer)
    net_fields, layers = [], []
    for field in reader.fields(0, reader.size):
        if field.number in (_NET_LAYER, _NET_LAYERS):
            layers.append(_split(reader, field))
        else:
            net_fields.append(bytes(view[field.start : field.end]))
    headers = [_framed(layer.field.number, [layer.header]) for layer in layers]
    skeleton = schema.decode("NetParameter", b"".join([*net_fields, *headers]), reader.source)
    upgraded = upgrade_net(skeleton, reader.source)
    notes = tuple(layer.note for layer in layers if layer.note)
    if not upgraded.changes:
        return UpgradedFile("binary net", (), (view,))
    net = upgraded.message
    pieces: list[Buffer] = [schema.encode(_without_layers(net))]
    for message, origin in zip(net.layer, upgraded.origin, strict=True):
        old = layers[origin] if origin >= 0 else None
        if old is not None and old.field.number == _NET_LAYER and message == skeleton.layer[origin]:
            pieces.append(view[old.field.start : old.field.end])
        else:
            blobs = [_framed(_BLOBS, [blob]) for blob in old.blobs] if old is not None else []
            pieces.append(_framed(_NET_LAYER, [schema.encode(message), *blobs]))
    return UpgradedFile("binary net", (*upgraded.changes, *notes), tuple(pieces))


def _split(reader: WireReader, field: Field) -> _Layer:
    reader.expect(field, "layer", LENGTH)
    if field.number == _NET_LAYER:
        return _Layer(field, *_cut(reader, field, _BLOBS), note="")
    for inner in reader.fields(field.begin, field.end):
        if inner.number == _V0_IN_V1:
            reader.expect(inner, "layer", LENGTH)
            header, blobs = _cut(reader, inner, _V0_BLOBS)
            around, _ = _cut(reader, field, _V0_IN_V1)
            return _Layer(field, around + _framed(_V0_IN_V1, [header]), blobs, note="")
    header, blobs = _cut(reader, field, _V1_BLOBS)
    return _Layer(field, header, blobs, note=_lost(header, reader.source))


def _cut(reader: WireReader, message: Field, number: int) -> tuple[bytes, list[Buffer]]:
    """Return a message without its fields `number`, and their contents."""
    view, position = memoryview(reader.buffer), message.begin
    rest, contents = [], []
    for field in reader.fields(message.begin, message.end):
        if field.number == number:
            reader.expect(field, "blobs", LENGTH)
            rest.append(view[position : field.start])
            contents.append(view[field.begin : field.end])
            position = field.end
    rest.append(view[position : message.end])
    return b"".join(rest), list(contents)


def _lost(header: bytes, source: str) -> str:
    reader = WireReader(header, source)
    known = schema.message("V1LayerParameter").DESCRIPTOR.fields_by_number
    numbers = {field.number for field in reader.fields(0, len(header))}.difference(known)
    if not numbers:
        return ""
    name = schema.decode("V1LayerParameter", header, source).name
    return f'layer "{name}": unknown fields {", ".join(map(str, sorted(numbers)))} dropped'


def _without_layers(net: Any) -> Any:
    copy = type(net)()
    copy.CopyFrom(net)
    copy.ClearField("layer")
    return copy


def _framed(number: int, pieces: Iterable[Buffer]) -> bytes:
    content = b"".join(pieces)
    return encode_key(number, LENGTH) + encode_varint(len(content)) + content
