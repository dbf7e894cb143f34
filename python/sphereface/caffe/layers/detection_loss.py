"""DetectionLoss: YOLO's loss of 2015, of cells that find objects, their classes and boxes.

Source: detection_loss_layer.cpp of the caffe-yolo forks (Redmon et al., CVPR 2016, section 2.2). As
there the value divides by the objects, and the gradient, that of half the squares, by the images;
and the gradient of the best box's presence is towards its overlap, not 1. What differs: where a
batch has no object the losses of objects are 0, there not a number.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from sphereface.caffe.indices import indices_below
from sphereface.caffe.layer import Shape
from sphereface.caffe.loss_layer import LossLayer
from sphereface.caffe.registry import register_layer

__all__ = ["DetectionLoss"]

_FARTHEST = 20.0


def _overlap(box: Tensor, truth: Tensor) -> Tensor:
    """Return intersection over union of centres and sizes on axis 1."""
    near = torch.maximum(box[:, :2] - box[:, 2:] / 2, truth[:, :2] - truth[:, 2:] / 2)
    far = torch.minimum(box[:, :2] + box[:, 2:] / 2, truth[:, :2] + truth[:, 2:] / 2)
    size = far - near
    common = size.prod(1)
    union = box[:, 2:].prod(1) + truth[:, 2:].prod(1) - common
    return torch.where((size < 0).any(1), 0, common / union)


@register_layer("DetectionLoss", param="detection_loss_param")
class DetectionLoss(LossLayer):
    """Squared errors of classes, presences and boxes of ``side`` x ``side`` cells.

    Bottoms, of any shape with N first: predictions, the maps of ``num_class`` classes, of
    ``num_object`` presences, and of x, y, width and height of each; labels, of all cells whether
    they are difficult, have an object, and its class, and x, y, width and height of a cell after
    the other, in shares of the image. With ``constriant`` x and y of predictions are in cells, from
    the cell's corner, and with ``sqrt`` sizes are roots. The box that overlaps the object most, or
    else is nearest, answers for it.
    """

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the sizes and weights."""
        super().setup(bottom_shapes)
        options = self.options
        self.side, self.classes = options.side, options.num_class
        self.objects = options.num_object
        if min(self.side, self.classes, self.objects) < 1:
            raise self.error("side, num_class or num_object 0", expected="at least 1")
        self.roots, self.in_cells = options.sqrt, options.constriant
        self.object_scale, self.noobject_scale = options.object_scale, options.noobject_scale
        self.class_scale, self.coord_scale = options.class_scale, options.coord_scale

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check how many values there are."""
        found, label = bottom_shapes
        values = self.side**2 * (self.classes + 5 * self.objects)
        if prod(found[1:]) != values or prod(label[1:]) != 7 * self.side**2:
            raise self.error(
                f"bottoms of shapes {found} and {label}",
                expected=f"(N, {values}) and (N, {7 * self.side**2})",
            )
        return super().reshape(bottom_shapes)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """Return the loss."""
        cells = self.side**2
        parts = [self.classes, self.objects, 4 * self.objects]
        scores, presence, boxes = x.reshape(len(x), -1, cells).split(parts, 1)
        boxes = boxes.unflatten(1, (self.objects, 4)).permute(0, 3, 1, 2)  # (N, cells, B, 4)
        given = label.detach().reshape(len(x), 7, cells)
        there = given[:, 1] != 0
        kind = indices_below(self, torch.where(there, given[:, 2], 0), self.classes, "label")
        # Boxes of no object may be anything; of a negative size the root is not a number.
        truth = given[:, 3:].reshape(len(x), cells, 4)
        truth = torch.where(there[..., None], truth, 0)
        best, overlap = self._best(boxes.detach(), truth)
        wanted = torch.nn.functional.one_hot(kind, self.classes).transpose(1, 2).to(x.dtype)
        own = there[:, :, None] & (torch.arange(self.objects, device=x.device) == best[..., None])
        own = own.transpose(1, 2)  # (N, B, cells)
        # Sums of squares, each with its weight.
        kinds = self.class_scale * ((scores - wanted).square() * there[:, None]).sum()
        absent = self.noobject_scale * (presence.square() * ~own).sum()
        chosen = boxes.gather(2, best[..., None, None].expand(-1, -1, 1, 4))[:, :, 0]
        off = (chosen - self._target(truth)).square().sum(2)
        places = self.coord_scale * torch.where(there, off, 0).sum()

        def present(target: Tensor | float) -> Tensor:
            weighed: Tensor = self.object_scale * ((presence - target).square() * own).sum()
            return weighed

        count = there.sum()
        value = (kinds + places + present(1.0)).detach() / count.clamp(min=1)
        empty = (cells * self.objects * len(x) - count).clamp(min=1)
        value = value + absent.detach() / empty
        slope = (kinds + places + absent + present(overlap[:, None])) / (2 * len(x))
        return value + (slope - slope.detach())

    def _corner(self, like: Tensor) -> Tensor:
        """Return column and row of each cell, (cells, 2)."""
        place = torch.arange(self.side**2, device=like.device)
        column, row = place % self.side, place.div(self.side, rounding_mode="floor")
        return torch.stack([column, row], 1).to(like.dtype)

    def _best(self, boxes: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        """Return which box answers in each cell (N, cells), and its overlap."""
        center, size = boxes.split([2, 2], 3)
        if self.in_cells:
            center = (self._corner(boxes)[:, None] + center) / self.side
        box = torch.cat([center, size.square() if self.roots else size], 3)
        wanted = truth[:, :, None].expand_as(box)
        overlap = _overlap(box.reshape(-1, 4), wanted.reshape(-1, 4)).reshape(box.shape[:3])
        overlap = torch.where(overlap > 0, overlap, 0)
        distance = (box - wanted).square().sum(3).sqrt().clamp(max=_FARTHEST)
        most = overlap.amax(2)
        first = torch.where(
            (most > 0)[..., None],
            overlap == most[..., None],
            distance == distance.amin(2, keepdim=True),
        )
        return first.to(torch.uint8).argmax(2), most

    def _target(self, truth: Tensor) -> Tensor:
        """Return the boxes as predictions have them."""
        center, size = truth.split([2, 2], 2)
        if self.in_cells:
            center = center * self.side - self._corner(truth)
        return torch.cat([center, size.sqrt() if self.roots else size], 2)
