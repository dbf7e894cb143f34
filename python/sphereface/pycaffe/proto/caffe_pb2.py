"""``caffe.proto.caffe_pb2``: Caffe's messages and enums, without generated code.

Every name is looked up in `sphereface.proto.schema` when it is used, so that layers registered
later are known; a class kept from before a registration does not know the new layer's parameter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

from sphereface.caffe import list_layers
from sphereface.errors import SphereFaceError
from sphereface.proto import schema
from sphereface.proto.schema import TEST, TRAIN

__all__ = ["TEST", "TRAIN"]

list_layers()  # layers bring their parameter messages


def __getattr__(name: str) -> Any:
    file = schema.message("NetParameter").DESCRIPTOR.file
    if name == "DESCRIPTOR":
        return file
    if name in file.enum_types_by_name:
        return EnumTypeWrapper(file.enum_types_by_name[name])
    for descriptor in _descriptors(file) if name.startswith("_") else ():
        if name[1:] == descriptor.full_name.partition(".")[2].replace(".", "_").upper():
            return descriptor
    try:
        return schema.message(name)
    except SphereFaceError as error:
        raise AttributeError(f"module 'caffe_pb2': {error}") from None


def _descriptors(file: Any) -> Iterator[Any]:
    """Yield what the modules that protobuf generated named ``_V1LAYERPARAMETER_LAYERTYPE`` etc."""
    yield from file.enum_types_by_name.values()
    yield from _with_nested(file.message_types_by_name.values())


def _with_nested(messages: Iterable[Any]) -> Iterator[Any]:
    for message in messages:
        yield message
        yield from message.enum_types
        yield from _with_nested(message.nested_types)


def __dir__() -> list[str]:
    return sorted([*globals(), *schema.message_names()])
