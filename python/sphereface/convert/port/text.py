"""Text of a ported file: numbers, arguments, names and lines of a readable width."""

from __future__ import annotations

import keyword
import re
from typing import Any

import numpy as np

__all__ = ["WIDTH", "argument_list", "identifier", "literal", "number", "quoted", "wrapped"]

WIDTH = 100
"""Of a line, as of the definitions that are printed."""

_INDENT = " " * 8


def number(value: float) -> str:
    """Return the shortest text of a number: of an option, 0.0001 for the float32 nearest to it."""
    text = repr(
        float(str(np.float32(value))) if float(np.float32(value)) == value else float(value)
    )
    return text if np.isfinite(value) else f'float("{text}")'


def literal(value: Any) -> str:
    """Return the text of an option.

    Raises
    ------
    TypeError
        It is no number, string, None or tuple of these.
    """
    if isinstance(value, float):
        return number(value)
    if isinstance(value, tuple):
        return f"({', '.join(map(literal, value))}{',' * (len(value) == 1)})"
    if value is None or isinstance(value, (bool, int)):
        return repr(value)
    if isinstance(value, str):
        return quoted(value)
    raise TypeError(f"{value!r} has no text")


def argument_list(*values: Any, **options: Any) -> str:
    """Return the arguments of a call; a tuple of equal numbers is written as the number."""
    given = [_plain(value) for value in values]
    return ", ".join(given + [f"{name}={_plain(value)}" for name, value in options.items()])


def _plain(value: Any) -> str:
    if isinstance(value, tuple) and value and len(set(value)) == 1:
        value = value[0]
    return literal(value)


def quoted(text: str) -> str:
    """Return a string literal, with double quotes where repr allows."""
    shown = repr(text)
    return f'"{text}"' if shown == f"'{text}'" and '"' not in text else shown


def identifier(name: str, taken: set[str]) -> str:
    """Return a variable's name for a blob's."""
    name = re.sub(r"\W", "_", name)
    if not name.isidentifier():
        name = f"blob_{name}"
    while keyword.iskeyword(name) or name in taken:
        name += "_"
    return name


def wrapped(start: str, expression: str) -> str:
    """Return a line of a method's body, broken within the last call's parentheses if too long."""
    line = f"{_INDENT}{start}{expression}"
    if len(line) <= WIDTH:
        return line
    opening = _opening(expression)
    if opening < 0:
        return f"{_INDENT}{start}(\n{_INDENT}    {expression}\n{_INDENT})"
    lines, head = [f"{_INDENT}{start}{expression[: opening + 1]}"], f"{_INDENT}    "
    current = head
    for piece in _pieces(expression[opening + 1 : -1]):
        if current != head and len(current) + len(piece) > WIDTH:
            lines.append(current.rstrip())
            current = head
        current += piece
    return "\n".join([*lines, current, f"{_INDENT})"])


def _opening(expression: str) -> int:
    """Return where the parenthesis opens that the last character closes, or -1."""
    depth = 0
    for index in range(len(expression) - 1, -1, -1):
        depth += (expression[index] == ")") - (expression[index] == "(")
        if depth == 0:
            return index if index < len(expression) - 1 else -1
    return -1


def _pieces(arguments: str) -> list[str]:
    """Cut after the commas that are outside of string literals."""
    pieces, start = [], 0
    for match in re.finditer(r", |'[^']*'|\"[^\"]*\"", arguments):
        if match.group() == ", ":
            pieces.append(arguments[start : match.end()])
            start = match.end()
    return [*pieces, arguments[start:]]
