"""Places in one piece of memory for values that are needed one after the other."""

from __future__ import annotations

__all__ = ["Places"]

_ALIGNMENT = 16  # floats: a cache line


class Places:
    """Hands out offsets, the first that fits; `size` is what all of them need."""

    def __init__(self) -> None:
        self.size = 0
        self._taken: dict[int, int] = {}  # offset to end

    def take(self, count: int) -> int:
        """Return the offset of `count` floats that nobody has."""
        need = max(-(-count // _ALIGNMENT) * _ALIGNMENT, _ALIGNMENT)
        start = 0
        for offset in sorted(self._taken):
            if start + need <= offset:
                break
            start = max(start, self._taken[offset])
        self._taken[start] = start + need
        self.size = max(self.size, start + need)
        return start

    def give_back(self, offset: int) -> None:
        """Let others have the place at `offset`."""
        del self._taken[offset]
