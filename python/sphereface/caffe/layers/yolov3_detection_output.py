"""Yolov3DetectionOutput and YoloDetectionOutput: the boxes of maps that YOLO's anchors predict.

Source: yolov3_detection_output_layer.cpp and yolo_detection_output_layer.cpp of MobileNet-YOLO's
Caffe fork (Redmon and Farhadi, 2018 and, the second, 2017). Suppression is across classes, as
there. What differs: each image of a batch has rows and suppression of its own, where the original
has all of them in image 0; equal scores keep their order. The number of rows depends on values:
`reshape` promises one, torch.compile breaks the graph here, and torch.export refuses the layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sphereface.caffe.anchors import anchor_maps, anchored_boxes
from sphereface.caffe.boxes import unsuppressed
from sphereface.caffe.graph import Arity, at_least
from sphereface.caffe.layer import Shape
from sphereface.caffe.registry import register_layer
from sphereface.caffe.value_loop import ValueLoop

__all__ = [
    "YoloDetectionOutput",
    "Yolov3DetectionOutput",
    "yolo_detection_output",
    "yolov3_detection_output",
]


def best_boxes(center: Tensor, score: Tensor, passing: Tensor, nms_threshold: float) -> Tensor:
    """Return the rows (1, 1, rows, 7) of boxes (N, K, 4) whose classes (N, K, classes) pass."""
    half = center[..., 2:] / 2
    box = torch.cat([center[..., :2] - half, center[..., :2] + half], -1)
    # Suppressed from the threshold on, where `unsuppressed` starts beyond it.
    limit = torch.nextafter(box.new_tensor(nms_threshold), box.new_tensor(-1.0)).item()
    rows = []
    for image, (mine, share, passes) in enumerate(zip(box, score, passing, strict=True)):
        place, label = passes.nonzero(as_tuple=True)
        ranked = share[place, label].sort(descending=True, stable=True)
        place, label = place[ranked.indices], label[ranked.indices]
        candidates = mine[place][None]
        all_of_them = torch.ones_like(candidates[..., 0], dtype=torch.bool)
        kept = unsuppressed(candidates, all_of_them, limit)
        head = torch.stack([label.new_full(label.shape, image), label + 1], 1).to(box.dtype)
        rows.append(torch.cat([head, ranked.values[:, None], candidates[0]], 1)[kept[0]])
    found = torch.cat(rows)
    if len(found):
        return found[None, None]
    number = torch.arange(len(box), device=box.device)[:, None].to(box.dtype)
    return torch.cat([number, number.new_full((len(box), 6), -1)], 1)[None, None]


def cells(values: Tensor) -> Tensor:
    """Return (N, anchors, C, H, W) as (N, H W anchors, C), as the original goes."""
    return values.permute(0, 3, 4, 1, 2).reshape(len(values), -1, values.shape[2])


def yolov3_detection_output(
    *maps: Tensor,
    anchors: tuple[tuple[tuple[float, float], ...], ...],
    scales: tuple[int, ...],
    classes: int,
    confidence_threshold: float,
    nms_threshold: float,
) -> Tensor:
    """Return rows of image, label, score, xmin, ymin, xmax, ymax, shape (1, 1, rows, 7)."""
    boxes, scores = [], []
    for values, sizes, scale in zip(maps, anchors, scales, strict=True):
        found = anchor_maps(values, len(sizes), classes)
        boxes.append(cells(anchored_boxes(found, sizes, scale)))
        scores.append(cells(found[:, :, 5:] * found[:, :, 4:5]))
    score = torch.cat(scores, 1)
    return best_boxes(torch.cat(boxes, 1), score, score > confidence_threshold, nms_threshold)


def yolo_detection_output(
    *maps: Tensor,
    anchors: tuple[tuple[float, float], ...],
    classes: int,
    confidence_threshold: float,
    nms_threshold: float,
) -> Tensor:
    """Return rows of image, label, score, xmin, ymin, xmax, ymax, shape (1, 1, rows, 7)."""
    boxes, scores = [], []
    for values in maps:
        found = anchor_maps(values, len(anchors), classes)
        share = values.unflatten(1, (len(anchors), -1))[:, :, 5:].softmax(2)
        boxes.append(cells(anchored_boxes(found, anchors, 1)))
        scores.append(cells(share * found[:, :, 4:5]))
    score = torch.cat(scores, 1)
    best = torch.zeros_like(score, dtype=torch.bool)
    best.scatter_(
        2, score.argmax(2, keepdim=True), score.amax(2, keepdim=True) >= confidence_threshold
    )
    return best_boxes(torch.cat(boxes, 1), score, best, nms_threshold)


class AnchorBoxes(ValueLoop):
    """Base of both: maps (N, channels, S, S)."""

    bottoms = at_least(1)

    channels: int

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check the maps; promise one row."""
        for shape in bottom_shapes:
            if len(shape) != 4 or shape[1] != self.channels or shape[2] != shape[3]:
                raise self.error(f"a map of shape {shape}", expected=f"(N, {self.channels}, S, S)")
        return [(1, 1, 1, 7)]


@register_layer("Yolov3DetectionOutput", param="yolov3_detection_output_param")
class Yolov3DetectionOutput(AnchorBoxes):
    """The boxes of one or more maps (N, anchors (5 + classes), S, S).

    Top (1, 1, rows, 7): image, label from 1 on, score, xmin, ymin, xmax, ymax in shares of the
    image; of an image without boxes no row, of a batch without any a row of -1 for each image. A
    map has ``num_box`` anchors, those that its part of ``mask`` chooses of ``biases`` (width and
    height in pixels); ``anchors_scale`` are the pixels of a cell of each.
    """

    function = staticmethod(yolov3_detection_output)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read anchors and thresholds."""
        options, maps = self.options, len(bottom_shapes)
        self.classes, count = options.num_classes, options.num_box
        self.channels = count * (5 + self.classes)
        given = f"{len(options.mask)} mask, {len(options.anchors_scale)} anchors_scale"
        if (
            options.mask_group_num != maps
            or len(options.mask) != maps * count
            or len(options.anchors_scale) != maps
        ):
            raise self.error(
                f"mask_group_num {options.mask_group_num}, {given} values for {maps} bottoms",
                expected=f"{maps} groups of {count} values (num_box), an anchors_scale each",
            )
        sizes = tuple(zip(options.biases[::2], options.biases[1::2], strict=False))
        if len(options.biases) % 2 or max(options.mask) >= len(sizes):
            raise self.error(
                f"{len(options.biases)} biases for mask {max(options.mask)}",
                expected="width and height of each anchor that mask chooses",
            )
        chosen = [sizes[place] for place in options.mask]
        self.anchors = tuple(tuple(chosen[i * count : (i + 1) * count]) for i in range(maps))
        self.scales = tuple(options.anchors_scale)
        self.confidence_threshold = options.confidence_threshold
        self.nms_threshold = options.nms_threshold


@register_layer("YoloDetectionOutput", param="yolo_detection_output_param")
class YoloDetectionOutput(AnchorBoxes):
    """The boxes of one or two maps (N, num_box (5 + num_classes), S, S), as YOLO v2 has them.

    Of every cell and anchor the best class of a softmax, from ``confidence_threshold`` on. The
    anchors are in ``biases``, in cells, the same for both maps. Top: as of `Yolov3DetectionOutput`.
    """

    bottoms = Arity(1, 2)
    function = staticmethod(yolo_detection_output)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read anchors and thresholds."""
        options = self.options
        self.classes, count = options.num_classes, options.num_box
        self.channels = count * (5 + self.classes)
        if len(options.biases) < 2 * count or options.coords != 4:
            raise self.error(
                f"{len(options.biases)} biases, coords {options.coords}",
                expected=f"width and height of {count} anchors (num_box), coords 4",
            )
        sizes = zip(options.biases[::2], options.biases[1::2], strict=False)
        self.anchors = tuple(sizes)[:count]
        self.confidence_threshold = options.confidence_threshold
        self.nms_threshold = options.nms_threshold
