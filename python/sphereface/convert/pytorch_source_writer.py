"""The text of a ported net under construction: submodules, helpers and names.

What the functions of `pytorch_source_blobs` and `pytorch_source_plain` write into. A function takes
the writer, the layer and the variables of its bottoms, and returns the expression of its tops.
"""

from __future__ import annotations

import inspect
import keyword
import re
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias, TypeVar

import numpy as np

from sphereface.caffe import Layer, Net
from sphereface.convert import pytorch_source_helpers as helpers

__all__ = [
    "SOURCE_LAYERS",
    "SourceEmitter",
    "SourceWriter",
    "argument_list",
    "number",
    "source_layer",
]

SourceEmitter: TypeAlias = Callable[..., str]
SOURCE_LAYERS: dict[str, SourceEmitter] = {}
"""Layer type to the function that writes it: ``function(writer, layer, *bottoms)``."""

_WIDTH, _INDENT = 88, " " * 8
_RESERVED = {"self", "torch", "F", "nn", "Tensor", *helpers.__all__}

E = TypeVar("E", bound=SourceEmitter)


def source_layer(*types: str) -> Callable[[E], E]:
    """Register the decorated function for layer types; a type of your own is registered alike.

    Examples
    --------
    >>> @source_layer("Gain")
    ... def gain(writer, layer, x):
    ...     return f"{number(layer.gain)} * {x}"
    """

    def register(function: E) -> E:
        for name in types:
            SOURCE_LAYERS[name] = function
        return function

    return register


def number(value: float) -> str:
    """Return the shortest text of an option: 0.0001 for the float32 nearest to it."""
    text = repr(float(str(np.float32(value))))
    return text if np.isfinite(value) else f'float("{text}")'


def argument_list(*values: Any, **options: Any) -> str:
    """Return the arguments of a call; a tuple of equal numbers is written as the number."""
    given = [_plain(value) for value in values]
    return ", ".join(given + [f"{name}={_plain(value)}" for name, value in options.items()])


def _plain(value: Any) -> str:
    if isinstance(value, tuple) and value and len(set(value)) == 1:
        value = value[0]
    return number(value) if isinstance(value, float) else repr(value)


class SourceWriter:
    """Lines of ``__init__`` and ``forward``, and the helpers that they use.

    Attributes
    ----------
    modules, statements : list of str
        Lines of ``__init__`` and ``forward``.
    variables : list of str
        By slot of the net's graph.
    """

    def __init__(self, net: Net) -> None:
        self.modules: list[str] = []
        self.statements: list[str] = []
        self._helpers: set[str] = set()
        self._keys = dict(zip(net.layers, net.keys, strict=True))
        self._nodes = dict(zip(net.layers, net.graph.nodes, strict=True))
        self._shapes = net.infer_shapes({})
        names: dict[str, str] = {}
        for blob in net.graph.blob_names:
            if blob not in names:
                names[blob] = _identifier(blob, set(names.values()) | _RESERVED)
        self.variables = [names[blob] for blob in net.graph.blob_names]

    def axes(self, layer: Layer, bottom: int = 0) -> int:
        """Return the number of axes of a bottom of `layer`."""
        return len(self._shapes[self._nodes[layer].bottoms[bottom]])

    def module(self, layer: Layer, made_by: str, arguments: str) -> str:
        """Define the layer's submodule, of a class of torch.nn or a helper, and return it."""
        if "." not in made_by:
            self.helper(made_by)
        made, call = f"{made_by}({arguments})", self.submodule(layer)
        if call.endswith(")"):
            self.modules.append(
                _wrapped("", f"self.add_module({quoted(self._keys[layer])}, {made})")
            )
        else:
            self.modules.append(_wrapped(f"{call} = ", made))
        return call

    def submodule(self, layer: Layer) -> str:
        """Return the expression of the layer's submodule, whatever characters its key has."""
        key = self._keys[layer]
        if key.isidentifier() and not keyword.iskeyword(key):
            return f"self.{key}"
        return f"self.get_submodule({quoted(key)})"

    def helper(self, name: str) -> str:
        """Take the definition of that name into the file and return the name."""
        self._helpers.add(name)
        return name

    def assign(self, tops: Iterable[str], expression: str) -> None:
        """Write ``top = expression``, or ``a, b = expression``."""
        self.statements.append(_wrapped(f"{', '.join(tops)} = ", expression))

    def helper_sources(self) -> list[str]:
        """Return the definitions taken, in the order of the module of helpers."""
        return [
            inspect.getsource(getattr(helpers, name)).rstrip()
            for name, value in vars(helpers).items()
            if name in self._helpers and value.__module__ == helpers.__name__
        ]


def quoted(text: str) -> str:
    """Return a string literal, with double quotes where repr allows."""
    literal = repr(text)
    return f'"{text}"' if literal == f"'{text}'" and '"' not in text else literal


def _identifier(name: str, taken: set[str]) -> str:
    name = re.sub(r"\W", "_", name)
    if not name.isidentifier():
        name = f"blob_{name}"
    while keyword.iskeyword(name) or name in taken:
        name += "_"
    return name


def _wrapped(start: str, expression: str) -> str:
    """Return a line of a method's body, broken within the last call's parentheses if too long."""
    line = f"{_INDENT}{start}{expression}"
    if len(line) <= _WIDTH:
        return line
    opening = _opening(expression)
    if opening < 0:
        return f"{_INDENT}{start}(\n{_INDENT}    {expression}\n{_INDENT})"
    lines, head = [f"{_INDENT}{start}{expression[: opening + 1]}"], f"{_INDENT}    "
    current = head
    for piece in _pieces(expression[opening + 1 : -1]):
        if current != head and len(current) + len(piece) > _WIDTH:
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
