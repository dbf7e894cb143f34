"""Verification of people while a net trains: what its embeddings are for, not its loss.

Source: SphereFace's protocol (evaluation.m) on the net's embeddings, as often as test nets are run.
Its figures are told as those of one more test net, so that logs, tables and pictures have them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sphereface.caffe.open_net import DataOptions
from sphereface.data import ImageData, Sources
from sphereface.errors import SphereFaceError
from sphereface.evaluation import Features, PairList, area, ten_fold, verification_pairs
from sphereface.evaluation.features import person
from sphereface.images import list_images
from sphereface.inference import read_pair_images
from sphereface.solver.embedding_net import EmbeddingNet
from sphereface.solver.records import IterationRecord, Score, SolverCallback, TestRecord

if TYPE_CHECKING:
    from sphereface.solver.solver import Solver

__all__ = ["Verification", "VerifyOptions"]

_ACCURACY, _AUC = "verification_accuracy", "verification_auc"
_FOLDS, _PER_FOLD = 10, 300
_TIMES = 10  # verifications of a run that neither tests nor snapshots


@dataclass(frozen=True)
class VerifyOptions:
    """Who is verified during a training.

    Attributes
    ----------
    people : str
        A list of pairs (pairs.txt of LFW and others), or a folder PERSON/IMAGE, of which pairs are
        drawn: up to 3000 of one person and as many of two.
    root : str
        Folder of a list's images.
    interval : int
        Iterations between two verifications; 0 for ``test_interval``, else ``snapshot``, else a
        tenth of the run.
    blob : str
        The embedding, if it is not the bottom of a margin layer.
    """

    people: str
    root: str = ""
    interval: int = 0
    blob: str = ""


class Verification(SolverCallback):
    """Tells ``verification_accuracy`` and ``verification_auc`` of people, 0 to 1.

    The accuracy is `sphereface.evaluation.ten_fold`'s, one crop an image; the first is before the
    first step, the last after the last. Listeners hear of them as of a test net behind the
    solver's own.

    Attributes
    ----------
    pairs : PairList
        Those that are verified.
    """

    def __init__(self, options: VerifyOptions, data: DataOptions) -> None:
        if options.interval < 0:
            raise SphereFaceError(
                f"{options.interval} iterations", where="--verify-interval", expected="1 or more"
            )
        self._options, self._data = options, data
        self._paths, self.pairs = _read_people(options)
        self._net: EmbeddingNet | None = None
        self._solver: Solver | None = None
        self._interval = 0

    def columns(self, solver: Solver) -> Sequence[str]:
        """Return the figures' names."""
        return _ACCURACY, _AUC

    def on_solve(self, solver: Solver) -> None:
        """Open the net, and say who is verified."""
        param = solver.param
        self._solver = solver
        self._interval = (
            self._options.interval
            or param.test_interval
            or param.snapshot
            or max(1, param.max_iter // _TIMES)
        )
        self._net = EmbeddingNet(solver.file.train, self._paths, self._options.blob, self._data)
        solver.tell(
            f"Verifying {len(self.pairs.same)} pairs of {len(self._paths)} images by blob "
            f'"{self._net.blob}" every {self._interval} iterations'
        )
        if seen := _trained_people(solver) & {person(path) for path in self._paths}:
            solver.tell(
                f"Warning: {len(seen)} people of {self._options.people} are in the training list "
                f"too, {min(seen)} first: the figures are not of people that the net has not seen"
            )

    def on_forward(self, solver: Solver) -> None:
        """Verify, if it is time."""
        if self._net is not None and solver.iter % self._interval == 0:
            self._verify(solver)

    def on_iteration(self, record: IterationRecord) -> None:
        """Verify after the last iteration."""
        if self._solver is not None and record.iteration + 1 == self._solver.param.max_iter:
            self._verify(self._solver)

    def close(self) -> None:
        """Close the net's data."""
        if self._net is not None:
            self._net.close()

    def _verify(self, solver: Solver) -> None:
        assert self._net is not None
        number = len(solver.test_nets)
        for callback in solver.callbacks:
            callback.on_test_start(solver.iter, number)
        features = Features(
            self._paths, self._net.embed(solver.net, solver.device), self._options.people
        )
        pairs = self.pairs
        left, right = (
            features.features[features.rows(names)] for names in (pairs.left, pairs.right)
        )
        folds = ten_fold(left, right, pairs.same, pairs.fold)
        known = ~np.isnan(folds.scores)
        curve = area(folds.scores[known & pairs.same], folds.scores[known & ~pairs.same])
        scores = [Score(_ACCURACY, folds.mean, 0.0), Score(_AUC, curve.value, 0.0)]
        for callback in solver.callbacks:
            callback.on_test(TestRecord(solver.iter, number, scores))


def _read_people(options: VerifyOptions) -> tuple[list[str], PairList]:
    """Return the images that are needed, and the pairs of their names."""
    if Path(options.people).is_dir():
        return _drawn(options.people)
    images = read_pair_images(options.people, options.root or os.curdir)
    return [file.path for file in images.files], images.pairs


def _drawn(folder: str) -> tuple[list[str], PairList]:
    paths = [file.path for file in list_images([folder])]
    people, label, counts = np.unique(
        [person(path) for path in paths], return_inverse=True, return_counts=True
    )
    genuine = int((counts * (counts - 1)).sum()) // 2
    impostors = len(paths) * (len(paths) - 1) // 2 - genuine
    per_fold = min(_PER_FOLD, genuine // _FOLDS, impostors // _FOLDS)
    if not per_fold:
        raise SphereFaceError(
            f"{len(paths)} images of {len(people)} people make {genuine} pairs of one person and"
            f" {impostors} of two",
            where=folder,
            expected=f"{_FOLDS} of each: a folder for each of several people, of several images",
        )
    pairs = verification_pairs(label, per_fold, _FOLDS)
    left, right = ([paths[i] for i in side.tolist()] for side in (pairs.left, pairs.right))
    used = sorted({*left, *right})
    return used, PairList(left, right, pairs.same, pairs.fold)


def _trained_people(solver: Solver) -> set[str]:
    if not isinstance(solver.source, Sources):
        return set()
    return {
        person(name)
        for member in solver.source.members.values()
        if isinstance(member, ImageData)
        for name in member.list.names
        if "/" in name
    }
