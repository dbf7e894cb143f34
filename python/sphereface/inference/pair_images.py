"""The pictures that a list of verification pairs names, and how well a net tells them apart."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sphereface.errors import SphereFaceError
from sphereface.evaluation import (
    Features,
    FoldResult,
    PairList,
    look_up,
    read_pairs,
    ten_fold,
)
from sphereface.images import ImageFile, Preprocessing, list_images
from sphereface.inference.forward import image_input, run_records
from sphereface.inference.predictor import Predictor
from sphereface.inference.records import ImageRecords

__all__ = ["PairImages", "judge_pairs", "read_pair_images"]


class PairImages(NamedTuple):
    """Pairs, and the files of the pictures that are in them."""

    files: list[ImageFile]
    pairs: PairList


def read_pair_images(path: str | os.PathLike[str], root: str) -> PairImages:
    """Read a list of pairs and find their pictures in the folder `root`.

    A list of one fold (DevTest) is dealt out to ten, because a threshold needs other pairs.

    Raises
    ------
    SphereFaceError
        The list cannot be read, or a picture is not there.
    """
    pairs = read_pairs(path)
    if len(np.unique(pairs.fold)) == 1:
        pairs = PairList(pairs.left, pairs.right, pairs.same, 1 + np.arange(len(pairs.same)) % 10)
    files = list_images([root])
    known = Features([f.name for f in files], np.zeros((len(files), 1), "f4"), root)
    names = list(dict.fromkeys([*pairs.left, *pairs.right]))
    rows = known.rows(names)
    if (rows < 0).any():
        lacking = [name for name, row in zip(names, rows, strict=True) if row < 0]
        raise SphereFaceError(
            f'no image for "{lacking[0]}"'
            + (f" and {len(lacking) - 1} more names" if lacking[1:] else ""),
            where=os.fspath(path),
            expected=f"all of them in {root}",
            fix="give the folder of the aligned crops",
        )
    return PairImages([files[row] for row in np.unique(rows)], pairs)


def judge_pairs(
    predictor: Predictor,
    images: PairImages,
    form: Preprocessing,
    blobs: Sequence[str] = (),
    *,
    with_mirror: bool = False,
    batch: int = 16,
) -> FoldResult:
    """Return the verification accuracy of a net's features on pairs, by SphereFace's protocol.

    Parameters
    ----------
    predictor : Predictor
        Of a net whose only input is an image.
    images : PairImages
    form : Preprocessing
        What is done to each picture.
    blobs : sequence of str
        The features; several are joined. Without any, the net's only output.
    with_mirror : bool
        Join the features of each picture and of its mirror.
    batch : int
        Pictures at a time.

    Raises
    ------
    SphereFaceError
        The net has other inputs, or several outputs and no blob is named.
    """
    wanted = tuple(blobs) or predictor.net.outputs
    if len(wanted) != 1 and not blobs:
        raise SphereFaceError(
            f'net "{predictor.net.name}" has the outputs {", ".join(wanted) or "none"}',
            expected="one, the features",
            fix="name the blob",
        )
    records = ImageRecords(images.files, image_input(predictor)[0], form, with_mirror=with_mirror)
    names, found = run_records(predictor, records, blobs, batch=batch)
    rows = np.concatenate([found[name].reshape(len(names), -1) for name in wanted], axis=1)
    pairs = look_up(images.pairs, Features(names, rows, "the pictures"))
    return ten_fold(pairs.left, pairs.right, pairs.same, pairs.fold)
