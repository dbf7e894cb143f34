"""Places in memory for values that are needed one after the other."""

from __future__ import annotations

__all__ = ["OWN", "SCRATCH", "Memory", "Place", "Places"]

Place = tuple[int, int]  # a buffer's index, an offset in floats
SCRATCH = 0  # the buffer that a program has for itself
OWN = -2  # kOwn of csrc/cpu/forward_program.h
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


class Memory:
    """Places for a program's values: of a whole batch, or of one image inside a run of images.

    In a run all steps of an image come before the next image's, so that a batch's place that is
    given back is not taken again before the run's end.
    """

    def __init__(self) -> None:
        self._batch = Places()
        self._own: Places | None = None
        self._held: list[int] = []

    @property
    def size(self) -> int:
        """What all of it needs, in floats."""
        return self._batch.size

    def begin_run(self) -> None:
        """Begin a run of images."""
        self._own = Places()

    def end_run(self, parts: int) -> tuple[int, int]:
        """End it; return the offset of what its parts have of their own, and how much each has."""
        assert self._own is not None
        size, self._own = self._own.size, None
        start = self._batch.take(parts * size)
        for offset in (*self._held, start):
            self._batch.give_back(offset)
        self._held = []
        return start, size

    def take(self, images: int, image: int, inside: bool) -> Place:
        """Return a place for `images` images of `image` floats; for one `inside` a run."""
        if inside and self._own is not None:
            return OWN, self._own.take(image)
        return SCRATCH, self._batch.take(images * image)

    def give_back(self, place: Place) -> None:
        """Let others have a place, behind the run if it is a batch's."""
        buffer, offset = place
        if buffer == OWN:
            assert self._own is not None
            self._own.give_back(offset)
        elif self._own is None:
            self._batch.give_back(offset)
        else:
            self._held.append(offset)
