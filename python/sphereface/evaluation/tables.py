"""A table of results: the one form that the terminal and the HTML report both print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["Result", "Table", "percent", "percent_range"]

_LEAST_WIDTH = 8  # a tab stop, so that short columns stand as the original's tabs put them
_LEAST_RULE = 16  # the original's rule


class Result(Protocol):
    """What one protocol found."""

    def to_dict(self) -> dict[str, Any]:
        """Return everything for JSON."""

    def tables(self) -> list[Table]:
        """Return what a reader wants to see."""


@dataclass(frozen=True)
class Table:
    """Rows of text under a header.

    Attributes
    ----------
    title : str
        Empty for none.
    header : sequence of str
    rows : sequence of sequence of str
    footer : sequence of str
        A last row below a rule; empty for none.
    notes : sequence of str
        Sentences below.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    footer: Sequence[str] = ()
    notes: Sequence[str] = ()

    def text(self) -> str:
        """Return the table for a terminal."""
        lines = [self.header, *self.rows, *([self.footer] if self.footer else [])]
        widths = [
            max(_LEAST_WIDTH, 2 + max(len(line[column]) for line in lines))
            for column in range(len(self.header) - 1)
        ]
        printed = ["".join(map(str.ljust, line, [*widths, 0])).rstrip() for line in lines]
        rule = "-" * max(_LEAST_RULE, *map(len, printed))
        body = printed[1 : 1 + len(self.rows)]
        parts = [self.title] if self.title else []
        parts += [printed[0], rule, *body]
        if self.footer:
            parts += [rule, printed[-1]]
        return "\n".join([*parts, *self.notes])


def percent(share: float | None, digits: int = 2) -> str:
    """Return ``"99.52%"``, or a dash for None."""
    return "-" if share is None else f"{100 * share:.{digits}f}%"


def percent_range(low: float | None, high: float | None, digits: int = 2) -> str:
    """Return ``"98.21% .. 99.60%"``."""
    return f"{percent(low, digits)} .. {percent(high, digits)}"
