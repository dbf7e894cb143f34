"""Running a net over many images or arrays, and telling what came out."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sphereface.errors import SphereFaceError
from sphereface.files import atomic_path, open_regular
from sphereface.images import Preprocessing
from sphereface.inference.predictor import Predictor
from sphereface.progress import Progress

__all__ = [
    "blob_text",
    "image_input",
    "read_arrays",
    "run_arrays",
    "run_batches",
    "run_images",
    "save_blobs",
]

Arrays = dict[str, np.ndarray]
_FIRST_VALUES = 8


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


def run_images(
    predictor: Predictor,
    paths: Sequence[str],
    preprocessing: Preprocessing,
    blobs: Sequence[str] = (),
    *,
    batch: int = 16,
    with_mirror: bool = False,
) -> Arrays:
    """Return blobs of a net for image files.

    Parameters
    ----------
    predictor : Predictor
        The net; its only input takes the images.
    paths : sequence of str
        Image files.
    preprocessing : Preprocessing
        What is done to each.
    blobs : sequence of str
        Blobs wanted; without any, the net's outputs.
    batch : int
        Images at a time.
    with_mirror : bool
        Run the mirror of each image too and join each blob's values of both, image first, on the
        second axis: SphereFace's feature of an image.

    Returns
    -------
    dict of str to ndarray
        One row an image.

    Raises
    ------
    SphereFaceError
        An image cannot be read, or several of different sizes share a batch.
    """
    name, _ = image_input(predictor)
    forms = [preprocessing]
    if with_mirror:
        forms.append(replace(preprocessing, mirror=not preprocessing.mirror))

    def load(start: int) -> list[Arrays]:
        files = paths[start : start + batch]
        return [{name: _stack(files, form)} for form in forms]

    return _run(predictor, load, len(paths), batch, blobs)


def run_arrays(
    predictor: Predictor, arrays: Mapping[str, np.ndarray], blobs: Sequence[str], batch: int
) -> Arrays:
    """Return blobs of a net for arrays that are its inputs as they are.

    Inputs that have equally many rows are cut into batches; others are run at once.
    """
    rows = {len(array) if array.ndim else 0 for array in arrays.values()}
    total = rows.pop() if len(rows) == 1 else 0
    if total <= batch:
        return _run(predictor, lambda start: [dict(arrays)], total or 1, total or 1, blobs)
    return _run(
        predictor,
        lambda start: [{name: array[start : start + batch] for name, array in arrays.items()}],
        total,
        batch,
        blobs,
    )


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
    return _run(predictor, lambda _: [dict(next_batch())], count, 1, blobs)


def _run(
    predictor: Predictor,
    load: Callable[[int], list[Arrays]],
    total: int,
    batch: int,
    blobs: Sequence[str],
) -> Arrays:
    wanted = tuple(blobs) or predictor.net.outputs
    parts: dict[str, list[np.ndarray]] = {name: [] for name in wanted}
    with Progress(total, "running") if total > batch else nullcontext() as progress:
        for start in range(0, total, batch):
            results = [predictor(inputs, blobs) for inputs in load(start)]
            for name in wanted:
                found = [result[name].numpy() for result in results]
                if (len(results) > 1 or total > batch) and not found[0].ndim:
                    raise SphereFaceError(
                        f'blob "{name}" is one number for the whole batch',
                        expected="a blob with a row for each input",
                        fix="run one batch, without mirror images",
                    )
                parts[name].append(found[0] if len(found) == 1 else _joined(found))
            if progress is not None:
                progress.update(min(batch, total - start))
    return {name: part[0] if len(part) == 1 else _rows(name, part) for name, part in parts.items()}


def _joined(found: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate(found, axis=1 if found[0].ndim > 1 else 0)


def _rows(name: str, parts: Sequence[np.ndarray]) -> np.ndarray:
    if len({part.shape[1:] for part in parts}) > 1:
        shapes = ", ".join(str(shape) for shape in sorted({part.shape[1:] for part in parts}))
        raise SphereFaceError(
            f'blob "{name}" has different shapes for different images: {shapes}',
            fix="resize the images to one size, or run them one by one",
        )
    return np.concatenate(parts)


def _stack(files: Sequence[str], form: Preprocessing) -> np.ndarray:
    images = [form.read(path) for path in files]
    for path, image in zip(files, images, strict=True):
        if image.shape != images[0].shape:
            raise SphereFaceError(
                f"shape {image.shape} in a batch with shape {images[0].shape}",
                where=path,
                fix="resize the images to one size, or run them with batch 1",
            )
    return np.stack(images)


def read_arrays(path: str | os.PathLike[str], predictor: Predictor) -> Arrays:
    """Return a net's inputs from ``.npy`` (its only input) or ``.npz`` (by name), as float32.

    An array without the batch axis gets one.

    Raises
    ------
    SphereFaceError
        The file is no numpy file, or its arrays are not the inputs.
    """
    net = predictor.net
    try:
        with open_regular(path, "numpy file") as stream:
            loaded = np.load(stream, allow_pickle=False)
            arrays = {net.inputs[0]: loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except SphereFaceError:
        raise
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise SphereFaceError(f"not a numpy file ({error})", where=os.fspath(path)) from None
    if set(arrays) != set(net.inputs):
        raise SphereFaceError(
            f"arrays {', '.join(sorted(arrays))}",
            where=os.fspath(path),
            expected=f"the inputs of the net: {', '.join(net.inputs)}",
        )
    for name, array in arrays.items():
        lacking = len(net.blob_shapes[name]) - array.ndim
        arrays[name] = np.asarray(array[None] if lacking == 1 else array, np.float32)
    return arrays


def check_format(path: str | os.PathLike[str], count: int) -> None:
    """Raise unless `count` blobs can be saved as `path`; for asking before a long run.

    Raises
    ------
    SphereFaceError
        Another suffix, or several blobs for ``.npy``.
    """
    suffix = Path(path).suffix
    if suffix not in (".npy", ".npz") or (suffix == ".npy" and count != 1):
        raise SphereFaceError(
            f"an output for {count} blobs", where=os.fspath(path), expected=".npy for one, or .npz"
        )


def save_blobs(path: str | os.PathLike[str], blobs: Arrays, paths: Sequence[str] = ()) -> None:
    """Write blobs, atomically: one as ``.npy``, or any number by name as ``.npz``.

    An ``.npz`` of images also gets their `paths`, as ``paths``.
    """
    check_format(path, len(blobs))
    with atomic_path(path) as temporary:
        if Path(path).suffix == ".npy":
            np.save(temporary, next(iter(blobs.values())))
        else:
            arrays: dict[str, Any] = {"paths": np.array(paths)} if paths else {}
            arrays.update(blobs)
            np.savez(temporary, **arrays)


def blob_text(name: str, blob: np.ndarray) -> str:
    """Return shape, statistics and first values of a blob in one line."""
    return " ".join(_words(name, blob))


def _words(name: str, blob: np.ndarray) -> Iterator[str]:
    yield f"{name} {blob.shape}"
    if blob.size:
        yield f"min {blob.min():.6g} max {blob.max():.6g}"
        yield f"mean {blob.mean(dtype=np.float64):.6g} std {blob.std(dtype=np.float64):.6g}:"
        yield from (f"{value:.6g}" for value in blob.ravel()[:_FIRST_VALUES])
        if blob.size > _FIRST_VALUES:
            yield "..."
