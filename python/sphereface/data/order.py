"""Which samples make the next batch: a function of seed, epoch and position, and of nothing else.

Source: lines_id_ and ShuffleImages of Caffe's image_data_layer.cpp, Skip of its data_layer.cpp.
What differs: an epoch's order is computed from (seed, epoch) instead of shuffling the last one, and
a sample's random numbers from (seed, epoch, index), so that neither the number of workers nor an
interruption changes them, on any platform and with any numpy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sphereface.errors import SphereFaceError

__all__ = ["SampleOrder", "Samples", "random_bits", "shuffled"]

# What random numbers are for; each purpose has a stream of its own.
_SHUFFLE, _SKIP = 1 << 32, (1 << 32) + 1


def random_bits(seed: int, *counters: Any) -> NDArray[np.uint64]:
    """Return 64 random bits for every element of the broadcast `counters`.

    Steele's SplitMix64 finaliser (OOPSLA 2014), once a counter.
    """
    bits = np.array([seed % (1 << 64)], np.uint64)
    for counter in counters:
        bits = (bits ^ np.asarray(counter).astype(np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        bits = bits ^ (bits >> np.uint64(31))
    return bits


def shuffled(size: int, seed: int, *counters: int) -> NDArray[np.int64]:
    """Return a random permutation of ``range(size)`` that depends on `seed` and `counters`."""
    keys = random_bits(seed, *counters, _SHUFFLE, np.arange(size))
    return np.argsort(keys, kind="stable")


class Samples(NamedTuple):
    """The samples of one batch: for each its epoch and its index in the list."""

    epochs: NDArray[np.int64]
    indices: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.indices)

    def part(self, begin: int, end: int) -> Samples:
        """Return samples `begin` to `end`."""
        return Samples(self.epochs[begin:end], self.indices[begin:end])


class SampleOrder:
    """The endless sequence of samples, dealt to ranks one by one as Caffe deals records to GPUs.

    Batches go on into the next epoch; nothing is dropped. With k ranks, the k batches of a step
    are together the batch that one process with the k-fold batch size would take.

    Parameters
    ----------
    size : int
        Number of samples of an epoch.
    batch_size : int
        Samples of a batch of one rank.
    seed : int
        The same on all ranks.
    shuffle : bool
        Whether each epoch has an order of its own.
    rand_skip : int
        The sequence starts at a random position below this.
    rank, ranks : int
        Which part of each step this process takes.

    Attributes
    ----------
    position : int
        Samples that all ranks have taken, epochs included.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        *,
        seed: int,
        shuffle: bool = False,
        rand_skip: int = 0,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        if not 0 <= rank < ranks:
            raise SphereFaceError(f"rank {rank} of {ranks}", expected="0 <= rank < ranks")
        self.size, self.batch_size, self.seed = size, batch_size, seed
        self.rank, self.ranks = rank, ranks
        self._shuffle = shuffle
        self._start = int(random_bits(seed, _SKIP)[0] % np.uint64(rand_skip)) if rand_skip else 0
        self._epoch_order: dict[int, NDArray[np.int64]] = {}
        self.position = self._start

    def take(self) -> Samples:
        """Return this rank's next batch."""
        positions = self.position + np.arange(self.batch_size) * self.ranks + self.rank
        self.position += self.batch_size * self.ranks
        epochs, indices = np.divmod(positions, self.size)
        if self._shuffle:
            for epoch, begin, end in _runs(epochs):
                indices[begin:end] = self._order(epoch)[indices[begin:end]]
        return Samples(epochs, indices)

    def seek(self, batches: int) -> None:
        """Go to where each rank has taken `batches` batches since the start."""
        self.position = self._start + batches * self.batch_size * self.ranks

    def permutation(self, epoch: int) -> NDArray[np.int64]:
        """Return the order of a shuffled epoch."""
        return shuffled(self.size, self.seed, epoch)

    def state(self, position: int) -> dict[str, int]:
        """Return what `restore` needs to go on at `position`."""
        epoch, inside = divmod(position, self.size)
        return {"seed": self.seed, "size": self.size, "epoch": epoch, "position": inside}

    def restore(self, state: Mapping[str, Any], where: str, *, same: bool = True) -> list[str]:
        """Go to a saved state, of any number of ranks.

        Parameters
        ----------
        state : mapping
            What `state` returned.
        where : str
            Place for messages.
        same : bool
            Whether the samples are those of the state, as far as their number does not tell. If
            they are not, the position means nothing; the next epoch is begun.

        Returns
        -------
        list of str
            What was dropped of the state, in at most one line.

        Raises
        ------
        SphereFaceError
            It is no state.
        """
        values = [state.get(name) for name in ("seed", "size", "epoch", "position")]
        if not all(isinstance(value, int) for value in values):
            raise SphereFaceError(
                f"data state {dict(state)}",
                where=where,
                expected="integers seed, size, epoch and position",
            )
        seed, size, epoch, position = (int(value) for value in values if value is not None)
        self.seed = seed
        self._epoch_order.clear()
        if size == self.size and same:
            self.position = epoch * size + position
            return []
        self.position = (epoch + 1) * self.size
        now = f"{self.size} samples" if size != self.size else f"{size} samples of another list"
        return [
            f"{where}: {now}, {size} when the state was saved; position {position} of epoch "
            f"{epoch} is dropped, epoch {epoch + 1} begins"
        ]

    def _order(self, epoch: int) -> NDArray[np.int64]:
        if epoch not in self._epoch_order:
            # A batch straddles two epochs at a time; older orders are not needed again.
            self._epoch_order = {e: o for e, o in self._epoch_order.items() if e == epoch - 1}
            self._epoch_order[epoch] = self.permutation(epoch)
        return self._epoch_order[epoch]


def _runs(epochs: NDArray[np.int64]) -> Iterator[tuple[int, int, int]]:
    """Yield (epoch, begin, end) of equal neighbours."""
    edges = [0, *(np.flatnonzero(np.diff(epochs)) + 1), len(epochs)]
    for begin, end in pairwise(edges):
        yield int(epochs[begin]), int(begin), int(end)
