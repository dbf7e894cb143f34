"""A call of a layer's function as text; a function of one expression is that expression.

``relu(x, negative_slope=0.0)`` becomes ``F.relu(x)``: arguments take the places of parameters, and
a choice that the options make is made.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sphereface.convert.port.definitions import Definitions

__all__ = ["call_text"]


def call_text(
    function: Callable[..., Any],
    bottoms: Sequence[str],
    keywords: Mapping[str, str],
    definitions: Definitions,
) -> str:
    """Return the text of a call, and take what it uses into `definitions`.

    Parameters
    ----------
    function : callable
        Its positional parameters are bottoms.
    bottoms, keywords : str
        The arguments as text.
    definitions : Definitions
        Of the file that the call stands in.
    """
    package = function.__module__.partition(".")[0]
    expression = _expression(function)
    if expression is None:
        definitions.add(function.__name__, function, package)
        given = [*bottoms, *(f"{name}={text}" for name, text in keywords.items())]
        return f"{function.__name__}({', '.join(given)})"
    values = _arguments(function, bottoms, keywords)
    result = _Replace(values).visit(expression)
    for name in sorted(_names(result) - {name for v in values.values() for name in _names(v)}):
        definitions.look_up(name, function, package)
    text = ast.unparse(result)
    plain = all('"' not in part and "'" not in part for part in _strings(result))
    return text.replace("'", '"') if plain else text


def _names(node: ast.AST) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


def _strings(node: ast.AST) -> list[str]:
    constants = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant)]
    return [value for value in constants if isinstance(value, str)]


def _expression(function: Callable[..., Any]) -> ast.expr | None:
    """Return what the function returns, if that is all that it does and nothing in it is bound."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    assert isinstance(definition, ast.FunctionDef)
    statement = definition.body[-1]
    documented = 1 + (ast.get_docstring(definition) is not None)
    if len(definition.body) > documented or definition.decorator_list:
        return None
    if not isinstance(statement, ast.Return) or statement.value is None:
        return None
    binding = (ast.comprehension, ast.Lambda, ast.NamedExpr)
    if any(isinstance(node, binding) for node in ast.walk(statement.value)):
        return None
    return statement.value


def _arguments(
    function: Callable[..., Any], bottoms: Sequence[str], keywords: Mapping[str, str]
) -> dict[str, ast.expr]:
    signature = inspect.signature(function)
    given = signature.bind(*bottoms, **keywords).arguments
    values: dict[str, ast.expr] = {}
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            items = [_parsed(text) for text in given.get(name, ())]
            values[name] = ast.Tuple(items, ast.Load())
        else:
            values[name] = (
                _parsed(given[name]) if name in given else ast.Constant(parameter.default)
            )
    return values


def _parsed(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


class _Replace(ast.NodeTransformer):
    """Puts arguments in the places of parameters and decides what does not depend on tensors."""

    def __init__(self, values: Mapping[str, ast.expr]) -> None:
        self._values = values

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self._values.get(node.id, node)

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        self.generic_visit(node)
        if isinstance(node.ops[0], (ast.Is, ast.IsNot)) and not _constant(node.left):
            # A tensor against None.
            return ast.Constant(isinstance(node.ops[0], ast.IsNot))
        return node

    def visit_IfExp(self, node: ast.IfExp) -> ast.expr:
        self.generic_visit(node)
        if not _constant(node.test):
            return node
        chosen = eval(compile(ast.unparse(node.test), "option", "eval"), {"__builtins__": {}})
        return node.body if chosen else node.orelse


def _constant(node: ast.AST) -> bool:
    return not any(isinstance(part, (ast.Name, ast.Call)) for part in ast.walk(node))
