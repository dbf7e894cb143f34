"""BoxAnnotatorOHEM: the regions of largest loss, for online hard example mining.

Source: box_annotator_ohem_layer of R-FCN's Caffe fork (Dai et al., NIPS 2016), after
Shrivastava et al., CVPR 2016. What differs: of equal losses the first regions are taken, where the
original's choice is the sort's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sphereface.caffe.graph import exactly
from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = ["BoxAnnotatorOHEM"]


@register_layer("BoxAnnotatorOHEM", param="box_annotator_ohem_param")
class BoxAnnotatorOHEM(Layer):
    """Keep labels and box weights of the ``roi_per_img`` regions of largest loss of each image.

    Bottoms (axes of size 1 at the end may be missing): regions (N, 5, H, W), whose first channel
    is the image; loss (N, 1, H, W); labels (N, 1, H, W); box weights (N, C, H, W). Tops: the
    labels, ``ignore_label`` for the other regions, and the weights, 0 for those. No gradient.
    """

    bottoms = exactly(4)
    tops = exactly(2)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read how many regions are kept."""
        self.roi_per_img = self.options.roi_per_img
        self.ignore_label = self.options.ignore_label
        if self.roi_per_img < 1:
            raise self.error("roi_per_img is 0 or not given", expected="at least 1")

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check that the bottoms tell of the same regions."""
        full = [(*shape, *[1] * (4 - len(shape))) for shape in bottom_shapes]
        batch, _, *image = full[0]
        channels = (5, 1, 1, full[3][1])
        wanted = [(batch, count, *image) for count in channels]
        if full != wanted or len(image) != 2:
            raise self.error(
                f"bottoms of shapes {list(bottom_shapes)}",
                expected="regions (N, 5, H, W), loss and labels (N, 1, H, W), weights (N, C, H, W)",
            )
        return [wanted[2], wanted[3]]

    def forward(
        self, rois: Tensor, loss: Tensor, label: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the labels and weights."""
        batch, image_shape = len(rois), (*rois.shape[2:], 1, 1)[:2]
        order = loss.reshape(-1).argsort(descending=True, stable=True)
        images = rois.reshape(batch, 5, -1)[:, 0].reshape(-1)[order]
        grouped, by_image = images.sort(stable=True)
        rank = torch.arange(len(grouped), device=grouped.device)
        rank = rank - torch.searchsorted(grouped.contiguous(), grouped.contiguous())
        chosen = torch.zeros_like(rank, dtype=torch.bool)
        chosen = chosen.scatter(0, order[by_image], rank < self.roi_per_img)
        chosen = chosen.reshape(batch, 1, *image_shape)
        labels = label.detach().reshape(chosen.shape).where(chosen, self.ignore_label)
        boxes = weights.detach().reshape(batch, -1, *image_shape).where(chosen, 0)
        return labels, boxes
