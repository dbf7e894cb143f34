"""What every data layer's reader does: shapes, batches in order, resuming, sharding, bad samples.

Source: Caffe's base_data_layer.cpp and data_reader. What differs: the state is two numbers and a
seed, so a resumed run gets exactly the batches that it would have had.
"""

from __future__ import annotations

import hashlib
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from types import TracebackType
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sphereface.data.loader import Job, Loader
from sphereface.data.order import SampleOrder, Samples
from sphereface.errors import SphereFaceError

__all__ = ["Batch", "LoadOptions", "SampleSource", "Source", "digest"]

Batch: TypeAlias = dict[str, NDArray[np.float32]]

_log = logging.getLogger("sphereface.data")

# Samples of a part of a batch: long enough for a thread to be worth it.
_PART = 32
_MOST_WORKERS = 8


@dataclass(frozen=True)
class LoadOptions:
    """How to read, which the prototxt does not say.

    Attributes
    ----------
    phase : {"TRAIN", "TEST"}
        Decides how images are cropped.
    rank, ranks : int
        The part of each step that this process takes.
    seed : int, optional
        Of order and augmentation; random when not given, which several ranks do not allow.
    workers : int, optional
        Threads; by default as many as there are cores, at most 8. 0 reads in `next_batch`.
    bad_images : {"raise", "skip"}
        Whether a missing or damaged image is an error, or is counted and replaced by the next one.
    exif : bool
        Turn pictures upright as EXIF tells; OpenCV before 3.1 did not.
    """

    phase: Literal["TRAIN", "TEST"] = "TRAIN"
    rank: int = 0
    ranks: int = 1
    seed: int | None = None
    workers: int | None = None
    bad_images: Literal["raise", "skip"] = "raise"
    exif: bool = True
    _random: int = field(default_factory=lambda: int.from_bytes(os.urandom(6), "big"), repr=False)

    def __post_init__(self) -> None:
        if self.bad_images not in ("raise", "skip"):
            raise SphereFaceError(f"bad_images {self.bad_images!r}", expected='"raise" or "skip"')
        if self.phase not in ("TRAIN", "TEST"):
            raise SphereFaceError(f"phase {self.phase!r}", expected='"TRAIN" or "TEST"')
        if self.workers is not None and self.workers < 0:
            raise SphereFaceError(f"workers {self.workers}", expected="0 or more")
        if self.seed is None and self.ranks > 1:
            raise SphereFaceError(
                f"{self.ranks} ranks without a seed", expected="the same seed on every rank"
            )

    @property
    def settled_seed(self) -> int:
        """The seed, drawn once if none was given."""
        return self._random if self.seed is None else self.seed

    @property
    def worker_count(self) -> int:
        """Number of threads."""
        if self.workers is not None:
            return self.workers
        return min(_MOST_WORKERS, len(os.sched_getaffinity(0)))


class Source(ABC):
    """The reader of one data layer.

    Parameters
    ----------
    layer_param : LayerParameter
        The data layer.
    where : str
        Place for errors: file, line, name and type.

    Attributes
    ----------
    tops : tuple of str
        Names of the blobs of a batch.
    label_top : str or None
        The one with the labels.
    """

    #: Whether `labels` costs little.
    labels_in_memory = True

    def __init__(self, layer_param: Any, where: str = "") -> None:
        self.tops = tuple(layer_param.top)
        self.label_top = self.tops[1] if len(self.tops) > 1 else None
        self.where = where or f'layer "{layer_param.name}" ({layer_param.type})'

    @property
    @abstractmethod
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each top; the first sample tells what the parameters do not."""

    @abstractmethod
    def next_batch(self) -> Batch:
        """Return the next batch: float32 arrays (labels too) that belong to the caller.

        Raises
        ------
        SphereFaceError
            A sample is bad; the error names it and where it is listed.
        """

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Return what `restore` needs to give the next batch again; it can be written as JSON."""

    @abstractmethod
    def restore(self, state: Mapping[str, Any]) -> list[str]:
        """Go on where `state` was taken, whatever was read since.

        Returns
        -------
        list of str
            What of the state could not be used, because the data are others now: a line each.

        Raises
        ------
        SphereFaceError
            It is no state of a source.
        """

    @abstractmethod
    def seek(self, batches: int) -> None:
        """Go to where `batches` batches have been read since the start."""

    def labels(self) -> Iterable[tuple[int, str]] | None:
        """Return each sample's label and place, for `check_labels`; None if there are none."""
        return None

    def close(self) -> None:  # noqa: B027 - most have nothing to close
        """End the threads and close the files."""

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def error(self, problem: str, expected: str = "", fix: str = "") -> SphereFaceError:
        """Return an error that names the layer."""
        return SphereFaceError(problem, where=self.where, expected=expected, fix=fix)


class SampleSource(Source):
    """A source of samples that can be read one by one, in any order, by any thread.

    Attributes
    ----------
    batch_size : int
        Samples of a batch of one rank.
    bad : dict
        Index of each sample that was skipped, to what is wrong with it; negative where a source
        lost samples that it cannot count.
    """

    def __init__(self, layer_param: Any, options: LoadOptions, where: str = "") -> None:
        super().__init__(layer_param, where)
        self.options = options
        self.bad: dict[int, str] = {}
        self._ahead = layer_param.data_param.prefetch  # Caffe reads it for every data layer

    def _start(self, size: int, batch_size: int, *, shuffle: bool, rand_skip: int) -> None:
        """Set up the order; subclasses call this when they know their number of samples."""
        if batch_size < 1:
            raise self.error(f"batch_size {batch_size}", "a positive number")
        if rand_skip > size:
            raise self.error(f"rand_skip {rand_skip} of {size} samples", "at most their number")
        self.batch_size = batch_size
        self.order = self._make_order(
            size,
            batch_size,
            seed=self.options.settled_seed,
            shuffle=shuffle,
            rand_skip=rand_skip,
            rank=self.options.rank,
            ranks=self.options.ranks,
        )
        self._position = self.order.position
        self._loader = Loader(self._plan, self.options.worker_count, self._ahead)

    def _make_order(self, *args: Any, **kwargs: Any) -> SampleOrder:
        return SampleOrder(*args, **kwargs)

    def next_batch(self) -> Batch:
        """Return the next batch."""
        batch, position = self._loader.next()
        self._position = position
        return batch

    def record_name(self, index: int) -> str:
        """Return what a user knows a sample by; called by one thread."""
        return str(index)

    def state(self) -> dict[str, Any]:
        """Return seed, size, epoch and position of the next batch, and `content`."""
        content = {"content": self.content} if self.content else {}
        return {**self.order.state(self._position), **content}

    @cached_property
    def content(self) -> str:
        """A hash that tells these samples from others; empty if only their number is known."""
        return ""

    def restore(self, state: Mapping[str, Any]) -> list[str]:
        """Go on where `state` was taken; with other samples, at the start of the next epoch."""
        self._loader.close()
        known = state.get("content", "")
        same = not known or not self.content or known == self.content
        dropped = self.order.restore(state, self.where, same=same)
        self._position = self.order.position
        return dropped

    def seek(self, batches: int) -> None:
        """Go to where `batches` batches have been read."""
        self._loader.close()
        self.order.seek(batches)
        self._position = self.order.position

    def close(self) -> None:
        """End the threads."""
        self._loader.close()

    def _plan(self) -> Job[tuple[Batch, int]]:
        samples = self.order.take()
        keys = self._keys(samples)
        batch = {name: np.empty(shape, np.float32) for name, shape in self.shapes.items()}
        parts: list[Callable[[], None]] = [
            partial(self._load_part, batch, begin, samples.part(begin, begin + _PART),
                    keys[begin : begin + _PART])
            for begin in range(0, len(samples), _PART)
        ]  # fmt: skip
        return Job((batch, self.order.position), parts)

    def _keys(self, samples: Samples) -> Any:
        """Return what `_load_part` finds the samples by; called in order, by one thread."""
        return samples.indices

    @abstractmethod
    def _load_part(self, batch: Batch, begin: int, samples: Samples, keys: Any) -> None:
        """Fill `batch` from `begin` on; called by any thread."""

    def _skip(self, index: int, error: SphereFaceError) -> None:
        """Count a bad sample, or raise its error.

        The sample after it takes its place, so positions stay what they are.
        """
        if self.options.bad_images == "raise":
            raise error
        text = str(error)
        if self.bad.setdefault(index, text) is text:
            _log.warning("skipped: %s", text)
        if len(self.bad) >= self.order.size:
            raise self.error(f"all {self.order.size} images are bad, the last one: {error}")


def digest(entries: Iterable[str]) -> str:
    """Return a hash of the entries of a list, in their order."""
    found = hashlib.blake2b(digest_size=16)
    for entry in entries:
        found.update(entry.encode("utf-8", "surrogateescape") + b"\n")
    return found.hexdigest()
