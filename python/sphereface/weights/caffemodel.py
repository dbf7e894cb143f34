"""`.caffemodel`: layers' names, types and blobs, read from a memory map and written as a stream.

Source: NetParameter as Net::CopyTrainedLayersFrom reads it and Net::ToProto writes it. What
differs: only names, types and blobs are decoded, so a file of any fork loads whatever its custom
fields mean; `layer`, V1 `layers` and V0 layers inside them are read alike; a rewrite keeps every
byte that does not belong to a replaced blob.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO, NamedTuple, cast

import numpy as np

from sphereface.errors import SphereFaceError
from sphereface.files import atomic_path
from sphereface.proto.upgrade_v1 import V1_TYPES
from sphereface.proto.wire import (
    LENGTH,
    Buffer,
    Field,
    WireReader,
    encode_key,
    encode_varint,
    map_file,
)
from sphereface.weights.blob import (
    Blob,
    StreamedArray,
    encode_blob,
    read_blob,
    shape_equals,
    total_bytes,
    write_pieces,
)
from sphereface.weights.hdf5 import is_hdf5, read_caffemodel_h5

__all__ = [
    "MAX_MESSAGE",
    "Caffemodel",
    "LayerRecord",
    "load_weights",
    "read_caffemodel",
    "rewrite_caffemodel",
    "write_caffemodel",
]

MAX_MESSAGE = 2**31 - 1
"""Largest file that protobuf, and so Caffe, reads."""

_NET_NAME, _NET_V1_LAYERS, _NET_LAYER = 1, 2, 100


class _Format(NamedTuple):
    """Field numbers of one of the three layer messages."""

    field: str  # as it is called in the enclosing message
    name: int
    type: int
    blobs: int


_CURRENT = _Format("layer", 1, 2, 7)
_V1 = _Format("layers", 4, 5, 6)
_V0 = _Format("layers.layer", 1, 2, 50)
_V1_V0_LAYER = 1

_HEAD_FIELDS = 7  # Caffe writes a layer's blobs before its fields of greater numbers


@dataclass(frozen=True)
class LayerRecord:
    """One layer of a file.

    Parameters
    ----------
    name : str
        Layer name; names may repeat in a file.
    type : str
        Layer type: Caffe's present name also for a V1 layer, the stored one for a V0 layer.
    blobs : tuple of Blob
        Parameters, views of the file.
    field : str
        Message the layer is stored in: ``"layer"``, ``"layers"`` (V1) or ``"layers.layer"`` (V0).
    """

    name: str
    type: str
    blobs: tuple[Blob, ...]
    field: str
    _reader: WireReader
    _parents: tuple[Field, ...]  # the messages around the blobs, outermost first
    _blob_fields: tuple[Field, ...]

    @property
    def header(self) -> bytes:
        """Every byte of the layer's message but its blobs: LayerParameter (V1LayerParameter)."""
        pieces = self._spliced([[] for _ in self._blob_fields])
        return b"".join(memoryview(piece).cast("B") for piece in pieces)

    def _spliced(self, blobs: Sequence[list[Buffer] | None]) -> list[Buffer]:
        """Return the layer's message with new blob fields in the place of those not None."""
        view = memoryview(self._reader.buffer)
        inner = self._parents[-1]
        pieces: list[Buffer] = []
        position = inner.begin
        for field, blob in zip(self._blob_fields, blobs, strict=True):
            pieces += [view[position : field.start], *(blob or ())]
            position = field.end if blob is not None else field.start
        pieces.append(view[position : inner.end])
        for outer, parent in zip(self._parents[-2::-1], self._parents[:0:-1], strict=True):
            key = _prefix(parent.number, total_bytes(pieces))
            pieces = [view[outer.begin : parent.start], key, *pieces, view[parent.end : outer.end]]
        return pieces


@dataclass(frozen=True)
class Caffemodel:
    """A caffemodel as read: the net's name and its layers in file order."""

    path: str
    name: str
    layers: tuple[LayerRecord, ...]
    _reader: WireReader

    @property
    def header(self) -> bytes:
        """Every byte of the NetParameter but the blobs."""
        view, position = memoryview(self._reader.buffer), 0
        pieces: list[Buffer] = []
        for layer in self.layers:
            outermost = layer._parents[0]
            header = layer.header
            pieces += [view[position : outermost.start]]
            pieces += [_prefix(outermost.number, len(header)), header]
            position = outermost.end
        return b"".join(memoryview(piece).cast("B") for piece in [*pieces, view[position:]])

    def weights(self) -> dict[str, list[np.ndarray]]:
        """Return {layer name: [arrays]}; of layers with one name the last with blobs counts."""
        arrays: dict[str, list[np.ndarray]] = {}
        for layer in self.layers:
            if layer.blobs or layer.name not in arrays:
                arrays[layer.name] = [blob.data for blob in layer.blobs]
        return arrays


def load_weights(path: str | os.PathLike[str]) -> dict[str, list[np.ndarray | None]]:
    """Return {layer name: [arrays]} of a binary or HDF5 caffemodel, told apart by content.

    Arrays of a binary file are read-only views of it, float32, float64 or float16 as stored;
    None stands for a parameter that HDF5 leaves to the layer it is shared with.

    Raises
    ------
    SphereFaceError
        The file is damaged or not a caffemodel; the message names the byte and the layer.

    Examples
    --------
    >>> weights = load_weights("det1.caffemodel")  # doctest: +SKIP
    >>> weights["conv1"][0].shape  # doctest: +SKIP
    (10, 3, 3, 3)
    """
    if is_hdf5(path):
        return read_caffemodel_h5(path)
    return {name: [*arrays] for name, arrays in read_caffemodel(path).weights().items()}


def read_caffemodel(path: str | os.PathLike[str]) -> Caffemodel:
    """Map a binary caffemodel and find its layers' names, types and blobs.

    Raises
    ------
    SphereFaceError
        The file is damaged or holds no layers.
    """
    reader = map_file(path, "caffemodel")
    net_name, layers = "", []
    for field in reader.fields(0, reader.size):
        reader.layer = None
        if field.number == _NET_LAYER:
            layers.append(_read_layer(reader, field, _CURRENT))
        elif field.number == _NET_V1_LAYERS:
            layers.append(_read_layer(reader, field, _V1))
        elif field.number == _NET_NAME:
            net_name = reader.text(field, "name")
    reader.layer = None
    if not layers:
        raise reader.error(
            0, "no layers", expected="a NetParameter", fix="is the file a caffemodel?"
        )
    return Caffemodel(reader.source, net_name, tuple(layers), reader)


def _read_layer(
    reader: WireReader, message: Field, form: _Format, outer: tuple[Field, ...] = ()
) -> LayerRecord:
    reader.expect(message, form.field, LENGTH)
    # The name may come after the blobs on the wire, and errors in blobs are to tell it.
    name, kind = "", ""
    blob_fields, inner = [], None
    for field in reader.fields(message.begin, message.end):
        if field.number == form.name:
            name = reader.layer = reader.text(field, f"{form.field} name")
        elif field.number == form.type:
            kind = _v1_type(reader, field) if form is _V1 else reader.text(field, "type")
        elif field.number == form.blobs:
            reader.expect(field, "blobs", LENGTH)
            blob_fields.append(field)
        elif form is _V1 and field.number == _V1_V0_LAYER:
            inner = field
    parents = (*outer, message)
    if inner is not None:
        return _read_layer(reader, inner, _V0, parents)
    blobs = tuple(read_blob(reader, field.begin, field.end) for field in blob_fields)
    return LayerRecord(name, kind, blobs, form.field, reader, parents, tuple(blob_fields))


def _v1_type(reader: WireReader, field: Field) -> str:
    number = reader.signed(field, "type")
    return V1_TYPES.get(number, f"V1 type {number}")


def write_caffemodel(
    path: str | os.PathLike[str],
    net_name: str,
    layers: Iterable[tuple[bytes, Sequence[Blob | np.ndarray | StreamedArray]]],
) -> None:
    """Write a binary caffemodel, layer by layer and atomically.

    Parameters
    ----------
    path : path-like
        File to write.
    net_name : str
        NetParameter's name.
    layers : iterable of (bytes, sequence of Blob, ndarray or StreamedArray)
        A serialised LayerParameter without its blobs, and the blobs. Blobs go where Caffe's own
        writer puts them, between the fields below and above their number.

    Raises
    ------
    SphereFaceError
        An array is no float array, a header holds blobs, or the file would exceed what protobuf
        reads.
    """
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        writer = _Writer(stream, os.fspath(path))
        name = net_name.encode("utf-8", "surrogateescape")
        writer.write([_prefix(_NET_NAME, len(name)), name])
        for header, blobs in layers:
            head, tail, where = _split_header(header, writer.path)
            pieces: list[Buffer | StreamedArray] = [head]
            for blob in blobs:
                pieces += _blob_field(_CURRENT.blobs, blob, where)
            pieces.append(tail)
            writer.write([_prefix(_NET_LAYER, total_bytes(pieces)), *pieces])


def rewrite_caffemodel(
    model: Caffemodel,
    path: str | os.PathLike[str],
    weights: Mapping[str, Sequence[np.ndarray]],
) -> None:
    """Write `model` again with other values for the layers named in `weights`.

    Every other byte is that of the file read: custom parameters, unknown fields, their order, the
    old formats. `path` may be the file read. Diffs of replaced blobs are dropped.

    Raises
    ------
    SphereFaceError
        A layer is not in the file, or the number of blobs or a shape differs.
    """
    unknown = set(weights) - {layer.name for layer in model.layers if layer.blobs}
    if unknown:
        raise SphereFaceError(
            f'no layer "{min(unknown)}" with blobs', where=model.path, expected="layers of the file"
        )
    view, position = memoryview(model._reader.buffer), 0
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        writer = _Writer(stream, os.fspath(path))
        for layer in model.layers:
            if not layer.blobs or layer.name not in weights:
                continue
            outermost = layer._parents[0]
            pieces = layer._spliced(_replaced(layer, weights[layer.name], model.path))
            writer.write([view[position : outermost.start]])
            writer.write([_prefix(outermost.number, total_bytes(pieces)), *pieces])
            position = outermost.end
        writer.write([view[position:]])


def _replaced(
    layer: LayerRecord, arrays: Sequence[np.ndarray], source: str
) -> list[list[Buffer] | None]:
    where = f'{source}: layer "{layer.name}"'
    if len(arrays) != len(layer.blobs):
        raise SphereFaceError(
            f"{len(arrays)} arrays for {len(layer.blobs)} blobs", where=where, expected="as many"
        )
    number = layer._blob_fields[0].number
    fields: list[list[Buffer] | None] = []
    for index, (blob, array) in enumerate(zip(layer.blobs, arrays, strict=True)):
        if array is blob.data:
            fields.append(None)
            continue
        if not shape_equals(blob.data.shape, array.shape):
            raise SphereFaceError(
                f"blob {index} has shape {array.shape}",
                where=where,
                expected=f"the file's shape {blob.data.shape}",
                fix="write a new file with write_caffemodel to change shapes",
            )
        changed = replace(blob, data=array.reshape(blob.data.shape), diff=None)
        fields.append(cast(list[Buffer], _blob_field(number, changed, where)))
    return fields


class _Writer:
    """Counts what is written, because protobuf would refuse the finished file."""

    def __init__(self, stream: BinaryIO, path: str) -> None:
        self.stream, self.path, self.written = stream, path, 0

    def write(self, pieces: Sequence[Buffer | StreamedArray]) -> None:
        self.written += total_bytes(pieces)
        if self.written > MAX_MESSAGE:
            raise SphereFaceError(
                "the net is larger than 2 GiB",
                where=self.path,
                expected="a file that protobuf can read",
                fix="write a .caffemodel.h5",
            )
        write_pieces(self.stream, pieces)


def _prefix(number: int, length: int) -> bytes:
    return encode_key(number, LENGTH) + encode_varint(length)


def _blob_field(
    number: int, blob: Blob | np.ndarray | StreamedArray, where: str
) -> list[Buffer | StreamedArray]:
    pieces = encode_blob(blob, where)
    return [_prefix(number, total_bytes(pieces)), *pieces]


def _split_header(header: bytes, path: str) -> tuple[Buffer, Buffer, str]:
    """Cut a LayerParameter where its blobs belong; also tell where for errors."""
    reader, cut, name = WireReader(header, f"{path}: layer header"), len(header), ""
    for field in reader.fields(0, len(header)):
        if field.number == _CURRENT.blobs:
            raise reader.error(field.start, "the header holds blobs", expected="none")
        if field.number == _CURRENT.name:
            name = reader.text(field, "name")
        if field.number > _HEAD_FIELDS:
            cut = min(cut, field.start)
    view = memoryview(header)
    return view[:cut], view[cut:], f'{path}: layer "{name}"'
