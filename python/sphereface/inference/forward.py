"""A net over all batches of records; the blobs of each with the names of its records."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np

from sphereface.errors import SphereFaceError
from sphereface.file_kinds import HEAD_BYTES, ZIP, file_kind
from sphereface.files import open_regular
from sphereface.inference.predictor import Predictor
from sphereface.inference.records import Batch, Records
from sphereface.progress import Progress

__all__ = [
    "Arrays",
    "Result",
    "image_input",
    "read_arrays",
    "results",
    "run_arrays",
    "run_batches",
    "run_records",
]

Arrays = dict[str, np.ndarray]


class Result(NamedTuple):
    """Blobs of one batch by name, a row for each of its records."""

    names: list[str]
    blobs: Arrays


def image_input(predictor: Predictor) -> tuple[str, tuple[int, int]]:
    """Return the name and the (height, width) of a net's only input, an image.

    Raises
    ------
    SphereFaceError
        The net has other inputs.
    """
    net = predictor.net
    shapes = {name: net.blob_shapes[name] for name in net.inputs}
    if len(shapes) != 1 or any(len(shape) != 4 for shape in shapes.values()):
        inputs = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise SphereFaceError(
            f'net "{net.name}" has the inputs {inputs or "none"}',
            expected="one of shape (N, C, H, W) for images",
            fix="give an .npz file that holds them by name",
        )
    ((name, (_, _, height, width)),) = shapes.items()
    return name, (height, width)


def read_arrays(path: str | os.PathLike[str], predictor: Predictor) -> Arrays:
    """Return a net's inputs from ``.npy`` (its only input) or ``.npz`` (by name).

    An array without the batch axis gets one; that of an ``.npy`` is a memory map.

    Raises
    ------
    SphereFaceError
        The file is no numpy file, or its arrays are not the inputs.
    """
    net = predictor.net
    with open_regular(path, "numpy file") as stream:
        head = stream.read(HEAD_BYTES)
    kind = file_kind(head)
    if kind and "numpy" not in kind.what and kind != ZIP:
        raise SphereFaceError(kind.what, where=os.fspath(path), expected="a numpy file")
    try:
        if head.startswith(b"PK"):
            # A stream of our own: np.load leaves its file open when it is no archive.
            with open_regular(path) as stream, np.load(stream, allow_pickle=False) as archive:
                arrays = dict(archive)
        else:
            arrays = {net.inputs[0]: np.load(path, allow_pickle=False, mmap_mode="r")}
    except Exception as error:  # numpy and zipfile raise whatever a damaged file makes them
        told = str(error)
        if "allow_pickle" in told:  # numpy's guess of any file that it does not know, too
            numpys = head.startswith((b"PK", b"\x93NUMPY"))
            told = "it holds Python objects" if numpys else "it does not begin as one"
        raise SphereFaceError(
            f"not a readable numpy file ({told})",
            where=os.fspath(path),
            expected="arrays of numbers",
        ) from None
    if set(arrays) != set(net.inputs):
        raise SphereFaceError(
            f"arrays {', '.join(sorted(arrays))}",
            where=os.fspath(path),
            expected=f"the inputs of the net: {', '.join(net.inputs)}",
        )
    for name, array in arrays.items():
        if array.dtype.kind not in "fiub":
            raise SphereFaceError(
                f'array "{name}" of {array.dtype}', where=os.fspath(path), expected="numbers"
            )
        if len(net.blob_shapes[name]) - array.ndim == 1:
            arrays[name] = array[None]
    return arrays


def results(
    predictor: Predictor, records: Records, blobs: Sequence[str] = (), *, batch: int = 16
) -> Iterator[Result]:
    """Yield the blobs of each batch of `records`.

    Parameters
    ----------
    predictor : Predictor
        The net.
    records : Records
        What it is run over.
    blobs : sequence of str
        Blobs wanted; without any, the net's outputs.
    batch : int
        Records at a time.

    Raises
    ------
    SphereFaceError
        A record is bad, or a blob has no row for each record.
    """
    wanted = tuple(blobs) or predictor.net.outputs
    many = records.count > batch
    with Progress(records.count, "running") if many else nullcontext() as progress:
        for part in records.batches(batch):
            yield Result(part.names, _blobs(predictor, part, blobs, wanted, many))
            if progress is not None:
                progress.update(len(part.names))


def run_records(
    predictor: Predictor, records: Records, blobs: Sequence[str] = (), *, batch: int = 16
) -> tuple[list[str], Arrays]:
    """Return the names of all records, and each blob with a row for each; see `results`.

    Raises
    ------
    SphereFaceError
        As `results`; or rows have different shapes.
    """
    names: list[str] = []
    parts: dict[str, list[np.ndarray]] = {}
    for result in results(predictor, records, blobs, batch=batch):
        names += result.names
        for name, array in result.blobs.items():
            parts.setdefault(name, []).append(array)
    return names, {name: _rows(name, part) for name, part in parts.items()}


def run_batches(
    predictor: Predictor,
    next_batch: Callable[[], Mapping[str, Any]],
    count: int,
    blobs: Sequence[str] = (),
) -> Arrays:
    """Return blobs of `count` batches of a source's, a row for each sample.

    Parameters
    ----------
    predictor : Predictor
        Of a net with data layers.
    next_batch : callable
        Returns every input of the net by name: `BatchSource.next_batch`.
    count : int
        Batches to run.
    blobs : sequence of str
        Blobs wanted; the net's outputs if empty.

    Raises
    ------
    SphereFaceError
        As `next_batch`; or a blob is one number for a whole batch, and there are several.
    """
    wanted = tuple(blobs) or predictor.net.outputs
    parts: dict[str, list[np.ndarray]] = {}
    with Progress(count, "running") if count > 1 else nullcontext() as progress:
        for _ in range(count):
            inputs = next_batch()
            part = Batch([""] * len(next(iter(inputs.values()))), [inputs])
            for name, array in _blobs(predictor, part, blobs, wanted, count > 1).items():
                parts.setdefault(name, []).append(array)
            if progress is not None:
                progress.update()
    return {name: _rows(name, part) for name, part in parts.items()}


def run_arrays(
    predictor: Predictor, arrays: Mapping[str, np.ndarray], blobs: Sequence[str] = ()
) -> Arrays:
    """Return blobs of a net for arrays in one pass; inputs may have different numbers of rows."""
    given = {name: np.array(array, np.float32) for name, array in arrays.items()}
    found = predictor(given, blobs)
    return {name: found[name].numpy() for name in tuple(blobs) or predictor.net.outputs}


def _blobs(
    predictor: Predictor, part: Batch, blobs: Sequence[str], wanted: Sequence[str], many: bool
) -> Arrays:
    found = [predictor(inputs, blobs) for inputs in part.forms]
    joined = {}
    for name in wanted:
        arrays = [result[name].numpy() for result in found]
        rows = len(next(iter(part.forms[0].values())))
        if arrays[0].ndim and len(arrays[0]) == rows:
            arrays = [array[: len(part.names)] for array in arrays]
        elif many or len(arrays) > 1 or rows > len(part.names):
            raise SphereFaceError(
                f'blob "{name}" of shape {arrays[0].shape} has no row for each of {rows} records',
                expected="a blob with a row for each input",
                fix="run one batch, without mirror images",
            )
        joined[name] = arrays[0] if len(arrays) == 1 else _joined(arrays)
    return joined


def _joined(found: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate(found, axis=1 if found[0].ndim > 1 else 0)


def _rows(name: str, parts: Sequence[np.ndarray]) -> np.ndarray:
    if len(parts) == 1:
        return parts[0]
    if len({part.shape[1:] for part in parts}) > 1:
        shapes = ", ".join(str(shape) for shape in sorted({part.shape[1:] for part in parts}))
        raise SphereFaceError(
            f'blob "{name}" has different shapes for different images: {shapes}',
            fix="resize the images to one size, or run them one by one",
        )
    return np.concatenate(parts)
