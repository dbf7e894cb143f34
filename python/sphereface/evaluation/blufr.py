"""BLUFR: ten trials over all of LFW, verification at FAR 0.1 % and open-set identification.

Source: Liao, Lei, Yi and Li, "A benchmark study of large-scale unconstrained face recognition",
IJCB 2014, and its config file. Each trial has its own people to learn from (for a PCA) and 9,708
images to test on: all their pairs are scored, then a gallery of one image a person against probes
of whom some are in no gallery. Thresholds are the impostor of rank round(FAR N). A figure is
reported as the mean *less* the standard deviation over the trials.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sphereface.errors import SphereFaceError
from sphereface.evaluation.all_pairs import Scorer, all_pairs
from sphereface.evaluation.identification import search, tpir_at_fpir
from sphereface.evaluation.tables import Table, percent
from sphereface.extras import require
from sphereface.mat_file import read_mat

__all__ = ["Blufr", "BlufrConfig", "blufr", "read_blufr_config"]

_FIELDS = ("labels", "trainIndex", "testIndex", "galIndex", "probIndex")


@dataclass(frozen=True)
class BlufrConfig:
    """Index sets, from 0.

    Attributes
    ----------
    label : ndarray of shape (S,)
        Who is in each of LFW's images, in the order of `images`.
    images : list of S str
        Empty where the file does not name them: features are then in the file's order.
    train, test, gallery, probe : list of ndarray, int64
        Images of each trial.
    """

    label: NDArray[Any]
    images: list[str]
    train: list[NDArray[np.int64]]
    test: list[NDArray[np.int64]]
    gallery: list[NDArray[np.int64]]
    probe: list[NDArray[np.int64]]


@dataclass(frozen=True)
class Blufr:
    """A figure a trial.

    Attributes
    ----------
    far, fpir : float
    vr : ndarray of shape (T,), float64
        Verification rate at `far`.
    dir : ndarray of shape (T,), float64
        Detection and identification rate at rank 1 and `fpir`.
    """

    far: float
    fpir: float
    vr: NDArray[np.float64]
    dir: NDArray[np.float64]

    def to_dict(self) -> dict[str, Any]:
        """Return everything for JSON."""
        return {
            "far": self.far,
            "fpir": self.fpir,
            "vr": self.vr.tolist(),
            "dir": self.dir.tolist(),
            "vr_mean_minus_std": _reported(self.vr),
            "dir_mean_minus_std": _reported(self.dir),
        }

    def tables(self) -> list[Table]:
        """Return both figures by trial, and as they are reported."""
        rows = [
            [str(i), percent(vr), percent(found)]
            for i, (vr, found) in enumerate(zip(self.vr, self.dir, strict=True), 1)
        ]
        footer = ["mean - std", percent(_reported(self.vr)), percent(_reported(self.dir))]
        header = ["trial", f"VR@FAR {self.far:g}", f"DIR@rank 1, FAR {self.fpir:g}"]
        return [Table("BLUFR", header, rows, footer)]


def blufr(
    features: ArrayLike,
    config: BlufrConfig,
    components: int | None = None,
    far: float = 1e-3,
    fpir: float = 1e-2,
    scorer: Scorer | None = None,
    advance: Callable[[int], object] = lambda trials: None,
) -> Blufr:
    """Run all trials by cosine.

    Parameters
    ----------
    features : array_like of shape (S, K)
        In the order of the config's images.
    config : BlufrConfig
    components : int, optional
        Reduce by a PCA fitted on the trial's own training images.
    far, fpir : float
        Where to read the curves.
    scorer : callable, optional
        As in `sphereface.evaluation.all_pairs`.
    advance : callable
        Told 1 after each trial.

    Returns
    -------
    Blufr
    """
    rows = np.asarray(features, np.float32)
    if rows.ndim != 2 or len(rows) != len(config.label):
        raise SphereFaceError(
            f"features of shape {rows.shape}",
            where="BLUFR",
            expected=f"one of each of the config's {len(config.label)} images",
        )
    verified, identified = [], []
    for trial in range(len(config.test)):
        kept = _reduced(rows, config.train[trial], components)
        test, gallery, probe = config.test[trial], config.gallery[trial], config.probe[trial]
        label = config.label
        pairs = all_pairs(kept[test], label[test], [far], "blufr", scorer)
        found = search(kept[probe], label[probe], kept[gallery], label[gallery], scorer)
        verified.append(_measured(pairs.points[0].tar, "FAR", far))
        [point] = tpir_at_fpir(found, [fpir], rule="blufr")
        identified.append(_measured(point.tar, "open-set FAR", fpir))
        advance(1)
    return Blufr(far, fpir, np.array(verified), np.array(identified))


def read_blufr_config(path: str | os.PathLike[str]) -> BlufrConfig:
    """Read BLUFR's ``blufr_lfw_config.mat``.

    Raises
    ------
    SphereFaceError
        It is no such file, or its trials or indices do not fit.
    """
    where = os.fspath(path)
    content = read_mat(path, "evaluation", squeeze=True)
    lacking = [name for name in _FIELDS if name not in content]
    if lacking:
        raise SphereFaceError(f"no {', '.join(lacking)}", where=where, expected=", ".join(_FIELDS))
    label = np.ravel(content["labels"])
    images = [str(name) for name in np.ravel(content.get("imageList", []))]
    sets = [_index_sets(content[name], name, len(label), where) for name in _FIELDS[1:]]
    if len({len(one) for one in sets}) != 1:
        raise SphereFaceError(
            f"{', '.join(str(len(one)) for one in sets)} trials",
            where=where,
            expected="as many each",
        )
    return BlufrConfig(label, images, *sets)


def _index_sets(value: Any, name: str, images: int, where: str) -> list[NDArray[np.int64]]:
    """Return 0-based indices a trial, of a cell array of 1-based ones."""
    cells = np.atleast_1d(value)
    trials: Sequence[Any] = list(cells) if cells.dtype == object else [cells]
    sets = [np.ravel(one).astype(np.int64) - 1 for one in trials]
    if any(not len(one) or one.min() < 0 or one.max() >= images for one in sets):
        raise SphereFaceError(
            f"an index of {name} is out of range", where=where, expected=f"1 to {images}"
        )
    return sets


def _reduced(
    rows: NDArray[np.float32], train: NDArray[np.int64], components: int | None
) -> NDArray[np.float32]:
    if components is None:
        return rows
    fitted = rows[train]
    if not 1 <= components <= min(fitted.shape):
        raise SphereFaceError(
            f"{components} components", where="PCA", expected=f"1 to {min(fitted.shape)}"
        )
    pca = require("sklearn.decomposition", "evaluation").PCA
    return pca(components, svd_solver="covariance_eigh").fit(fitted).transform(rows)


def _measured(share: float | None, name: str, target: float) -> float:
    if share is None:
        raise SphereFaceError(
            f"too few impostors for {name} {target:g}", where="BLUFR", expected=f"{1 / target:.0f}"
        )
    return share


def _reported(shares: NDArray[np.float64]) -> float | None:
    return float(shares.mean() - shares.std(ddof=1)) if len(shares) > 1 else None
