"""DetectionEvaluate: which detections of a batch are right, for average precision.

Source: detection_evaluate_layer.cpp of SSD's Caffe fork. What differs: overlaps are those of boxes
in shares of the image with ``name_size_file`` too, where the original adds a pixel to their sides.
The number of rows depends on values: `reshape` promises one detection, torch.compile breaks the
graph here, and torch.export refuses the layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sphereface.caffe.boxes import box_overlap
from sphereface.caffe.graph import exactly
from sphereface.caffe.layer import Shape
from sphereface.caffe.registry import register_layer
from sphereface.caffe.value_loop import ValueLoop

__all__ = ["DetectionEvaluate", "detection_evaluate"]


def right_of_class(
    found: Tensor, truth: Tensor, difficult: Tensor, threshold: float, count_difficult: bool
) -> Tensor:
    """Return whether each box, best first, is right and whether it is wrong, shape (K, 2)."""
    marks = found.new_zeros((len(found), 2))
    if len(truth) == 0:
        marks[:, 1] = 1
        return marks
    overlap, nearest = box_overlap(found[:, None], truth).max(1)
    taken: set[int] = set()
    for row, (share, index) in enumerate(zip(overlap.tolist(), nearest.tolist(), strict=True)):
        if share < threshold:
            marks[row, 1] = 1
        elif count_difficult or not difficult[index]:
            marks[row, int(index in taken)] = 1
            taken.add(index)
    return marks


def detection_evaluate(
    found: Tensor,
    truth: Tensor,
    *,
    classes: int,
    background: int,
    overlap_threshold: float,
    count_difficult: bool,
) -> Tensor:
    """Return a row a class and a row a detection, shape (1, 1, rows, 5)."""
    found, truth = found.reshape(-1, 7), truth.reshape(-1, 8)
    found = found[(found[:, 0] != -1) & (found[:, 1] != -1)]
    rows = []
    for label in range(classes):
        counted = truth[:, 1] == label
        if not count_difficult:
            counted &= truth[:, 7] == 0
        if label != background:
            rows.append(found.new_tensor([[-1, label, int(counted.sum()), -1, -1]]))
    for image in found[:, 0].unique():
        for label in found[found[:, 0] == image, 1].unique():
            mine = found[(found[:, 0] == image) & (found[:, 1] == label)]
            real = truth[(truth[:, 0] == image) & (truth[:, 1] == label)]
            mine = mine[mine[:, 2].argsort(descending=True, stable=True)]
            marks = right_of_class(
                mine[:, 3:], real[:, 3:7], real[:, 7] != 0, overlap_threshold, count_difficult
            )
            rows.append(torch.cat([mine[:, :3], marks], 1))
    return torch.cat(rows)[None, None]


@register_layer("DetectionEvaluate", param="detection_evaluate_param")
class DetectionEvaluate(ValueLoop):
    """Compare detections with true boxes.

    Bottoms: detections (1, 1, N, 7) as DetectionOutput makes them, and true boxes (1, 1, M, 8):
    image, label, number, xmin, ymin, xmax, ymax, difficult. Top (1, 1, rows, 5): for each class but
    the background -1, label, number of true boxes, -1, -1; then for each detection image, label,
    score, 1 if it is right, 1 if it is wrong. A true box makes one detection right, the best that
    overlaps it by ``overlap_threshold``; difficult ones count as neither without
    ``evaluate_difficult_gt``.
    """

    bottoms = exactly(2)
    function = staticmethod(detection_evaluate)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the options."""
        options = self.options
        if options.num_classes < 1:
            raise self.error("num_classes is not given", expected="the number of classes")
        self.classes, self.background = options.num_classes, options.background_label_id
        self.overlap_threshold = options.overlap_threshold
        self.count_difficult = options.evaluate_difficult_gt

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check the rows' lengths; promise one detection."""
        found, truth = bottom_shapes
        if found[-1:] != (7,) or truth[-1:] != (8,):
            raise self.error(
                f"bottoms of shapes {found} and {truth}",
                expected="(1, 1, N, 7) and (1, 1, M, 8)",
            )
        return [(1, 1, self.classes, 5)]
