"""The one exception family of the package and the one format of its messages.

Every message says where (file, layer or line), what was found, what was expected and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["NonFiniteError", "SphereFaceError", "nearest"]


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
        text = f"{where}: {problem}" if where else problem
        if expected:
            text += f"; expected {expected}"
        if fix:
            text += f"; {fix}"
        super().__init__(text)

    def at(self, where: str) -> Self:
        """Return the same error, of the same class, with `where` in front of its place."""
        place = f"{where}: {self.where}" if self.where else where
        return type(self)(self.problem, where=place, expected=self.expected, fix=self.fix)


class NonFiniteError(SphereFaceError):
    """Numbers that are NaN or infinite where a computation needs finite ones."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``'did you mean "x"?'`` for the closest of `known`, or an empty string."""
    folded = {candidate.lower(): candidate for candidate in known}
    match = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.6)
    return f'did you mean "{folded[match[0]]}"?' if match else ""
