"""Yolov3: the loss of a map that YOLO's anchors predict.

Source: yolov3_layer.cpp of MobileNet-YOLO's Caffe fork (Redmon and Farhadi, 2018). The gradient is
the original's and not that of the loss: the loss is the sum of squares of what the original passes
back. What differs: an overlap that rounding makes more than 1 is nothing special.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log, prod

import torch
from torch import Tensor

from sphereface.caffe.anchors import anchor_maps, anchored_boxes
from sphereface.caffe.boxes import box_overlap
from sphereface.caffe.layer import Shape
from sphereface.caffe.loss_layer import LossLayer
from sphereface.caffe.registry import register_layer
from sphereface.caffe.value_loop import uncompiled

__all__ = ["Yolov3"]

_ROWS = 300


def _corners(center: Tensor) -> Tensor:
    half = center[..., 2:] / 2
    return torch.cat([center[..., :2] - half, center[..., :2] + half], -1)


@register_layer("Yolov3", param="yolov3_param")
class Yolov3(LossLayer):
    """Sum over the map of squared differences, over the images.

    Bottoms: a map (N, num (5 + num_class), S, S), and true boxes (N, 300, 5): class, x, y, width
    and height in shares of the image, ended by a row of zeros; they get no gradient. Where no true
    box overlaps the prediction by more than ``thresh`` the object shall be absent. Each true box
    belongs to the cell of its centre and to the anchor of ``biases`` whose shape is nearest, if
    ``mask`` has it: there differences of the box count ``coord_scale`` (2 - area), of the classes
    ``class_scale``, and the object shall be present. ``use_logic_gradient`` passes the gradient
    through the sigmoids, and counts present objects ``object_scale``.
    """

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read anchors and weights."""
        super().setup(bottom_shapes)
        options = self.options
        self.sizes = list(zip(options.biases[::2], options.biases[1::2], strict=False))
        self.mask, self.classes = list(options.mask), options.num_class
        if len(options.biases) % 2 or len(self.mask) != options.num or not self.mask or (
            max(self.mask) >= len(self.sizes)
        ):  # fmt: skip
            raise self.error(
                f"{len(options.biases)} biases, mask {self.mask}, num {options.num}",
                expected="num anchors in mask, width and height of each in biases",
            )
        self.scale, self.thresh = options.anchors_scale, options.thresh
        self.coord_scale, self.class_scale = options.coord_scale, options.class_scale
        self.logic: bool = options.use_logic_gradient
        object_scale = options.object_scale
        self.object_scale = object_scale if self.logic else 1.0

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check the map and the number of true boxes."""
        shape, truth = bottom_shapes
        channels = len(self.mask) * (5 + self.classes)
        if len(shape) != 4 or shape[1] != channels or shape[2] != shape[3]:
            raise self.error(f"a map of shape {shape}", expected=f"(N, {channels}, S, S)")
        if prod(truth[1:]) != _ROWS * 5:
            raise self.error(
                f"true boxes of shape {truth}", expected=f"{_ROWS} rows of 5 values an image"
            )
        return super().reshape(bottom_shapes)

    def forward(self, x: Tensor, truth: Tensor) -> Tensor:
        """Return the loss."""
        with torch.no_grad():
            delta, found = uncompiled(self, self._delta)(x.detach(), truth.detach())
            passed = delta
            if self.logic:
                slope = found * (1 - found)
                slope[:, :, 2:4] = 1
                passed = delta * slope
        nothing = (passed.reshape(x.shape) * (x - x.detach())).sum()  # but its gradient is `passed`
        return (delta.square().sum() + nothing) / len(x)

    def _delta(self, x: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        """Return the differences and the map after its sigmoids, (N, num, 5 + classes, S, S)."""
        found = anchor_maps(x, len(self.mask), self.classes)
        chosen = [self.sizes[place] for place in self.mask]
        boxes = _corners(anchored_boxes(found, chosen, self.scale).movedim(2, -1))
        delta = torch.zeros_like(found)
        delta[:, :, 4] = found[:, :, 4]
        for image, rows in enumerate(truth.reshape(len(x), _ROWS, 5)):
            seen = (
                rows[: int((rows[:, 1] == 0).int().argmax())] if (rows[:, 1] == 0).any() else rows
            )
            if len(seen):
                overlap = box_overlap(boxes[image][..., None, :], _corners(seen[:, 1:])).amax(-1)
                delta[image, :, 4].masked_fill_(overlap > self.thresh, 0)
            for label, *box in rows.tolist():
                if not box[2]:
                    break
                self._assign(delta[image], found[image], int(label), box)
        return delta, found

    def _assign(self, delta: Tensor, found: Tensor, label: int, box: list[float]) -> None:
        """Write the differences of a true box at its cell and anchor."""
        x, y, w, h = box
        side = found.shape[-1]
        pixels = side * self.scale
        shapes = [_shape_overlap(w, h, a / pixels, b / pixels) for a, b in self.sizes]
        best = max(range(len(shapes)), key=shapes.__getitem__)
        if best not in self.mask or shapes[best] <= 0:
            return
        anchor, row, column = self.mask.index(best), int(y * side), int(x * side)
        if not (0 <= row < side and 0 <= column < side):
            raise self.error(f"a true box at {x:g}, {y:g}", expected="a centre in the image")
        mine, value = delta[anchor, :, row, column], found[anchor, :, row, column]
        width, height = self.sizes[best]
        target = [
            x * side - column,
            y * side - row,
            log(w * pixels / width),
            log(h * pixels / height),
        ]
        mine[:4] = self.coord_scale * (2 - w * h) * (value[:4] - value.new_tensor(target))
        mine[4] = self.object_scale * (value[4] - 1)
        if mine[5] != 0:  # another true box was here: the original adds its class alone
            mine[5 + label] = 1 - value[5 + label]
            return
        mine[5:] = self.class_scale * value[5:]
        mine[5 + label] = self.class_scale * (value[5 + label] - 1)


def _shape_overlap(w: float, h: float, width: float, height: float) -> float:
    common = min(w, width) * min(h, height)
    return common / (w * h + width * height - common)
