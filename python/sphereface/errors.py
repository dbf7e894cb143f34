"""The one exception family of the package and the one format of its messages.

Every message says where (file, layer or line), what was found, what was expected and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["ExistsError", "NonFiniteError", "SphereFaceError", "nearest"]


class SphereFaceError(ValueError):
    """Bad input, described so that the user can fix it.

    Parameters
    ----------
    problem : str
        What was found, e.g. ``'unknown field "kernal_size"'``.
    where : str, optional
        File, ``file:line:column``, layer or argument that the problem is in.
    expected : str, optional
        What would have been accepted.
    fix : str, optional
        What to do about it.
    """

    def __init__(self, problem: str, *, where: str = "", expected: str = "", fix: str = "") -> None:
        self.problem, self.where, self.expected, self.fix = problem, where, expected, fix
        super().__init__(problem)

    def __str__(self) -> str:
        text = f"{self.where}: {self.problem}" if self.where else self.problem
        if self.expected:
            text += f"; expected {self.expected}"
        if self.fix:
            text += f"; {self.fix}"
        return text

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the fields, because subclasses choose what their `__init__` takes."""
        return _rebuild, (type(self), self.__dict__.copy())

    def at(self, where: str, *, fix: str = "") -> Self:
        """Return the same error, of the same class with all fields, at an outer place.

        Parameters
        ----------
        where : str
            The outer place, e.g. the layer whose field `self` is about; goes before `self.where`.
        fix : str, optional
            What to do, where the outer place knows better.
        """
        outer: Self = _rebuild(type(self), self.__dict__)
        outer.where = ": ".join(place for place in (where, self.where) if place)
        outer.fix = fix or self.fix
        return outer

    def on_command_line(self) -> SphereFaceError:
        """Return the error as a command tells it: with options in place of arguments."""
        return self


class NonFiniteError(SphereFaceError):
    """Numbers that are NaN or infinite where a computation needs finite ones."""


class ExistsError(SphereFaceError):
    """An output is there already, and nobody said that it may go.

    Parameters
    ----------
    where : str
        The output.
    problem : str, optional
        What is there.
    """

    def __init__(self, where: str, problem: str = "exists already") -> None:
        super().__init__(problem, where=where, fix="give another name, or pass overwrite=True")

    def on_command_line(self) -> SphereFaceError:
        """Return the error with the command's option."""
        return self.at("", fix="give another name, or --overwrite to replace it")


def _rebuild(kind: type[Any], fields: dict[str, Any]) -> Any:
    error: Any = kind.__new__(kind, fields["problem"])
    error.__dict__.update(fields)
    return error


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``'did you mean "x"?'`` for the closest of `known`, or an empty string."""
    folded = {candidate.lower(): candidate for candidate in known}
    match = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.6)
    return f'did you mean "{folded[match[0]]}"?' if match else ""
