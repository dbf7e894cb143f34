"""Prototxt text in and out.

Reads what Caffe reads, and says where it is wrong: file, line, column, the enclosing layer's name
and type, and the nearest known name. Unlike Caffe, a name of another fork is not a crash but a
field to be added with `schema.extend_layer_parameter`.
"""

from __future__ import annotations

import os
import re
import struct
import warnings
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from sphereface.errors import SphereFaceError, nearest, raise_problems
from sphereface.proto import schema
from sphereface.proto._text_tree import Block, Entry, Tree, Value, parse_tree
from sphereface.proto.ignored_fields import ENGINES, why_first_only, why_ignored
from sphereface.proto.mistaken import check_kind
from sphereface.proto.source import load_text

__all__ = ["Located", "parse", "parse_net", "read", "write"]

# A file with more is of another kind than anybody means to mend.
_MAX_PROBLEMS = 1000

_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1, "int32"),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1, "uint32"),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1, "int64"),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1, "uint64"),
}
_FLOATS = (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE)
_BOOLS = dict.fromkeys(("true", "True", "t", "1"), True) | dict.fromkeys(
    ("false", "False", "f", "0"), False
)
_ESCAPE = re.compile(
    rb"\\([abfnrtv\\'\"?]|x[0-9a-fA-F]{1,2}|[0-7]{1,3}|u[0-9a-fA-F]{4}|.)", re.DOTALL
)
_SIMPLE = dict(zip(b"abfnrtv\\'\"?", b"\a\b\f\n\r\t\v\\'\"?", strict=True))


@dataclass(frozen=True)
class Located:
    """A message read from text, and where its layers stand.

    Attributes
    ----------
    message : Message
        The message.
    source : str
        Name of the file for errors.
    layer_lines : tuple of int
        Line of each ``layer`` (or, in an old net, ``layers``) of a NetParameter.
    problems : tuple of SphereFaceError
        What is wrong with it; those fields are missing in `message`.
    unread : tuple of int
        Layers of unknown types with fields that cannot be understood, and are missing.
    """

    message: Any
    source: str
    layer_lines: tuple[int, ...]
    problems: tuple[SphereFaceError, ...] = ()
    unread: tuple[int, ...] = ()


def parse(text: str, name: str = "NetParameter", source: str = "prototxt") -> Located:
    """Parse `text` as message `name`, keeping the lines of its layers.

    Raises
    ------
    SphereFaceError
        With ``file:line:column``, the layer, what is wrong and the nearest known name; a
        `ProblemsError` with all of them if there are several.
    """
    located = _parse(text, name, source)
    raise_problems(located.problems, source)
    return located


def parse_net(text: str, source: str, types: Collection[str] | None = None) -> Located:
    """Parse the text of a net, and leave it to the caller to raise its problems.

    Parameters
    ----------
    text, source : str
        The text, and its name for errors.
    types : collection of str, optional
        The layer types that are known. What cannot be understood in layers of other types is told
        by `Located.unread`, because not their fields are wrong.

    Raises
    ------
    SphereFaceError
        The text is not in the format, or is no net.
    """
    return _parse(text, "NetParameter", source, types)


def _parse(text: str, name: str, source: str, types: Collection[str] | None = None) -> Located:
    tree = parse_tree(text, source)
    message = schema.message(name)()
    check_kind(tree, name)
    filler = _Filler(tree, types)
    filler.fill(message, tree.root, [])
    if filler.ignored:
        told = (f"{', '.join(sorted(names))} ({why})" for why, names in filler.ignored.items())
        warnings.warn(f"{source}: fields of forks are ignored: {'; '.join(told)}", stacklevel=3)
    lines = [tree.line(e.offset) for e in tree.root.entries for _ in e.values if e.name == "layer"]
    if not lines:
        lines = [tree.line(e.offset) for e in tree.root.entries if e.name == "layers"]
    return Located(message, source, tuple(lines), tuple(filler.problems), tuple(filler.unread))


def read(prototxt: str | os.PathLike[str], name: str = "NetParameter") -> Any:
    """Read message `name` (``"NetParameter"``, ``"SolverParameter"``) from a path or text."""
    text, source = load_text(prototxt)
    return parse(text, name, source).message


@cache
def _fields(descriptor: Descriptor) -> dict[str, FieldDescriptor]:
    return {f.name: f for f in descriptor.fields if not f.name.startswith("fork_")}


def _is_repeated(field: FieldDescriptor) -> bool:
    try:
        return field.is_repeated  # protobuf 6.31 and later, where label is deprecated
    except AttributeError:
        return field.label == FieldDescriptor.LABEL_REPEATED


def _is_required(field: FieldDescriptor) -> bool:
    try:
        return field.is_required
    except AttributeError:
        return field.label == FieldDescriptor.LABEL_REQUIRED


@cache
def _required(descriptor: Descriptor) -> tuple[str, ...]:
    return tuple(name for name, field in _fields(descriptor).items() if _is_required(field))


class _Filler:
    """Fills messages from a tree; what is wrong is left out and told in `problems`."""

    def __init__(self, tree: Tree, types: Collection[str] | None) -> None:
        self.tree, self.types = tree, types
        self.problems: list[SphereFaceError] = []
        self.unread: list[int] = []
        self.hints: dict[tuple[str, str], str] = {}
        self.ignored: dict[str, set[str]] = {}

    def fill(self, message: Any, block: Block, path: list[Entry]) -> None:
        fields = _fields(message.DESCRIPTOR)
        seen: dict[str, Entry] = {}
        for entry in block.entries:
            inner = [*path, entry]
            field = fields.get(entry.name)
            why = "" if field is not None else why_ignored(message.DESCRIPTOR.name, entry.name)
            if why:
                self.ignored.setdefault(why, set()).add(entry.name)
                continue
            try:
                if field is None:
                    raise self.unknown_field(entry, message.DESCRIPTOR, inner)
                values = entry.values
                if len(values) > 1 and (why := why_first_only(message.DESCRIPTOR.name, entry.name)):
                    self.ignored.setdefault(why, set()).add(entry.name)
                    values = values[:1]
                if not _is_repeated(field) and (entry.name in seen or len(values) != 1):
                    raise self.repeated(entry, seen.get(entry.name, entry), inner)
            except SphereFaceError as error:
                self.found(error)
                continue
            seen[entry.name] = entry
            for value in values:
                try:
                    self.set(message, field, value, inner)
                except SphereFaceError as error:
                    self.found(error)
        if missing := [name for name in _required(message.DESCRIPTOR) if name not in seen]:
            name = message.DESCRIPTOR.name
            self.found(self.tree.error(f"{name} needs {' and '.join(missing)}", block.offset, path))

    def found(self, error: SphereFaceError) -> None:
        self.problems.append(error)
        if len(self.problems) >= _MAX_PROBLEMS:
            raise_problems(self.problems, self.tree.source)

    def layer(self, message: Any, block: Block, path: list[Entry], index: int) -> None:
        """Fill a layer; of one of an unknown type, that is what is wrong."""
        before = len(self.problems)
        self.fill(message, block, path)
        problems = self.problems[before:]
        kind = block.first("type")
        if not problems or not kind:
            return
        if message.DESCRIPTOR.name == "LayerParameter":
            if self.types is not None and kind not in self.types:
                del self.problems[before:]
                self.unread.append(index)
        elif kind not in (known := _fields(message.DESCRIPTOR)["type"].enum_type).values_by_name:
            hint = nearest(kind, known.values_by_name)
            self.problems[before:] = [
                self.tree.error(
                    f"unknown layer type {kind}",
                    next(e.values[0].offset for e in block.entries if e.name == "type"),
                    path,
                    expected="" if hint else "one that Caffe had when it wrote layers { }",
                    fix=hint,
                )
            ]

    def repeated(self, entry: Entry, first: Entry, path: list[Entry]) -> SphereFaceError:
        return self.tree.error(
            f'"{entry.name}" is given more than once (first at line '
            f"{self.tree.line(first.offset)})",
            entry.offset,
            path,
            expected="a single value",
        )

    def set(self, message: Any, field: FieldDescriptor, value: Value | Block, path: list) -> None:
        if field.message_type is not None:
            if isinstance(value, Value):
                raise self.wrong(field, value, "a block in { }", path)
            target = getattr(message, field.name)
            if _is_repeated(field):
                target = target.add()
            else:
                target.SetInParent()
            if len(path) == 1 and field.name in ("layer", "layers"):
                index = len(getattr(message, field.name)) - 1
                self.layer(target, value, path, index)
            else:
                self.fill(target, value, path)
            return
        if isinstance(value, Block):
            raise self.tree.error(
                f'"{field.name}" is a block', value.offset, path, expected="a single value"
            )
        converted = self.convert(field, value, path)
        if _is_repeated(field):
            getattr(message, field.name).append(converted)
        else:
            setattr(message, field.name, converted)

    def unknown_field(self, entry: Entry, descriptor: Descriptor, path: list) -> SphereFaceError:
        names = _fields(descriptor)
        key = (descriptor.name, entry.name)
        if key not in self.hints:  # a fork's field comes once a layer
            self.hints[key] = nearest(entry.name, names)
        hint = self.hints[key]
        few = "" if hint or len(names) > 12 else "one of " + ", ".join(names)
        return self.tree.error(
            f'unknown field "{entry.name}"', entry.offset, path, expected=few, fix=hint
        )

    def wrong(self, field: FieldDescriptor, value: Value, expected: str, path: list, fix: str = ""):
        return self.tree.error(
            f'"{field.name}" is {value.text}', value.offset, path, expected=expected, fix=fix
        )

    def convert(self, field: FieldDescriptor, value: Value, path: list[Entry]) -> Any:
        kind = field.cpp_type
        if kind == FieldDescriptor.CPPTYPE_STRING:
            return self.string(field, value, path)
        if field.enum_type is not None:
            return self.enum(field, value, path)
        if kind == FieldDescriptor.CPPTYPE_BOOL:
            if value.kind == "string" or value.text not in _BOOLS:
                raise self.wrong(field, value, "true or false", path)
            return _BOOLS[value.text]
        text = re.sub(r"\s", "", value.text)
        if kind in _FLOATS:
            try:
                if value.kind == "string":
                    raise ValueError
                if "0x" in text.lower():
                    return float(int(text, 16))
                return float(text.rstrip("fF") if value.kind == "number" else text)
            except ValueError:
                raise self.wrong(field, value, "a number", path) from None
        low, high, name = _INTEGERS[kind]
        try:
            octal = re.fullmatch(r"-?0[0-7]+", text)
            number = int(text, 8 if octal else 0) if value.kind == "number" else None
        except ValueError:
            number = None
        if number is None or not low <= number <= high:
            raise self.wrong(field, value, f"a whole number ({name})", path)
        return number

    def enum(self, field: FieldDescriptor, value: Value, path: list[Entry]) -> int:
        known = field.enum_type
        names = known.values_by_name
        if value.kind == "word" and value.text in names:
            return names[value.text].number
        if field.name == "engine" and value.text in ENGINES:
            return field.default_value
        if value.text.isdecimal() and int(value.text) in known.values_by_number:
            return int(value.text)
        few = "one of " + ", ".join(names) if len(names) <= 12 else ""
        bare = value.text.strip("\"'")
        hint = nearest(bare, names)
        if value.kind == "string" and bare in names:
            hint = f"write {bare} without quotes"
        raise self.wrong(field, value, few, path, hint)

    def string(self, field: FieldDescriptor, value: Value, path: list[Entry]) -> str | bytes:
        if value.kind != "string":
            raise self.wrong(field, value, "a string in quotes", path)
        data = _unescape(value.text[1:-1].encode("utf-8", "surrogateescape"))
        if field.type == FieldDescriptor.TYPE_BYTES:
            return data
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise self.tree.error(
                f'"{field.name}" is not UTF-8', value.offset, path, fix="save the file as UTF-8"
            ) from None


def _unescape(data: bytes) -> bytes:
    def one(match: re.Match[bytes]) -> bytes:
        code = match[1]
        if len(code) == 1 and code[0] in _SIMPLE:
            return bytes([_SIMPLE[code[0]]])
        if code[:1] == b"x" and len(code) > 1:
            return bytes([int(code[1:], 16)])
        if code[:1] == b"u" and len(code) > 1:
            return chr(int(code[1:], 16)).encode("utf-8", "surrogatepass")
        if code.isdigit():
            return bytes([int(code, 8) & 255])
        return match[0]

    return _ESCAPE.sub(one, data) if b"\\" in data else data


def write(message: Any) -> str:
    """Return `message` as text, as C++ protobuf prints it; `read` gives it back unchanged.

    Fields are in order of their number, floats in the shortest form that reads back as the same
    float32, enums by name.
    """
    return "".join(f"{line}\n" for line in _lines(message, ""))


def _lines(message: Any, indent: str) -> Iterator[str]:
    hidden = message.DESCRIPTOR.name == "LayerParameter"
    for field, value in message.ListFields():
        if hidden and field.name.startswith("fork_"):
            continue
        for one in value if _is_repeated(field) else [value]:
            if field.message_type is not None:
                yield f"{indent}{field.name} {{"
                yield from _lines(one, indent + "  ")
                yield f"{indent}}}"
            else:
                yield f"{indent}{field.name}: {_scalar(field, one)}"


def _scalar(field: FieldDescriptor, value: Any) -> str:
    if field.enum_type is not None:
        return field.enum_type.values_by_number[value].name
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _float(value, field.cpp_type == FieldDescriptor.CPPTYPE_FLOAT)
    if isinstance(value, bytes):
        return '"' + "".join(_byte(b) for b in value) + '"'
    if isinstance(value, str):
        return '"' + re.sub(r'["\\\x00-\x1f\x7f]', lambda m: _byte(ord(m[0])), value) + '"'
    return str(value)


def _byte(value: int) -> str:
    if chr(value) in '"\\\n\r\t':
        return {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}[chr(value)]
    return chr(value) if 32 <= value < 127 else f"\\{value:03o}"


def _float(value: float, single: bool) -> str:
    if not single:
        return f"{value:.17g}" if float(f"{value:.15g}") != value else f"{value:.15g}"
    for digits in (6, 7, 8, 9):
        text = f"{value:.{digits}g}"
        if struct.pack("<f", float(text)) == struct.pack("<f", value):
            return text
    return text
