"""The definitions that a ported file needs: functions of layers, with all that they use.

Their text is printed as it stands. What they use of their own package is printed before them,
constants as their values; what they use of others is imported.
"""

from __future__ import annotations

import ast
import dis
import inspect
import textwrap
from collections.abc import Callable, Iterator
from types import CodeType, ModuleType
from typing import Any

from sphereface.convert.port.text import literal

__all__ = ["Definitions", "global_names"]


class Definitions:
    """What a file defines and imports, each name once.

    Attributes
    ----------
    imports : dict of str to str
        Name to the line that imports it.
    """

    def __init__(self) -> None:
        self.imports: dict[str, str] = {}
        self._constants: dict[str, str] = {}
        self._texts: dict[str, str] = {}
        self._values: dict[str, Any] = {}
        self._builtins: set[str] = set()

    @property
    def names(self) -> set[str]:
        """All names that the definitions make or use."""
        return self._values.keys() | self._builtins

    @property
    def texts(self) -> list[str]:
        """The definitions, in an order in which each name stands before its use."""
        constants = [f"{name} = {text}" for name, text in self._constants.items()]
        return ["\n".join(constants)] * bool(constants) + list(self._texts.values())

    def add(self, name: str, value: Any, package: str) -> None:
        """Take what `name` means in a module of `package`.

        Raises
        ------
        ValueError
            The name means something else already, or cannot be printed.
        """
        if name in self._values:
            if self._values[name] is not value:
                raise ValueError(f"{name} means two things")
            return
        self._values[name] = value
        module = getattr(value, "__module__", None) or ""
        if isinstance(value, ModuleType):
            whole = value.__name__ == name
            self.imports[name] = f"import {value.__name__}" + ("" if whole else f" as {name}")
        elif module.partition(".")[0] == package:
            self.use(value, package)
            self._texts[name] = textwrap.dedent(inspect.getsource(value)).rstrip()
        elif module:
            # reduce's module, for example, is _functools.
            self.imports[name] = f"from {module.removeprefix('_')} import {name}"
        else:
            try:
                self._constants[name] = repr(value) if isinstance(value, float) else literal(value)
            except TypeError as error:
                raise ValueError(f"{name}: {error}") from None

    def use(self, function: Callable[..., Any], package: str) -> None:
        """Take all that `function` uses."""
        found = inspect.unwrap(function)
        for name in global_names(found):
            self.look_up(name, found, package)

    def look_up(self, name: str, function: Callable[..., Any], package: str) -> None:
        """Take what `name` means in the module of `function`."""
        scope = inspect.unwrap(function).__globals__
        if name in scope:
            self.add(name, scope[name], package)
        else:
            self._builtins.add(name)


def global_names(function: Callable[..., Any]) -> list[str]:
    """Return the names that a function takes from outside, annotations included, sorted."""
    names = set(_loaded(function.__code__)) if inspect.isfunction(function) else set()
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    if isinstance(definition, ast.FunctionDef):
        outside: list[ast.expr | None] = [*definition.decorator_list, definition.returns]
        arguments = definition.args
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        every += [a for a in (arguments.vararg, arguments.kwarg) if a]
        outside += [argument.annotation for argument in every]
        for expression in filter(None, outside):
            names |= {node.id for node in ast.walk(expression) if isinstance(node, ast.Name)}
    return sorted(names)


def _loaded(code: CodeType) -> Iterator[str]:
    for instruction in dis.get_instructions(code):
        if instruction.opname == "LOAD_GLOBAL":
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _loaded(constant)
