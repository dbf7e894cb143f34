"""Caffe's messages from caffe.desc, in a descriptor pool of their own.

Nothing is generated, so any protobuf from 4.21 on works, and a real ``caffe_pb2`` may be loaded
beside it. Unlike caffe.proto it is open: `extend_layer_parameter` adds a layer's own message to
LayerParameter at run time.

The pool is sealed by nature, so an extension makes a new pool and new classes. Messages made before
keep working but do not mix with later ones; `current` carries a message over, and every function
of this package that takes a message does so by itself. Register layers before keeping messages.
"""

from __future__ import annotations

import threading
import zlib
from functools import cache
from importlib import resources
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message

from sphereface.errors import SphereFaceError, nearest
from sphereface.proto.declaration import parse_declaration, resolve_types

__all__ = [
    "TEST",
    "TRAIN",
    "current",
    "decode",
    "encode",
    "enum_values",
    "extend_layer_parameter",
    "extend_message",
    "message",
    "message_names",
]

TRAIN, TEST = 0, 1

# Layer types whose parameter has, in their own fork, a number that is another field here:
# type -> (that field, the parameter's field). An absent or mismatched sub-field costs nothing:
# protobuf keeps the bytes that it cannot place, and they are parsed again as the right message.
_FORK_FIELDS = {
    "CenterLoss": ("margin_inner_product_param", "center_loss_param"),
    "Swish": ("margin_inner_product_param", "swish_param"),
    "Clip": ("fork_148", "clip_param"),
    "InterClass": ("fork_148", "inter_class_param"),
    "BN": ("fork_201", "bn_param"),
    "LargeMarginInnerProduct": ("fork_202", "largemargin_inner_product_param"),
    "MultiBoxLoss": ("fork_201", "multibox_loss_param"),
    "Permute": ("fork_202", "permute_param"),
    "Proposal": ("fork_201", "proposal_param"),
    "PSROIPooling": ("fork_10002", "psroi_pooling_param"),
    "CombinedMargin": ("fork_156", "combined_margin_param"),
    "CosinAddm": ("fork_179", "cosin_add_m_param"),
    "AdaCosAddmScale": ("fork_211", "adacos_add_m_scale_param"),
    "Flip": ("fork_212", "flip_param"),
    "InnerDistance": ("fork_213", "inner_distance_param"),
    "Normalize": ("fork_214", "normalize_param"),
    "GeneralContrastiveLoss": ("fork_215", "general_contrastive_loss_param"),
    "GeneralTripletLoss": ("fork_217", "general_triplet_loss_param"),
    "LabelSpecificRescale": ("fork_228", "label_specific_rescale_param"),
    "FocalLoss": ("fork_235", "focal_loss_param"),
    "ChannelScale": ("fork_237", "channel_scale_param"),
    "LabelSpecificAdd": ("fork_241", "label_specific_add_param"),
}


class _Pool:
    """One generation: a file descriptor, its pool and the classes made from it so far."""

    def __init__(self, file: descriptor_pb2.FileDescriptorProto) -> None:
        self.file = file
        self.pool = descriptor_pool.DescriptorPool()
        self.pool.AddSerializedFile(file.SerializeToString())
        self.top_level = {m.name for m in file.message_type}
        if hasattr(message_factory, "GetMessageClass"):
            self.make = message_factory.GetMessageClass
        else:  # protobuf 4.21
            self.make = message_factory.MessageFactory(self.pool).GetPrototype

    @cache  # noqa: B019 - a generation lives as long as the process
    def message(self, name: str) -> type[Message]:
        return self.make(self.pool.FindMessageTypeByName(f"caffe.{name}"))


def _base() -> _Pool:
    data = resources.files("sphereface.proto").joinpath("caffe.desc").read_bytes()
    return _Pool(descriptor_pb2.FileDescriptorSet.FromString(data).file[0])


_lock = threading.Lock()
_pool = _base()


def message(name: str) -> Any:
    """Return the class of message `name`, such as ``"NetParameter"``.

    Raises
    ------
    SphereFaceError
        There is no such message; the error gives the nearest name.
    """
    pool = _pool
    try:
        return pool.message(name)
    except KeyError:
        raise SphereFaceError(
            f'unknown message "{name}"', where="schema", fix=nearest(name, pool.top_level)
        ) from None


def message_names() -> list[str]:
    """Return the names of all top-level messages, sorted."""
    return sorted(_pool.top_level)


def enum_values(name: str) -> dict[str, int]:
    """Return the values of an enum, such as ``"Phase"`` or ``"PoolingParameter.PoolMethod"``."""
    try:
        values = _pool.pool.FindEnumTypeByName(f"caffe.{name}").values
    except KeyError:
        raise SphereFaceError(f'unknown enum "{name}"', where="schema") from None
    return {value.name: value.number for value in values}


def current(value: Any) -> Any:
    """Return `value` as a message of the current classes: itself, or a copy if it is older.

    Messages of a ``caffe_pb2`` are accepted too.
    """
    cls = message(value.DESCRIPTOR.full_name.partition(".")[2])
    return value if isinstance(value, cls) else cls.FromString(value.SerializePartialToString())


def decode(name: str, data: bytes | memoryview, source: str = "") -> Any:
    """Parse a binary message, whichever fork of Caffe wrote it.

    Parameters
    ----------
    name : str
        Message name.
    data : bytes-like
        The serialised message.
    source : str
        File name for the error.

    Returns
    -------
    Message
        Parameters whose field number collides between forks are in the field of the layer's type.
    """
    try:
        result = message(name).FromString(bytes(data))
        for layer in _layers(result):
            _move_fork_field(layer, inward=True)
    except DecodeError as error:
        raise SphereFaceError(
            f"not a binary {name} ({error})",
            where=source,
            fix="is the file whole, and of this kind?",
        ) from None
    return result


def encode(value: Any) -> bytes:
    """Serialise `value` so that the fork of Caffe that has its layers reads it."""
    if any(layer.type in _FORK_FIELDS for layer in _layers(value)):
        copy = type(value)()
        copy.CopyFrom(value)
        value = copy
        for layer in _layers(value):
            _move_fork_field(layer, inward=False)
    return value.SerializeToString(deterministic=True)


def _layers(value: Any) -> Any:
    name = value.DESCRIPTOR.name
    return value.layer if name == "NetParameter" else [value] if name == "LayerParameter" else []


def _move_fork_field(layer: Any, inward: bool) -> None:
    pair = _FORK_FIELDS.get(layer.type)
    if pair is None:
        return
    source, target = pair if inward else pair[::-1]
    if layer.HasField(source):
        getattr(layer, target).MergeFromString(getattr(layer, source).SerializePartialToString())
        layer.ClearField(source)


def extend_layer_parameter(field_name: str, param: Any, number: int | None = None) -> None:
    """Add the optional field `field_name` to LayerParameter, for a layer of one's own.

    Repeating a call is allowed; a different message under a known field name is not.

    Parameters
    ----------
    field_name : str
        As it will be written in prototxts, such as ``"my_param"``.
    param : str or message class or descriptor
        Proto2 text of the message (it may use Caffe's, such as FillerParameter; with several, the
        last is the field's), a class from generated code or its descriptor (a top-level message
        that refers to none but its own and Caffe's), or the name of an existing message.
    number : int, optional
        Field number inside binary nets. Needed only to read or write binary nets of a fork whose
        number is known; by default it is derived from `field_name`, the same in every process.

    Examples
    --------
    >>> extend_layer_parameter(
    ...     "gain_param", "message GainParameter { optional float gain = 1 [default = 2]; }"
    ... )
    >>> message("LayerParameter")().gain_param.gain
    2.0
    """
    global _pool
    with _lock:
        file = descriptor_pb2.FileDescriptorProto()
        file.CopyFrom(_pool.file)
        type_name = param if param in _pool.top_level else _declare(file, field_name, param)
        layer = next(m for m in file.message_type if m.name == "LayerParameter")
        field = descriptor_pb2.FieldDescriptorProto(
            name=field_name,
            label=descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL,
            type=descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE,
            type_name=f".caffe.{type_name}",
            number=number or 20000 + zlib.crc32(field_name.encode()) % 500_000_000,
        )
        if field in layer.field:
            return
        for other in layer.field:
            if field.name == other.name or field.number == other.number:
                raise SphereFaceError(
                    f"LayerParameter already has {other.name} = {other.number}",
                    where=f"{field.name} = {field.number}",
                    fix="choose another name or number",
                )
        layer.field.append(field)
        _pool = _extended(file, field_name)


def extend_message(name: str, fields: str) -> None:
    """Add fields to a message of Caffe, for options of a fork or of one's own.

    Repeating a call is allowed; a field that is there, declared otherwise, is not.

    Parameters
    ----------
    name : str
        A top-level message, such as ``"PoolingParameter"``.
    fields : str
        Proto2 text: fields with their numbers, which must be free, and enums and messages that
        they use.

    Raises
    ------
    SphereFaceError
        No such message, the text is no declaration, or a name or number is taken.

    Examples
    --------
    >>> extend_message("TanHParameter", "optional float gain = 1000 [default = 1];")
    >>> message("TanHParameter")().gain
    1.0
    """
    global _pool
    with _lock:
        file = descriptor_pb2.FileDescriptorProto()
        file.CopyFrom(_pool.file)
        target = next((m for m in file.message_type if m.name == name), None)
        if target is None:
            raise SphereFaceError(
                f'unknown message "{name}"', where="schema", fix=nearest(name, _pool.top_level)
            )
        (declared,) = parse_declaration(f"message {name} {{ {fields} }}", name).message_type
        resolve_types([declared], file)
        for kind in ("field", "enum_type", "nested_type"):
            _merge(getattr(target, kind), getattr(declared, kind), name)
        _pool = _extended(file, name)


def _merge(known: Any, new: Any, where: str) -> None:
    for one in new:
        if one in known:
            continue
        for other in known:
            if one.name == other.name or getattr(one, "number", 0) == getattr(other, "number", 1):
                raise SphereFaceError(
                    f"{one.name} is taken: {other.name} is there already",
                    where=where,
                    fix="choose another name or number",
                )
        known.append(one)


def _extended(file: descriptor_pb2.FileDescriptorProto, where: str) -> _Pool:
    try:
        return _Pool(file)
    except TypeError as error:
        raise SphereFaceError(f"the declaration is not valid ({error})", where=where) from None


def _declare(file: descriptor_pb2.FileDescriptorProto, field_name: str, param: Any) -> str:
    """Add the messages that `param` declares to `file`; return the name of the last."""
    if isinstance(param, str):
        declared = list(parse_declaration(param, field_name).message_type)
    else:
        descriptor = getattr(param, "DESCRIPTOR", param)
        theirs = descriptor_pb2.FileDescriptorProto.FromString(descriptor.file.serialized_pb)
        declared = [m for m in theirs.message_type if m.name == descriptor.name]
        for one in declared:
            _move_package(one, f".{descriptor.full_name}", f".caffe.{descriptor.name}")
    if not declared:
        raise SphereFaceError(
            "no message is declared", where=field_name, expected="a top-level message"
        )
    resolve_types(declared, file)
    known = {m.name: m for m in file.message_type}
    for one in declared:
        if one.name not in known:
            file.message_type.append(one)
        elif one != known[one.name]:
            raise SphereFaceError(
                f'message "{one.name}" is already declared, differently',
                where=field_name,
                fix="give it another name",
            )
    return declared[-1].name


def _move_package(declared: descriptor_pb2.DescriptorProto, old: str, new: str) -> None:
    for field in declared.field:
        if field.type_name == old or field.type_name.startswith(f"{old}."):
            field.type_name = new + field.type_name[len(old) :]
    for nested in declared.nested_type:
        _move_package(nested, old, new)
