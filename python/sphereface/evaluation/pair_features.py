"""Pairs with their features: pairs.npz and the original's pairs.mat, in and out.

Source: SphereFace's test/code: ``pairs``, a struct array with the fields fileL, fileR, fold, flag
(1 or -1), featureL and featureR, written by Matlab as v5, or as v7.3, which is HDF5.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sphereface.errors import SphereFaceError
from sphereface.evaluation.features import Features, read_arrays
from sphereface.evaluation.pair_lists import PairList
from sphereface.extras import require
from sphereface.files import atomic_path, open_regular
from sphereface.mat_file import read_mat

__all__ = ["PairFeatures", "look_up", "read_pair_features", "write_pairs_mat", "write_pairs_npz"]

_FIELDS = ("fileL", "fileR", "fold", "flag", "featureL", "featureR")
_HDF5 = b"\x89HDF"


@dataclass(frozen=True)
class PairFeatures:
    """P pairs and the features of both sides.

    Attributes
    ----------
    left, right : ndarray of shape (P, K)
        Rows of missing images are 0.
    same : ndarray of shape (P,), bool
    fold : ndarray of shape (P,), int64
    missing : ndarray of shape (P,), bool
        Pairs with an image that has no features.
    left_name, right_name : list of P str
        The images, where the source names them; else empty.
    missing_names : list of str
        The images without features.
    """

    left: NDArray[Any]
    right: NDArray[Any]
    same: NDArray[np.bool_]
    fold: NDArray[np.int64]
    missing: NDArray[np.bool_]
    left_name: Sequence[str] = ()
    right_name: Sequence[str] = ()
    missing_names: Sequence[str] = ()


def look_up(pairs: PairList, features: Features, fallback: Features | None = None) -> PairFeatures:
    """Take the features of listed pairs.

    Parameters
    ----------
    pairs : PairList
    features : Features
    fallback : Features, optional
        For images that `features` lacks, e.g. of pictures in which no face was found, cut out at
        the centre.

    Raises
    ------
    SphereFaceError
        No listed image is there.
    """
    found = [features.rows(names) for names in (pairs.left, pairs.right)]
    if all((rows < 0).all() for rows in found):
        raise SphereFaceError(
            f'"{pairs.left[0]}" and every other image of the list have no features',
            where=features.where,
            expected=f'names like those of the list; the first here is "{features.path[0]}"',
        )
    left, right = (np.where((rows >= 0)[:, None], features.features[rows], 0) for rows in found)
    absent = [rows < 0 for rows in found]
    listed = (pairs.left, pairs.right)
    if fallback is not None:
        for side, lacking, names in zip((left, right), absent, listed, strict=True):
            rows = fallback.rows(names)
            used = lacking & (rows >= 0)
            side[used] = fallback.features[rows[used]]
            lacking[used] = False
    unseen = {
        name
        for lacking, names in zip(absent, listed, strict=True)
        for name, gone in zip(names, lacking, strict=True)
        if gone
    }
    missing = absent[0] | absent[1]
    return PairFeatures(left, right, pairs.same, pairs.fold, missing, *listed, sorted(unseen))


def read_pair_features(path: str | os.PathLike[str]) -> PairFeatures:
    """Read pairs.npz (``left``, ``right``, ``flag`` +1/-1, ``fold``) or pairs.mat.

    Raises
    ------
    SphereFaceError
        A field is missing, or their shapes do not fit.
    """
    where = os.fspath(path)
    if where.endswith(".mat"):
        return _read_mat(where)
    arrays = read_arrays(path)
    lacking = [name for name in ("left", "right", "flag", "fold") if name not in arrays]
    if lacking:
        raise SphereFaceError(
            f"no {' and no '.join(lacking)} among {', '.join(sorted(arrays)) or 'nothing'}",
            where=where,
            expected="left, right, flag and fold; or path and features with --pairs",
        )
    return _checked(where, arrays["left"], arrays["right"], arrays["flag"], arrays["fold"], (), ())


def write_pairs_npz(path: str | os.PathLike[str], pairs: PairFeatures) -> None:
    """Write `pairs` as ``left``, ``right``, ``flag`` and ``fold``."""
    flag = np.where(pairs.same, 1, -1)
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, left=pairs.left, right=pairs.right, flag=flag, fold=pairs.fold)


def write_pairs_mat(path: str | os.PathLike[str], pairs: PairFeatures) -> None:
    """Write `pairs` as Matlab's v5 struct array with the original's fields, features as columns."""
    records = np.zeros((len(pairs.same), 1), [(name, object) for name in _FIELDS])
    for index in range(len(pairs.same)):
        records[index, 0] = (
            pairs.left_name[index] if pairs.left_name else "",
            pairs.right_name[index] if pairs.right_name else "",
            float(pairs.fold[index]),
            1.0 if pairs.same[index] else -1.0,
            pairs.left[index][:, None],
            pairs.right[index][:, None],
        )
    savemat = require("scipy.io", "evaluation").savemat
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        savemat(stream, {"pairs": records})


def _read_mat(where: str) -> PairFeatures:
    with open_regular(where, "pairs.mat") as stream:
        hdf5 = stream.read(len(_HDF5)) == _HDF5
        stream.seek(512)  # Matlab writes its text header before HDF5's signature
        hdf5 = hdf5 or stream.read(len(_HDF5)) == _HDF5
    columns = _read_v73(where) if hdf5 else _read_v5(where)
    try:
        left, right = (
            np.stack([np.asarray(row).ravel() for row in columns[name]])
            for name in ("featureL", "featureR")
        )
        flag, fold = (
            np.array([np.asarray(value).item() for value in columns[name]])
            for name in ("flag", "fold")
        )
    except ValueError as error:
        raise SphereFaceError(
            f"fields that differ from pair to pair ({error})", where=where
        ) from None
    return _checked(
        where, left, right, flag, fold, *([str(n) for n in columns[f]] for f in _FIELDS[:2])
    )


def _read_v5(where: str) -> dict[str, list[Any]]:
    content = read_mat(where, "evaluation", squeeze=True)
    for value in content.values():
        if isinstance(value, np.ndarray) and set(_FIELDS) <= set(value.dtype.names or ()):
            records = np.atleast_1d(value)
            return {name: list(records[name]) for name in _FIELDS}
    raise _no_pairs(where, [name for name in content if not name.startswith("__")])


def _read_v73(where: str) -> dict[str, list[Any]]:
    h5py = require("h5py", "hdf5")
    try:
        with h5py.File(where, "r", locking=False) as file:
            for group in file.values():
                if isinstance(group, h5py.Group) and set(_FIELDS) <= set(group):
                    return {
                        name: [_v73_value(file[one]) for one in np.ravel(group[name][()])]
                        for name in _FIELDS
                    }
            found = list(file)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise SphereFaceError(f"no readable .mat ({error})", where=where) from None
    raise _no_pairs(where, found)


def _v73_value(dataset: Any) -> Any:
    values = np.ravel(dataset[()])
    if dataset.attrs.get("MATLAB_class") == b"char":
        return "".join(chr(code) for code in values)
    return values


def _no_pairs(where: str, found: Sequence[str]) -> SphereFaceError:
    return SphereFaceError(
        f"holds {', '.join(found) or 'nothing'}",
        where=where,
        expected=f"a struct array with the fields {', '.join(_FIELDS)}",
    )


def _checked(
    where: str,
    left: NDArray[Any],
    right: NDArray[Any],
    flag: NDArray[Any],
    fold: NDArray[Any],
    left_name: Sequence[str],
    right_name: Sequence[str],
) -> PairFeatures:
    flag, fold = np.ravel(flag), np.ravel(fold)
    if left.ndim != 2 or left.shape != right.shape or not len(left) == len(flag) == len(fold):
        raise SphereFaceError(
            f"left {left.shape}, right {right.shape}, flag {flag.shape}, fold {fold.shape}",
            where=where,
            expected="(P, K), (P, K), (P,) and (P,)",
        )
    wrong = np.setdiff1d(flag, [1, 0, -1])
    if wrong.size:
        raise SphereFaceError(f"a flag of {wrong[0]}", where=where, expected="1, or -1 or 0")
    missing = np.zeros(len(flag), bool)
    return PairFeatures(left, right, flag == 1, fold, missing, left_name, right_name)
