"""``caffe.proto.caffe_pb2``: Caffe's messages and enums, without generated code.

Every name is looked up in `sphereface.proto.schema` when it is used, so that layers registered
later are known; a class kept from before a registration does not know the new layer's parameter.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

from sphereface.caffe import list_layers
from sphereface.errors import SphereFaceError
from sphereface.proto import schema
from sphereface.proto.schema import TEST, TRAIN

__all__ = ["TEST", "TRAIN"]

list_layers()  # layers bring their parameter messages


def __getattr__(name: str) -> Any:
    descriptor = schema.message("NetParameter").DESCRIPTOR.file
    if name == "DESCRIPTOR":
        return descriptor
    if name in descriptor.enum_types_by_name:
        return EnumTypeWrapper(descriptor.enum_types_by_name[name])
    try:
        return schema.message(name)
    except SphereFaceError as error:
        raise AttributeError(f"module 'caffe_pb2': {error}") from None


def __dir__() -> list[str]:
    return sorted([*globals(), *schema.message_names()])
