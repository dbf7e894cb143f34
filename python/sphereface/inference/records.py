"""What a net is run over: images, records of an LMDB, arrays, or its own data layers' data.

Each kind gives batches with the names of their records, every record once, the last batch as short
as it comes. Images are decoded by threads, a bounded number ahead of the net.
"""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import NamedTuple, Protocol

import numpy as np

from sphereface.data import Sources
from sphereface.data.datum import datum_image
from sphereface.data.leveldb_file import LevelDbFile
from sphereface.data.open_records import open_records
from sphereface.data.record_file import RecordFile
from sphereface.data.source import SampleSource
from sphereface.errors import SphereFaceError
from sphereface.images import ImageFile, Preprocessing
from sphereface.inference.ahead import ahead, default_workers

__all__ = ["ArrayRecords", "Batch", "DataRecords", "DatumRecords", "ImageRecords", "Records"]


class Batch(NamedTuple):
    """Records of one pass.

    Attributes
    ----------
    names : list of str
        Of the records.
    forms : list of mapping
        The net's inputs; several for images whose mirrors are run too. They may have more rows
        than there are names, of records that were seen before.
    """

    names: list[str]
    forms: list[Mapping[str, np.ndarray]]


class Records(Protocol):
    """Records for a net."""

    count: int

    def batches(self, size: int) -> Iterator[Batch]:
        """Yield all records once, `size` at a time."""


class _Pictures:
    """What images and LMDB share: decoding ahead, one shape a batch, mirrors."""

    def __init__(
        self, blob: str, form: Preprocessing, with_mirror: bool, workers: int | None
    ) -> None:
        self._blob, self._form, self._with_mirror = blob, form, with_mirror
        self._workers = default_workers() if workers is None else workers

    def _batches(
        self, size: int, jobs: Iterator[Callable[[], tuple[str, str, np.ndarray]]]
    ) -> Iterator[Batch]:
        # Two batches: one is being filled while the net works on another.
        found = ahead(jobs, self._workers, 2 * size + self._workers)
        while part := list(islice(found, size)):
            first = part[0][2].shape
            for _, where, pixels in part:
                if pixels.shape != first:
                    raise SphereFaceError(
                        f"shape {pixels.shape} in a batch with shape {first}",
                        where=where,
                        fix="resize the images to one size, or run them with batch 1",
                    )
            forms = [np.stack([pixels for _, _, pixels in part])]
            if self._with_mirror:
                forms.append(_mirrored(forms[0], self._form.transpose))
            yield Batch([name for name, _, _ in part], [{self._blob: form} for form in forms])


class ImageRecords(_Pictures):
    """Image files; a record's name is the file's, relative to the folder that was given.

    Parameters
    ----------
    files : sequence of ImageFile
        What `list_images` returned.
    blob : str
        The input of the net.
    form : Preprocessing
        What is done to each.
    with_mirror : bool
        Run the mirror of each image too.
    workers : int, optional
        Threads that decode; one a core if not given.
    """

    def __init__(
        self,
        files: Sequence[ImageFile],
        blob: str,
        form: Preprocessing,
        *,
        with_mirror: bool = False,
        workers: int | None = None,
    ) -> None:
        super().__init__(blob, form, with_mirror, workers)
        self._files, self.count = files, len(files)

    def batches(self, size: int) -> Iterator[Batch]:
        """Yield all images once, `size` at a time."""
        return self._batches(size, (partial(self._read, file) for file in self._files))

    def _read(self, file: ImageFile) -> tuple[str, str, np.ndarray]:
        return file.name, file.path, self._form.read(file.path)


class DatumRecords(_Pictures):
    """Datums of an LMDB or a LevelDB, in the order of their keys, which are their names.

    Parameters are those of `ImageRecords`; raw Datums hold BGR, as convert_imageset makes them.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        blob: str,
        form: Preprocessing,
        *,
        with_mirror: bool = False,
        workers: int | None = None,
    ) -> None:
        super().__init__(blob, form, with_mirror, workers)
        self._path = path
        with contextlib.closing(open_records(path)) as file:
            self.count = file.size

    def batches(self, size: int) -> Iterator[Batch]:
        """Yield all records once, `size` at a time."""
        with contextlib.closing(open_records(self._path)) as file:
            yield from self._batches(
                size, (partial(self._read, file, n) for n in range(self.count))
            )

    def _read(self, file: RecordFile | LevelDbFile, index: int) -> tuple[str, str, np.ndarray]:
        where = file.place(index)
        try:
            record = file.record(index)
            if file.damage:
                raise file.damage[0]
            image = datum_image(file.datum(record), self._form.color != "gray")
        except SphereFaceError as error:
            raise error.at(where) from None
        if self._form.color == "rgb" and image.shape[2] == 3:
            image = image[:, :, ::-1]
        pixels = self._form.blob(np.ascontiguousarray(image), where)
        return record.key.decode("utf-8", "surrogateescape"), where, pixels


class ArrayRecords:
    """Rows of arrays that are the net's inputs as they are; their numbers are their names.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        Input name to rows, as many in each; memory maps are read a batch at a time.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        rows = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
        if len(set(rows.values())) != 1:
            listed = ", ".join(f"{name} {count}" for name, count in rows.items())
            raise SphereFaceError(f"rows of {listed}", expected="as many in every array")
        self._arrays, self.count = arrays, next(iter(rows.values()))

    def batches(self, size: int) -> Iterator[Batch]:
        """Yield all rows once, `size` at a time."""
        for begin in range(0, self.count, size):
            end = min(begin + size, self.count)
            part = {
                name: np.array(array[begin:end], np.float32) for name, array in self._arrays.items()
            }
            yield Batch([str(index) for index in range(begin, end)], [part])


class DataRecords:
    """The data of a net's own data layers, in their batches, once; the net's rows are the records.

    A record's name is its line in an ImageData's list, else its number.

    Parameters
    ----------
    sources : Sources
        What `open_net` opened, before a batch was drawn.

    Raises
    ------
    SphereFaceError
        Layers have different numbers of records, or no end (MemoryData).
    """

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        members = list(sources.members.values())
        samples = [source for source in members if isinstance(source, SampleSource)]
        if len(samples) < len(members):
            other = next(source for source in members if source not in samples)
            raise other.error("data that only a program can give", "Data, ImageData or HDF5Data")
        self._first = samples[0]
        self.count = self._first.order.size
        for source in samples:
            if source.order.size != self.count:
                raise source.error(f"{source.order.size} records", f"{self.count}, as in the first")
            source.order.position = 0  # after a rand_skip a shuffled order would repeat records

    def batches(self, size: int) -> Iterator[Batch]:
        """Yield all records once, in batches of the data layers' own size."""
        del size
        order = copy.copy(self._first.order)  # the source's own goes ahead
        done = 0
        while done < self.count:
            indices = order.take().indices[: self.count - done]
            batch = self._sources.next_batch()
            done += len(indices)
            yield Batch([self._first.record_name(i) for i in indices.tolist()], [batch])


def _mirrored(images: np.ndarray, transposed: bool) -> np.ndarray:
    return np.ascontiguousarray(images[:, :, ::-1] if transposed else images[..., ::-1])
