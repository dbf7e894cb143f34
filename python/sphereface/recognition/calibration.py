"""From which cosine on two faces are one person's, and where that number comes from."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from sphereface.errors import SphereFaceError
from sphereface.evaluation.far import tar_at_far
from sphereface.files import atomic_path, read_text

__all__ = ["Threshold", "calibrate", "read_calibration", "write_calibration"]

_LIMIT = 1 << 20


@dataclass(frozen=True)
class Threshold:
    """A threshold and its origin.

    Attributes
    ----------
    value : float
        Cosines from it on are one person's.
    origin : str
        What set it, for people to read.
    embedder : str
        `Embedder.identity` that it is for; empty for a number that the user gave.
    far_target, far, tar : float, optional
        The false accept rate that it was set for, and what it did on the pairs that set it.
    genuine, impostors : int
        How many pairs of one person's and of two those were.

    Raises
    ------
    SphereFaceError
        `value` is no finite number: every pair would be two people's, or one's.
    """

    value: float
    origin: str
    embedder: str = ""
    far_target: float | None = None
    far: float | None = None
    tar: float | None = None
    genuine: int = 0
    impostors: int = 0

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise SphereFaceError(f"threshold {self.value}", expected="a finite number")

    def __str__(self) -> str:
        return f"{self.value:.4f} ({self.origin})"

    def check(self, embedder: str) -> None:
        """Refuse a calibration of another net.

        Raises
        ------
        SphereFaceError
            It was made for another one than `embedder`.
        """
        if self.embedder and self.embedder != embedder:
            raise SphereFaceError(
                f"a threshold of another model ({self.origin})",
                where="calibration",
                expected=f"one of model {embedder}",
                fix="calibrate with this model",
            )


def calibrate(
    scores: ArrayLike, same: ArrayLike, far: float, *, embedder: str, source: str
) -> Threshold:
    """Return the smallest threshold whose false accept rate on pairs does not exceed `far`.

    Parameters
    ----------
    scores : array of shape (P,)
        Cosines of pairs.
    same : array of shape (P,), bool
        Whether a pair is one person's.
    far : float
        The rate asked for, more than 0 and less than 1.
    embedder : str
        `Embedder.identity` of what made the scores.
    source : str
        Where the pairs come from.

    Raises
    ------
    SphereFaceError
        Too few pairs of different people to measure that rate: at least 1 / far are needed.
    """
    scores, same = np.asarray(scores, np.float64), np.asarray(same, bool)
    if not 0 < far < 1:
        raise SphereFaceError(
            f"a false accept rate of {far:g}", expected="more than 0, less than 1"
        )
    point = tar_at_far(scores[same], scores[~same], [far], rule="strict")[0]
    if not point.measurable or point.threshold is None or not np.isfinite(point.threshold):
        raise SphereFaceError(
            f"{point.impostors} pairs of different people",
            where=source,
            expected=f"{int(np.ceil(1 / far))} or more, to measure a false accept rate of {far:g}",
            fix="give more people, or a larger --far",
        )
    rough = ", roughly: fewer than 30 false accepts are expected" if point.few else ""
    origin = (
        f"calibrated on {source} for a false accept rate of {far:g}: accepts "
        f"{100 * (point.tar or 0):.1f} % of {point.genuine} pairs of one person{rough}"
    )
    return Threshold(
        float(point.threshold), origin, embedder, far, point.far, point.tar, point.genuine,
        point.impostors,
    )  # fmt: skip


def write_calibration(path: str | os.PathLike[str], threshold: Threshold) -> None:
    """Write a threshold as JSON."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(asdict(threshold), indent=2) + "\n", "utf-8")


def read_calibration(path: str | os.PathLike[str]) -> Threshold:
    """Read what `write_calibration` wrote.

    Raises
    ------
    SphereFaceError
        It is no calibration.
    """
    where, text = os.fspath(path), read_text(Path(path), limit=_LIMIT, what="calibration")
    try:
        threshold = Threshold(**json.loads(text))
        if not isinstance(threshold.value, float) or not isinstance(threshold.origin, str):
            raise TypeError("value and origin")
    except (ValueError, TypeError, RecursionError) as error:
        raise SphereFaceError(
            f"no calibration ({error})", where=where, expected="what `sphereface calibrate` writes"
        ) from None
    return threshold
