"""HDF5Data: rows of datasets in HDF5 files, a dataset a top.

Source: Caffe's hdf5_data_layer.cpp. What differs: files are read by background threads. As in Caffe
`shuffle` shuffles the files and the rows inside each, and one file at a time is in memory (two, in
a batch that has rows of both). h5py is an extra.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sphereface.data.order import SampleOrder, Samples, shuffled
from sphereface.data.source import Batch, LoadOptions, SampleSource, digest
from sphereface.errors import SphereFaceError
from sphereface.extras import require
from sphereface.files import read_text

__all__ = ["HDF5Data"]

_MAX_LIST = 1 << 24


class HDF5Data(SampleSource):
    """Reader of an HDF5Data layer.

    Parameters
    ----------
    layer_param : LayerParameter
        With ``hdf5_data_param``; a ``transform_param`` is an error, as in Caffe.
    options : LoadOptions
    where : str
        Place for errors.

    Attributes
    ----------
    files : list of str
        The names in the list file.

    Raises
    ------
    SphereFaceError
        A file is missing or damaged, or its datasets do not fit each other or the other files'.
    """

    def __init__(self, layer_param: Any, options: LoadOptions, where: str = "") -> None:
        super().__init__(layer_param, options, where)
        if layer_param.HasField("transform_param"):
            raise self.error("transform_param", "none: HDF5Data does not transform data")
        param = layer_param.hdf5_data_param
        self.label_top = "label" if "label" in self.tops else None
        self.files = self._read_list(param.source)
        self._shapes: list[tuple[int, ...]] = []
        rows = [self._check(name) for name in self.files]
        self._begins = np.concatenate([[0], np.cumsum(rows)])
        self._lock = threading.Lock()
        self._loaded: dict[int, list[NDArray[np.float32]]] = {}
        self._start(int(sum(rows)), param.batch_size, shuffle=param.shuffle, rand_skip=0)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of a batch."""
        return {
            name: (self.batch_size, *shape)
            for name, shape in zip(self.tops, self._shapes, strict=True)
        }

    def labels(self) -> Iterator[tuple[int, str]] | None:
        """Yield the values of the top "label" and their places, if there is one of integers."""
        if not self.label_top or np.prod(self._shapes[self.tops.index(self.label_top)]) != 1:
            return None
        return self._labels()

    def _labels(self) -> Iterator[tuple[int, str]]:
        for name in self.files:
            with self._open(name) as file:
                values = np.asarray(file["label"]).reshape(-1)
            for row, value in enumerate(values.tolist()):
                yield int(value), f"{name}: row {row} of label"

    @cached_property
    def content(self) -> str:
        """A hash of the files' names and numbers of rows."""
        rows = np.diff(self._begins).tolist()
        return digest(f"{name} {count}" for name, count in zip(self.files, rows, strict=True))

    def _make_order(self, *args: Any, **kwargs: Any) -> SampleOrder:
        return _FileOrder(self._begins, *args, **kwargs)

    def _load_part(self, batch: Batch, begin: int, samples: Samples, keys: Any) -> None:
        files = np.searchsorted(self._begins, samples.indices, "right") - 1
        for file in np.unique(files).tolist():
            slots = np.flatnonzero(files == file)
            rows = samples.indices[slots] - self._begins[file]
            for name, array in zip(self.tops, self._arrays(file), strict=True):
                batch[name][begin + slots] = array[rows]

    def _arrays(self, file: int) -> list[NDArray[np.float32]]:
        """Return a file's datasets."""
        with self._lock:
            if file not in self._loaded:
                while len(self._loaded) > 1:
                    del self._loaded[next(iter(self._loaded))]
                with self._open(self.files[file]) as opened:
                    self._loaded[file] = [
                        np.asarray(opened[name], np.float32) for name in self.tops
                    ]
            return self._loaded[file]

    def _read_list(self, source: str) -> list[str]:
        try:
            lines = read_text(source, limit=_MAX_LIST, what="list of files").splitlines()
        except SphereFaceError as error:
            fix = error.fix or "paths are relative to the current folder"
            if "HDF5" in error.problem:
                fix = "name it in a text file, a file a line, and give that as source"
            raise error.at(self.where, fix=fix) from None
        files = [line.strip() for line in lines if line.strip()]
        if not files:
            raise SphereFaceError("zero lines", where=f"{self.where}: {source}",
                                  expected="an HDF5 file a line")  # fmt: skip
        return files

    def _check(self, name: str) -> int:
        """Check a file's datasets against the first file's; return its number of rows."""
        with self._open(name) as file:
            found = []
            for top in self.tops:
                dataset = file.get(top)
                if dataset is None or not hasattr(dataset, "shape"):
                    raise self._file_error(name, f'no dataset "{top}"', ", ".join(self.tops))
                if dataset.dtype.kind not in "fiu" or not dataset.shape:
                    raise self._file_error(
                        name, f'dataset "{top}" of {dataset.dtype}', "rows of numbers"
                    )
                found.append(tuple(dataset.shape))
        rows = {shape[0] for shape in found}
        if len(rows) > 1 or 0 in rows:
            raise self._file_error(
                name, f"{', '.join(str(s[0]) for s in found)} rows", "as many in every dataset"
            )
        shapes = [shape[1:] for shape in found]
        if self._shapes and shapes != self._shapes:
            raise self._file_error(name, f"rows of {shapes}", f"{self._shapes}, as in other files")
        self._shapes = shapes
        return int(rows.pop())

    @contextlib.contextmanager
    def _open(self, name: str) -> Iterator[Any]:
        h5py = require("h5py", "hdf5")
        if not Path(name).exists():
            raise self._file_error(name, "no such file", "an HDF5 file")
        try:
            with h5py.File(name, "r", locking=False) as file:
                yield file
        except (OSError, RuntimeError, KeyError) as error:
            text = str(error).split("\n")[0]
            raise self._file_error(name, f"HDF5 cannot read it: {text}", "a whole file") from None

    def _file_error(self, name: str, problem: str, expected: str) -> SphereFaceError:
        return SphereFaceError(problem, where=f"{self.where}: {name}", expected=expected)


class _FileOrder(SampleOrder):
    """Shuffles the files, and the rows inside each."""

    def __init__(self, begins: NDArray[np.int64], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._begins = begins

    def permutation(self, epoch: int) -> NDArray[np.int64]:
        files = shuffled(len(self._begins) - 1, self.seed, epoch)
        return np.concatenate(
            [
                self._begins[f]
                + shuffled(self._begins[f + 1] - self._begins[f], self.seed, epoch, f)
                for f in files.tolist()
            ]
        )
