"""The one exception family of the package and the one format of its messages.

Every message says where (file, layer or line), what was found, what was expected and what to do.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "ExistsError",
    "NonFiniteError",
    "ProblemsError",
    "SphereFaceError",
    "nearest",
    "raise_problems",
]

# A word this long is no name that anybody reads; its ends tell it apart.
_MAX_WORD, _WORD_ENDS = 1000, 100
_MAX_TEXT = 20_000
_PLACES, _GROUPS = 6, 40


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
        return _shortened(f"{self.where}: {self.advice}" if self.where else self.advice)

    @property
    def advice(self) -> str:
        """The message without its place."""
        text = self.problem
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


class ProblemsError(SphereFaceError):
    """All that is wrong with one file, so that it is mended in one go.

    Parameters
    ----------
    problems : iterable of SphereFaceError
        In the order of the file.
    where : str, optional
        The file.
    """

    def __init__(self, problems: Iterable[SphereFaceError], where: str = "") -> None:
        self.problems = tuple(problems)
        super().__init__(f"{len(self.problems)} problems", where=where)

    def __str__(self) -> str:
        groups: dict[str, list[str]] = {}
        for error in self.problems:
            groups.setdefault(error.advice, []).append(error.where)
        lines = [f"{self.where}: {self.problem}" if self.where else self.problem]
        for advice, places in list(groups.items())[:_GROUPS]:
            lines.append(f"  {advice}")
            lines += [f"    {place}" for place in places[:_PLACES] if place]
            if len(places) > _PLACES:
                lines.append(f"    and {len(places) - _PLACES} more")
        if len(groups) > _GROUPS:
            lines.append(f"  and {len(groups) - _GROUPS} more")
        return _shortened("\n".join(lines))

    def on_command_line(self) -> SphereFaceError:
        """Return the error with each problem as a command tells it."""
        problems = [problem.on_command_line() for problem in self.problems]
        return ProblemsError(problems, self.where)


def raise_problems(problems: Iterable[SphereFaceError], where: str = "") -> None:
    """Raise what is wrong with the file `where`, if anything is: one error as it is, or all.

    Raises
    ------
    SphereFaceError
        The only problem, or `ProblemsError`.
    """
    found: list[SphereFaceError] = []
    for problem in problems:
        found += problem.problems if isinstance(problem, ProblemsError) else [problem]
    if len(found) == 1:
        raise found[0] from None
    if found:
        raise ProblemsError(found, where)


def _shortened(text: str) -> str:
    """Cut names and texts that a hostile file made huge."""
    if len(text) <= _MAX_WORD:
        return text
    text = re.sub(
        rf"\S{{{_MAX_WORD},}}",
        lambda word: f"{word[0][:_WORD_ENDS]}...{word[0][-_WORD_ENDS:]}",
        text,
    )
    if len(text) <= _MAX_TEXT:
        return text
    return f"{text[: _MAX_TEXT // 2]} ... {text[-_MAX_TEXT // 2 :]}"


def _rebuild(kind: type[Any], fields: dict[str, Any]) -> Any:
    error: Any = kind.__new__(kind, fields["problem"])
    error.__dict__.update(fields)
    return error


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``'did you mean "x"?'`` for the closest of `known`, or an empty string."""
    folded = {candidate.lower(): candidate for candidate in known}
    match = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.6)
    return f'did you mean "{folded[match[0]]}"?' if match else ""
