"""A data layer's reader that opens its files when they are first wanted.

For nets that a program may feed by hand, wherever their data are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sphereface.data.source import Batch, Source
from sphereface.errors import SphereFaceError

__all__ = ["LazySource"]


class LazySource(Source):
    """The reader that `opening` returns, opened at its first use.

    Parameters
    ----------
    layer_param : LayerParameter
        The data layer.
    where : str
        Place for errors.
    opening : callable
        Returns the `Source`.
    """

    def __init__(self, layer_param: Any, where: str, opening: Callable[[], Source]) -> None:
        super().__init__(layer_param, where)
        self._opening = opening
        self._source: Source | None = None

    @property
    def opened(self) -> Source:
        """The reader, opened."""
        if self._source is None:
            self._source = self._opening()
        return self._source

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of a batch."""
        return self.opened.shapes

    def next_batch(self) -> Batch:
        """Return the next batch."""
        return self.opened.next_batch()

    def state(self) -> dict[str, Any]:
        """Return where the reader is; empty if nothing was read."""
        return self._source.state() if self._source is not None else {}

    def restore(self, state: Mapping[str, Any]) -> list[str]:
        """Go on where `state` was taken; data that cannot be read stay unopened."""
        if not state:
            self.close()
            return []
        try:
            return self.opened.restore(state)
        except SphereFaceError as error:
            return [f"the data's position is dropped, they cannot be read: {error}"]

    def seek(self, batches: int) -> None:
        """Go to where `batches` batches have been read."""
        self.opened.seek(batches)

    def labels(self) -> Iterable[tuple[int, str]] | None:
        """Return each sample's label and place."""
        return self.opened.labels()

    def close(self) -> None:
        """Close the reader; the next use opens it anew."""
        source, self._source = self._source, None
        if source is not None:
            source.close()
