"""A range of the classes, for weights that are split over processes."""

from __future__ import annotations

from dataclasses import dataclass

from sphereface.errors import SphereFaceError

__all__ = ["ClassRange"]


@dataclass(frozen=True)
class ClassRange:
    """The classes `first` to `first + count - 1` of `total`.

    Parameters
    ----------
    first, count, total : int
        ``0 <= first``, ``0 <= count``, ``first + count <= total``.

    Raises
    ------
    SphereFaceError
        The range does not lie within the classes.

    Examples
    --------
    >>> [ClassRange.of(rank, 3, 7).count for rank in range(3)]
    [3, 3, 1]
    """

    first: int
    count: int
    total: int

    def __post_init__(self) -> None:
        if min(self.first, self.count) < 0 or self.first + self.count > self.total:
            raise SphereFaceError(
                f"{self.count} classes from {self.first} on",
                where="ClassRange",
                expected=f"a range within 0 to {self.total - 1}",
            )

    @classmethod
    def of(cls, rank: int, ranks: int, total: int) -> ClassRange:
        """Return the share of process `rank` of `ranks`.

        All have ``ceil(total / ranks)`` classes but the last ones, which may have fewer or none:
        the split of `torch.chunk` and of a DTensor's ``Shard(0)``.
        """
        share = -(-total // ranks)
        first = min(rank * share, total)
        return cls(first, min(share, total - first), total)

    @property
    def rows(self) -> slice:
        """The rows of a whole weight that are these classes'."""
        return slice(self.first, self.first + self.count)
