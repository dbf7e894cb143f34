"""MTCNN's three nets, each from pixels to scores.

Source: det1-3.prototxt of MTCNNv1, which see transposed RGB pictures. What differs: pictures of one
size go through P-Net together, a level beyond a size goes through it in strips, and crops go
through R-Net and O-Net in chunks; none of it changes what a net sees.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sphereface.caffe import Net, load
from sphereface.faces.mtcnn.crops import cut
from sphereface.faces.mtcnn.pyramid import normalised, resample
from sphereface.inference import Predictor
from sphereface.resources import prototxt_path

__all__ = ["Cells", "CropNet", "CropScores", "ProposalNet", "build_net"]

_FEW_PIXELS = 1 << 14
_FACE = 1  # the second class of the softmax
_SEEN, _STRIDE = 12, 2  # what a cell of P-Net sees, and how far apart cells are, in pixels


class Cells(NamedTuple):
    """Cells of P-Net's map over the threshold, rows first.

    x, y : ndarray of shape (K,), 0-based; score : (K,); offsets : (K, 4), of x1, y1, x2, y2.
    """

    x: NDArray[np.intp]
    y: NDArray[np.intp]
    score: NDArray[np.float64]
    offsets: NDArray[np.float64]


class CropScores(NamedTuple):
    """What R-Net or O-Net says of K crops.

    score : ndarray of shape (K,); offsets : (K, 4); landmarks : (K, 10), five x, then five y, in
    widths and heights of the crop, or (K, 0) of a net without.
    """

    score: NDArray[np.float64]
    offsets: NDArray[np.float64]
    landmarks: NDArray[np.float64]


def build_net(name: str, weights: Mapping[str, Sequence[NDArray[Any] | None]]) -> Net:
    """Return a packaged MTCNN net (``"det1"``) with the weights of its layers."""
    net = load(prototxt_path(name))
    net.copy_from(weights)
    return net


class ProposalNet:
    """P-Net over whole pictures.

    Parameters
    ----------
    net : Net
        det1.
    device : str
    strip_pixels : int
        Pixels of a level that are in work at a time, about 100 bytes each.
    """

    def __init__(self, net: Net, device: str, strip_pixels: int) -> None:
        # Packing kernels pays for one size of input; here nearly every pass has another.
        self._predictor = Predictor(net, device=device, pack=False)
        self._strip_pixels = strip_pixels

    def __call__(
        self, images: Sequence[Tensor], height: int, width: int, threshold: float
    ) -> list[Cells]:
        """Return the cells of score at least `threshold`, for every picture.

        Parameters
        ----------
        images : sequence of Tensor of shape (H, W, 3)
            Of one size.
        height, width : int
            Of the level.
        threshold : float
        """
        found: list[list[Cells]] = [[] for _ in images]
        for group, start, stop in self._pieces(len(images), height, width):
            scores, offsets = self._run(images[group], height, width, start, stop)
            for cells, score, offset in zip(found[group], scores, offsets, strict=True):
                y, x = np.nonzero(threshold <= score.T)
                moves = offset[:, x, y].T.astype(float)
                cells.append(Cells(x + start // _STRIDE, y, score[x, y].astype(float), moves))
        return [_joined(cells) for cells in found]

    def halve(self) -> bool:
        """Take half as many pixels at a time; False if they are few already."""
        self._strip_pixels //= 2
        return self._strip_pixels >= _FEW_PIXELS

    def _pieces(self, count: int, height: int, width: int) -> Iterator[tuple[slice, int, int]]:
        together = max(self._strip_pixels // (height * width), 1)
        # A strip is even, so that its ceil pooling has no partial window but the level's own.
        step = max(self._strip_pixels // height // _STRIDE * _STRIDE, _SEEN)
        for first in range(0, count, together):
            for start in range(0, width, step):
                stop = min(start + step + _SEEN - _STRIDE, width)
                if stop - start >= _SEEN - 1 or start == 0:
                    yield slice(first, first + together), start, stop
                if stop == width:
                    break

    def _run(
        self, images: Sequence[Tensor], height: int, width: int, start: int, stop: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        levels = [resample(image, height, width, start, stop) for image in images]
        level = torch.cat(levels) if len(levels) > 1 else levels[0]
        blobs = self._predictor({"data": level})
        return blobs["prob1"][:, _FACE].numpy(), blobs["conv4-2"].numpy()


class CropNet:
    """R-Net or O-Net over crops.

    Parameters
    ----------
    net : Net
        det2 or det3.
    device : str
    chunk : int
        Crops that go through the net at a time.
    offsets, landmarks : str
        Names of the blobs; no landmarks if empty.
    """

    def __init__(
        self, net: Net, device: str, chunk: int, *, offsets: str, landmarks: str = ""
    ) -> None:
        self._predictor = Predictor(net, device=device)
        self._chunk = chunk
        self._offsets, self._landmarks = offsets, landmarks
        self._size = net.blob_shapes["data"][-1]

    def __call__(
        self,
        images: Sequence[NDArray[Any]],
        owners: NDArray[np.intp],
        boxes: NDArray[np.float64],
        *,
        mirrored: bool = False,
    ) -> CropScores:
        """Return the net's opinion of every box.

        Parameters
        ----------
        images : sequence of ndarray of shape (H, W, 3)
        owners : ndarray of shape (K,)
            Index of the picture of each box.
        boxes : ndarray of shape (K, 4)
            In whole 1-based pixels.
        mirrored : bool
            Show the net the left-right mirrored crops.
        """
        parts = []
        whole = boxes.astype(int).tolist()
        for start in range(0, len(boxes), self._chunk):
            chunk = slice(start, start + self._chunk)
            crops = np.empty((len(boxes[chunk]), self._size, self._size, 3), np.float32)
            for out, owner, box in zip(crops, owners[chunk], whole[chunk], strict=True):
                cut(images[owner], box, out)
            pixels = normalised(torch.from_numpy(crops))
            parts.append(self._run(pixels.flip(2) if mirrored else pixels))
        if not parts:
            return CropScores(np.empty(0), np.empty((0, 4)), np.empty((0, 10)))
        return CropScores(
            *(np.concatenate(values).astype(np.float64) for values in zip(*parts, strict=True))
        )

    def halve(self) -> bool:
        """Take half as many crops at a time; False if it is one already."""
        self._chunk = max(self._chunk // 2, 1)
        return self._chunk > 1

    def _run(self, pixels: Tensor) -> tuple[Any, ...]:
        blobs = self._predictor({"data": pixels})
        score = blobs["prob1"][:, _FACE].numpy()
        landmarks = blobs[self._landmarks].numpy() if self._landmarks else np.empty((len(score), 0))
        return score, blobs[self._offsets].numpy(), landmarks


def _joined(strips: list[Cells]) -> Cells:
    if len(strips) == 1:
        return strips[0]
    x, y, score, offsets = (np.concatenate(values) for values in zip(*strips, strict=True))
    order = np.lexsort((x, y))
    return Cells(x[order], y[order], score[order], offsets[order])
