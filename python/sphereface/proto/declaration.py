"""Message declarations in proto2 text, read without protoc.

A layer from outside the package declares its parameter message as it would in caffe.proto:
``message MyParameter { optional float scale = 1 [default = 2]; }``. Only what Caffe's schema uses
is understood: fields with a default or packed, nested enums and messages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)

from sphereface.errors import SphereFaceError, nearest

__all__ = ["parse_declaration", "resolve_types"]

_TOKEN = re.compile(
    r"""\s+|//[^\n]*|/\*.*?\*/|(?P<token>"(?:\\.|[^"\\\n])*"|[\w.+-]+|[{}\[\]=;,])|(?P<bad>.)""",
    re.DOTALL | re.VERBOSE,
)
_LABELS = {
    "optional": FieldDescriptorProto.LABEL_OPTIONAL,
    "repeated": FieldDescriptorProto.LABEL_REPEATED,
    "required": FieldDescriptorProto.LABEL_REQUIRED,
}
_SCALARS = {
    name: FieldDescriptorProto.Type.Value(f"TYPE_{name.upper()}")
    for name in ("double", "float", "int64", "uint64", "int32", "uint32", "bool", "string", "bytes")
}


def parse_declaration(text: str, source: str = "declaration") -> FileDescriptorProto:
    """Parse the messages and enums of `text`.

    Parameters
    ----------
    text : str
        Proto2 source; ``syntax`` and ``package`` lines are allowed.
    source : str
        Name for errors.

    Returns
    -------
    FileDescriptorProto
        `type_name` of a field is as written; whoever adds it to a pool resolves it.

    Raises
    ------
    SphereFaceError
        The text is not a declaration; the error gives the line.
    """
    return _Parser(text, source).file()


def resolve_types(messages: Iterable[DescriptorProto], file: FileDescriptorProto) -> None:
    """Replace the type names in `messages` by full ones, looked up from the inside out.

    Parameters
    ----------
    messages : iterable of DescriptorProto
        Messages of package `file.package`; changed in place.
    file : FileDescriptorProto
        Where else types may come from.

    Raises
    ------
    SphereFaceError
        A type is in neither.
    """
    root = f".{file.package}"
    messages = list(messages)
    kinds: dict[str, Any] = {}
    for message in [*file.message_type, *messages]:
        _collect_types(message, root, kinds)
    for enum in file.enum_type:
        kinds[f"{root}.{enum.name}"] = FieldDescriptorProto.TYPE_ENUM
    for message in messages:
        _resolve(message, root, kinds)


def _collect_types(message: DescriptorProto, scope: str, kinds: dict[str, Any]) -> None:
    inner = f"{scope}.{message.name}"
    kinds[inner] = FieldDescriptorProto.TYPE_MESSAGE
    for enum in message.enum_type:
        kinds[f"{inner}.{enum.name}"] = FieldDescriptorProto.TYPE_ENUM
    for nested in message.nested_type:
        _collect_types(nested, inner, kinds)


def _resolve(message: DescriptorProto, scope: str, kinds: dict[str, Any]) -> None:
    inner = f"{scope}.{message.name}"
    for nested in message.nested_type:
        _resolve(nested, inner, kinds)
    for field in message.field:
        if not field.type_name:
            continue
        parts = inner.split(".")
        candidates = [".".join([*parts[:n], field.type_name]) for n in range(len(parts), 1, -1)]
        found = next((c for c in [field.type_name, *candidates] if c in kinds), None)
        if found is None:
            names = [name.rpartition(".")[2] for name in kinds]
            raise SphereFaceError(
                f'field "{field.name}" has the unknown type "{field.type_name}"',
                where=f"message {message.name}",
                fix=nearest(field.type_name, [*names, *_SCALARS]),
            )
        field.type_name, field.type = found, kinds[found]


class _Parser:
    def __init__(self, text: str, source: str) -> None:
        self.source = source
        self.line = 1
        self.tokens = self._scan(text)
        self.token = ""
        self.advance()

    def _scan(self, text: str) -> Iterator[tuple[str, int]]:
        line = 1
        for match in _TOKEN.finditer(text):
            if match["bad"]:
                self.line = line
                raise self.error(f'unexpected character "{match["bad"]}"')
            if match["token"]:
                yield match["token"], line
            line += match[0].count("\n")
        yield "", line

    def error(self, problem: str, expected: str = "") -> SphereFaceError:
        return SphereFaceError(problem, where=f"{self.source}:{self.line}", expected=expected)

    def found(self) -> str:
        return f'found "{self.token}"' if self.token else "the text ends here"

    def advance(self) -> str:
        previous = self.token
        self.token, self.line = next(self.tokens, ("", self.line))
        return previous

    def accept(self, token: str) -> bool:
        if self.token != token:
            return False
        self.advance()
        return True

    def expect(self, token: str) -> None:
        if self.token != token:
            raise self.error(self.found(), f'"{token}"')
        self.advance()

    def name(self) -> str:
        if not re.fullmatch(r"\.?[A-Za-z_][\w.]*", self.token):
            raise self.error(self.found(), "a name")
        return self.advance()

    def number(self) -> int:
        if not re.fullmatch(r"-?(\d+|0x[0-9a-fA-F]+)", self.token):
            raise self.error(self.found(), "a whole number")
        return int(self.advance(), 0)

    def file(self) -> FileDescriptorProto:
        result = FileDescriptorProto()
        while self.token:
            if self.accept("syntax"):
                self.expect("=")
                self.expect('"proto2"')
                self.expect(";")
            elif self.accept("package"):
                result.package = self.name()
                self.expect(";")
            elif self.accept("message"):
                self.message(result.message_type.add())
            elif self.accept("enum"):
                self.enum(result.enum_type.add())
            else:
                raise self.error(self.found(), '"message" or "enum"')
        return result

    def message(self, result: DescriptorProto) -> None:
        result.name = self.name()
        self.expect("{")
        while self.token != "}":
            if self.accept("message"):
                self.message(result.nested_type.add())
            elif self.accept("enum"):
                self.enum(result.enum_type.add())
            else:
                self.field(result.field.add())
        self.expect("}")

    def enum(self, result: EnumDescriptorProto) -> None:
        result.name = self.name()
        self.expect("{")
        while self.token != "}":
            value = result.value.add(name=self.name())
            self.expect("=")
            value.number = self.number()
            self.expect(";")
        self.expect("}")

    def field(self, result: FieldDescriptorProto) -> None:
        if self.token not in _LABELS:
            raise self.error(
                self.found(), '"optional", "repeated", "required", "message" or "enum"'
            )
        result.label = _LABELS[self.advance()]
        kind = self.name()
        if kind in _SCALARS:
            result.type = _SCALARS[kind]
        else:
            result.type_name = kind
        result.name = self.name()
        self.expect("=")
        result.number = self.number()
        if self.accept("["):
            self.option(result)
            while self.accept(","):
                self.option(result)
            self.expect("]")
        self.expect(";")

    def option(self, result: FieldDescriptorProto) -> None:
        option = self.name()
        self.expect("=")
        if not self.token:
            raise self.error(self.found(), "a value")
        value = self.advance()
        if option == "packed":
            result.options.packed = value == "true"
        elif option == "default":
            result.default_value = self.default(result, value)
        elif option != "deprecated":
            raise self.error(f'unknown option "{option}"', '"default" or "packed"')

    def default(self, field: FieldDescriptorProto, value: str) -> str:
        """Return `value` as protoc stores it: strings unquoted, floats in their shortest form."""
        if value.startswith('"'):
            return value[1:-1].encode().decode("unicode_escape")
        if field.HasField("type") and field.type in (_SCALARS["float"], _SCALARS["double"]):
            try:
                return f"{float(value):.15g}"
            except ValueError:
                raise self.error(f'found "{value}"', "a number") from None
        return value
