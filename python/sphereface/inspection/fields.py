"""A message as {path: value}, with what is written but not what only repeats a default."""

from __future__ import annotations

from typing import Any

import numpy as np
from google.protobuf.descriptor import FieldDescriptor

__all__ = ["written_fields"]


def written_fields(message: Any) -> dict[str, str]:
    """Return ``{"convolution_param.kernel_size[0]": "3", ...}`` in field order.

    A field that is written with the default that the schema states is left out: it means the same.
    One without a stated default stays, because for some (``loss_param.normalize``) being written
    has a meaning. A block counts as written even if it is empty (``prelu_param { filler { } }``
    is not the usual filler), except a layer's whole parameter.
    """
    found: dict[str, str] = {}
    for field, value in message.ListFields():
        _add(found, field.name, field, value, top=True)
    return found


def _add(found: dict[str, str], path: str, field: FieldDescriptor, value: Any, top: bool) -> None:
    if field.message_type is not None:
        many = not hasattr(value, "ListFields")
        for index, one in enumerate(value if many else [value]):
            place = f"{path}[{index}]" if many else path
            if many or not top:
                found[place] = "{ }"
            for inner, content in one.ListFields():
                _add(found, f"{place}.{inner.name}", inner, content, top=False)
    elif not isinstance(value, (str, bytes, int, float)):
        for index, one in enumerate(value):
            found[f"{path}[{index}]"] = _text(field, one)
    elif not (field.has_default_value and value == field.default_value):
        found[path] = _text(field, value)


def _text(field: FieldDescriptor, value: Any) -> str:
    if field.enum_type is not None:
        return str(field.enum_type.values_by_number[value].name)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        single = field.cpp_type == FieldDescriptor.CPPTYPE_FLOAT
        return str(np.float32(value) if single else value).removesuffix(".0")
    return f'"{value}"' if isinstance(value, str) else str(value)
